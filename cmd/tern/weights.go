package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/checkpoint"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/internal/regularfile"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// openWeights reads the model at path: a file or directory of another format, a
// checkpoint, or a run, whose newest sound checkpoint it takes. Those are packed
// on be. The caller closes the weights.
func openWeights(ctx context.Context, be framework.Backend, path string) (*modelfile.Weights, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, errors.WithHint(errors.Wrap(err, "open model"), "name a GGUF file, a run's directory or a checkpoint's, a Hugging Face model's directory or a llama2.c file")
	}
	switch kind := kindOf(path); {
	case kind == "mhc":
		return nil, usagef("name the .gguf file beside it", "%s holds only the parameters of a residual, no model", path)
	case kind == "tokens":
		return nil, tokensError(path)
	case kind != "" || !st.IsDir():
		return modelfile.Open(path)
	}
	dir, err := checkpointIn(path)
	if err != nil {
		return nil, err
	}
	snap, err := checkpoint.Load(dir)
	if err != nil {
		return nil, err
	}
	w, err := weightsOf(ctx, be, snap)
	return w, errors.Wrapf(err, "%s", dir)
}

// kindOf tells files apart: by content as modelfile.Kind does, and "mhc" by its
// first bytes; where these are of no kind, "mhc" and "tokens" by the name. "" is
// none.
func kindOf(path string) string {
	if kind := modelfile.Kind(path); kind != "" {
		return kind
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return ""
	}
	if isMHC(path) || filepath.Ext(path) == ".mhc" {
		return "mhc"
	}
	if filepath.Ext(path) == ".bin" {
		return "tokens"
	}
	return ""
}

// tokensError reports a token file where a model should be.
func tokensError(path string) error {
	return usagef(self()+" data info "+path+" shows it", "%s looks like a token file, and is no model", path)
}

// isMHC reports whether a file begins as .mhc files do.
func isMHC(path string) bool {
	f, _, err := regularfile.Open(path) // a pipe would block
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = io.ReadFull(f, magic[:])
	return err == nil && string(magic[:]) == "!CHm" // 0x6D484321, little-endian
}

// checkpointIn returns the directory of the checkpoint at path or of the
// newest sound one of the run at path.
func checkpointIn(path string) (string, error) {
	if strings.HasPrefix(filepath.Base(filepath.Clean(path)), "step-") {
		return path, nil
	}
	dir, broken, err := checkpoint.Latest(path)
	if errors.Is(err, checkpoint.ErrNotFound) && len(broken) > 0 {
		return "", errors.Wrapf(broken[0].Err, "%s holds no usable checkpoint", path)
	}
	if errors.Is(err, checkpoint.ErrNotFound) {
		return "", errors.WithHint(errors.Wrapf(checkpoint.ErrNotFound, "%s holds no usable checkpoint", path), "name a run's directory, a step-... directory in one, or a GGUF file")
	}
	return dir, err
}

// weightsOf packs the weights of a checkpoint.
func weightsOf(ctx context.Context, be framework.Backend, snap *checkpoint.Snapshot) (w *modelfile.Weights, err error) {
	c, err := parseResolved(snap.Config)
	if err != nil {
		return nil, err
	}
	m, err := model.New(c.Model)
	if err != nil {
		return nil, err
	}
	if err := requirePlugins("the checkpoint", c.Plugins, modelPlugins(c.Model)); err != nil {
		return nil, err
	}
	store, err := be.NewStore()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.CombineErrors(err, store.Close()) }()
	params, err := m.Parameters()
	if err != nil {
		return nil, err
	}
	for _, p := range params {
		t := snap.Tensors[p.Name]
		if t == nil || !t.Shape.Equal(p.Shape) {
			return nil, errors.Wrapf(checkpoint.ErrMismatch, "no parameter %s of shape %v", p.Name, p.Shape)
		}
		if err := store.Put(ctx, p.Name, t); err != nil {
			return nil, err
		}
	}
	if err := pack(ctx, be, m, store); err != nil {
		return nil, err
	}
	if w, err = modelfile.Collect(ctx, m, store); err != nil {
		return nil, err
	}
	w.Info = modelfile.Info{Name: "tern", CreatedBy: buildVersion().String()}
	return w, nil
}

// pack quantizes the weights in a store.
func pack(ctx context.Context, be framework.Backend, m *model.Model, s framework.Store) error {
	g, err := m.Pack()
	if err != nil {
		return errors.Wrap(err, "trace packing")
	}
	exe, err := be.Compile(ctx, g)
	if err != nil {
		return errors.Wrap(err, "compile packing")
	}
	return errors.CombineErrors(exe.Run(ctx, s, nil, nil), exe.Close())
}
