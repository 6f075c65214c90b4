package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/gguf"
)

// diffHelp says what --diff does.
const diffHelp = "With --diff A B, compares two GGUF files: metadata, and the types, shapes and bytes of tensors. The order of keys and\n" +
	"tensors, padding and how a file is split do not count. Of tensors of one shape it shows the error of B's elements: the\n" +
	"largest absolute difference, and |A-B| / |A|. The exit status is 0 if the files are equal and 1 if they differ\n(1 too, with an error, if they cannot be compared)."

// diffShort is how many characters of a value stand in a column.
const diffShort = 48

// keyDiff is a metadata key that differs; a value is nil where there is none.
type keyDiff struct {
	Key string `json:"key"`
	A   any    `json:"a"`
	B   any    `json:"b"`
}

// sideOf is a tensor in one of two files.
type sideOf struct {
	Type  string `json:"type"`
	Shape []int  `json:"shape"`
}

// String is what a column holds; "-" for no tensor.
func (s *sideOf) String() string {
	if s == nil {
		return "-"
	}
	return fmt.Sprintf("%s %v", s.Type, s.Shape)
}

// tensorDiff is a tensor that differs.
type tensorDiff struct {
	Name  string    `json:"name"`
	A     *sideOf   `json:"a"` // nil where A lacks it
	B     *sideOf   `json:"b"`
	Error *distance `json:"error,omitempty"` // of tensors of one shape
	Note  string    `json:"note,omitempty"`  // why Error is missing
}

// diffReport is what tern inspect --diff says.
type diffReport struct {
	A       string       `json:"a"`
	B       string       `json:"b"`
	Equal   bool         `json:"equal"`
	Keys    []keyDiff    `json:"keys"`
	Tensors []tensorDiff `json:"tensors"`
}

// errDiffer is an answer that ends with the status of a failure: nothing is
// reported beyond what was printed.
var errDiffer = errors.New("the files differ")

// inspectDiff compares two files; errDiffer if they are not the same.
func (c inspectCmd) inspectDiff(ctx context.Context, a *app, pathA, pathB string) error {
	equal, err := a.diffFiles(ctx, pathA, pathB, c.json)
	if err == nil && !equal {
		return errDiffer
	}
	return err
}

// diffFiles compares two GGUF files and prints what differs.
func (a *app) diffFiles(ctx context.Context, pathA, pathB string, asJSON bool) (equal bool, err error) {
	files := [2]*gguf.File{}
	for i, path := range []string{pathA, pathB} {
		if files[i], err = openGGUF(path); err != nil {
			return false, err
		}
		defer func() { err = errors.CombineErrors(err, files[i].Close()) }()
	}
	d, err := gguf.Diff(files[0], files[1])
	if err != nil {
		return false, err
	}
	r := diffReport{A: pathA, B: pathB, Equal: d.Equal(), Keys: keyDiffs(files[0], files[1], d)}
	if r.Tensors, err = tensorDiffs(ctx, files[0], files[1], d); err != nil {
		return false, err
	}
	if asJSON {
		for i, k := range r.Keys {
			r.Keys[i].A, r.Keys[i].B = jsonValue(k.A), jsonValue(k.B)
		}
		return r.Equal, a.json(r)
	}
	return r.Equal, a.printDiff(r, files[0])
}

// openGGUF opens what must be a GGUF file.
func openGGUF(path string) (*gguf.File, error) {
	switch kind := kindOf(path); kind {
	case formatHuggingFace, formatLlama2C:
		return nil, usagef("make a GGUF file of it: "+self()+" convert "+path+" OUT.gguf", "--diff compares GGUF files, and %s is a %s model", path, kind)
	case "mhc", "tokens":
		return nil, usagef("name two GGUF files", "--diff compares GGUF files, and %s is none", path)
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return nil, usagef("export a checkpoint first", "--diff compares GGUF files, and %s is a directory", path)
	}
	return gguf.Open(path)
}

// keyDiffs lists the keys of d with their values.
func keyDiffs(a, b *gguf.File, d gguf.Difference) []keyDiff {
	list := []keyDiff{}
	for _, key := range slices.Concat(d.KeysChanged, d.KeysOnlyA, d.KeysOnlyB) {
		va, _ := a.Metadata.Get(key)
		vb, _ := b.Metadata.Get(key)
		list = append(list, keyDiff{key, va, vb})
	}
	return list
}

// tensorDiffs lists the tensors of d, with the errors of those of one shape.
func tensorDiffs(ctx context.Context, a, b *gguf.File, d gguf.Difference) ([]tensorDiff, error) {
	list := []tensorDiff{}
	for _, name := range slices.Concat(d.Comparable(), d.TensorsReshaped, d.TensorsOnlyA, d.TensorsOnlyB) {
		t := tensorDiff{Name: name, A: side(a, name), B: side(b, name)}
		if slices.Contains(d.TensorsRetyped, name) || slices.Contains(d.TensorsChanged, name) {
			var err error
			if t.Error, t.Note, err = distanceOf(ctx, a, b, name); err != nil {
				return nil, err
			}
		}
		list = append(list, t)
	}
	return list, nil
}

func side(f *gguf.File, name string) *sideOf {
	t, err := f.Tensor(name)
	if err != nil {
		return nil
	}
	return &sideOf{t.Type.String(), t.Shape}
}

// printDiff writes the keys and tensors that differ as two tables.
func (a *app) printDiff(r diffReport, f *gguf.File) error {
	if r.Equal {
		a.printf("equal: %s of metadata, %s\n", plural(len(f.Metadata), "key"), plural(len(f.Tensors), "tensor"))
		return nil
	}
	a.printf("A: %s\nB: %s\n", r.A, r.B)
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	if len(r.Keys) > 0 {
		fmt.Fprintln(tw, "\nKEY\tA\tB")
	}
	for _, k := range r.Keys {
		va, vb := besides(k.A, k.B)
		fmt.Fprintf(tw, "%s\t%s\t%s\n", printable(k.Key), va, vb)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if len(r.Tensors) > 0 {
		fmt.Fprintln(tw, "\nTENSOR\tA\tB\tDIFFER\tLARGEST\tRELATIVE")
	}
	for _, t := range r.Tensors {
		fmt.Fprintf(tw, "%s\t%v\t%v\t%s\n", printable(t.Name), t.A, t.B, t.columns())
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	a.printf("\n%s of metadata and %s differ\n", plural(len(r.Keys), "key"), plural(len(r.Tensors), "tensor"))
	return nil
}

// columns are those of the error.
func (t tensorDiff) columns() string {
	switch {
	case t.Error != nil:
		return t.Error.columns()
	case t.Note != "":
		return t.Note
	}
	return "-\t-\t-"
}
