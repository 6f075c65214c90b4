package main

import (
	"path/filepath"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/modelfile"
)

// ggufReport is what tern inspect says of a GGUF file.
type ggufReport struct {
	File      string        `json:"file"`
	Parts     []string      `json:"parts,omitempty"` // where there are several
	Version   uint32        `json:"version"`
	Metadata  gguf.Metadata `json:"metadata"`
	Tensors   []tensorRow   `json:"tensors"`
	Model     *modelTable   `json:"model"`
	CannotRun string        `json:"cannot_run,omitempty"` // why Model is missing

	own bool // tern wrote it
}

// inspectGGUF shows metadata and tensors, and of a model that tern runs its table.
func (a *app) inspectGGUF(path string, asJSON bool) (err error) {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, f.Close()) }()
	r := ggufReport{File: path, Version: f.Version, Metadata: f.Metadata, Tensors: ggufRows(f)}
	if len(f.Parts()) > 1 {
		r.Parts = f.Parts()
	}
	broken, err := r.model(f)
	if err != nil {
		return err
	}
	// What a damaged file says is shown before the error.
	defer func() { err = errors.CombineErrors(err, errors.Wrapf(broken, "%s", path)) }()
	if asJSON {
		r.Metadata = jsonMetadata(r.Metadata)
		return a.json(r)
	}
	return a.printGGUF(r, f)
}

// ggufRows lists the tensors of f.
func ggufRows(f *gguf.File) []tensorRow {
	parts := f.Parts()
	rows := make([]tensorRow, len(f.Tensors))
	for i, t := range f.Tensors {
		rows[i] = tensorRow{Name: t.Name, Type: t.Type.String(), Shape: t.Shape, Bytes: t.Size}
		if len(parts) > 1 {
			rows[i].File = filepath.Base(parts[t.Part])
		}
	}
	return rows
}

// model reads the model in f. broken is what is wrong with a file of tern's own
// architecture; of another program's it becomes CannotRun.
func (r *ggufReport) model(f *gguf.File) (broken, err error) {
	w, broken := modelfile.FromGGUF(f)
	if broken != nil {
		if arch, err := f.Metadata.String("general.architecture"); err == nil && arch == modelfile.Architecture {
			return broken, nil
		}
		r.CannotRun = whyNot(broken)
		return nil, nil
	}
	defer func() { err = errors.CombineErrors(err, w.Close()) }()
	if r.own = w.Tensors != nil; r.own { // others are read when they are needed
		r.Model, err = tableOf(w.Info.Name, w.Model)
		return nil, err
	}
	r.Model, err = foreignTable(r.File, w, r.Tensors, func(name string) string { return name })
	return nil, err
}

func (a *app) printGGUF(r ggufReport, f *gguf.File) error {
	switch {
	case r.own:
		a.printTable(r.Model)
		a.printf("\n")
	case r.Model != nil:
		a.printForeign(r.Model)
		a.printf("\n")
	}
	a.printf("%s: GGUF version %d, %s, tensors aligned to %d\n", r.File, f.Version, size(f.Size), f.Alignment)
	for _, p := range r.Parts {
		a.printf("  part %s\n", p)
	}
	if err := a.printMetadata(r.Metadata); err != nil {
		return err
	}
	a.printf("\n")
	if err := a.printTensors(r.Tensors); err != nil {
		return err
	}
	if r.CannotRun != "" {
		a.printf("\ntern cannot run it: %s\n", r.CannotRun)
	}
	return nil
}
