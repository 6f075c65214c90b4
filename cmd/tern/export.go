package main

import (
	"path/filepath"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/modelfile"
)

// export writes weights to the GGUF file at path and, for a residual that has
// one, a .mhc file beside it, whose path it returns.
func export(w *modelfile.Weights, path string) (mhc string, err error) {
	if err := w.WriteGGUF(path); err != nil {
		return "", errors.Wrap(err, "export")
	}
	if _, ok := w.MHC(); !ok {
		return "", nil
	}
	mhc = strings.TrimSuffix(path, filepath.Ext(path)) + filepath.Ext(mhcFile)
	return mhc, errors.Wrap(w.WriteMHC(mhc), "export")
}
