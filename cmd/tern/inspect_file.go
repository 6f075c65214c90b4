package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/checkpoint"
	"github.com/ternlm/tern/formats/gguf"
	"github.com/ternlm/tern/formats/mhc"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// tensorRow is a line of a list of tensors.
type tensorRow struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Shape []int  `json:"shape"`
	Bytes int64  `json:"bytes"`
}

func (a *app) printTensors(rows []tensorRow) error {
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "TENSOR\tTYPE\tSHAPE\tBYTES")
	var sum int64
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%v\t%s\n", r.Name, r.Type, r.Shape, thousands(r.Bytes))
		sum += r.Bytes
	}
	fmt.Fprintf(tw, "%s\t\t\t%s\n", plural(len(rows), "tensor"), thousands(sum))
	return tw.Flush()
}

// inspectGGUF shows metadata and tensors, and for a model of tern its table.
func (a *app) inspectGGUF(path string, asJSON bool) (err error) {
	f, err := gguf.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, f.Close()) }()
	var rows []tensorRow
	for _, t := range f.Tensors {
		rows = append(rows, tensorRow{t.Name, t.Type.String(), t.Shape, t.Size})
	}
	var table *modelTable
	w, broken := modelfile.FromGGUF(f)
	if broken == nil {
		if table, err = tableOf(w.Info.Name, w.Model); err != nil {
			return err
		}
	} else if arch, err := f.Metadata.String("general.architecture"); err != nil || arch != modelfile.Architecture {
		broken = nil // another program's model
	}
	// What a damaged file says is shown before the error.
	defer func() { err = errors.CombineErrors(err, errors.Wrapf(broken, "%s", path)) }()
	if asJSON {
		return a.json(map[string]any{"file": path, "version": f.Version, "metadata": f.Metadata, "tensors": rows, "model": table})
	}
	if table != nil {
		a.printTable(table)
		a.printf("\n")
	}
	a.printf("%s: GGUF version %d, %s, tensors aligned to %d\n", path, f.Version, size(f.Size), f.Alignment)
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	for _, kv := range f.Metadata {
		fmt.Fprintf(tw, "  %s\t%s\n", kv.Key, short(kv.Value))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	a.printf("\n")
	return a.printTensors(rows)
}

// short is a value in at most 100 characters.
func short(v any) string {
	s := fmt.Sprint(v)
	if text, ok := v.(string); ok {
		s = fmt.Sprintf("%q", text)
	}
	if r := []rune(s); len(r) > 100 {
		s = string(r[:97]) + "..."
	}
	return s
}

// inspectMHC shows the parameters of a residual.
func (a *app) inspectMHC(path string, asJSON bool) error {
	r, err := os.Open(path)
	if err != nil {
		return errors.Wrap(err, "inspect")
	}
	defer r.Close()
	f, err := mhc.Read(r)
	if err != nil {
		return errors.Wrapf(err, "%s", path)
	}
	if err := compareMHC(path, f); err != nil {
		return err
	}
	if asJSON {
		return a.json(map[string]any{"file": path, "mhc": f})
	}
	a.printf("%s: mHC parameters, version %d, %s of %s, %s bytes\n", path, f.Version,
		plural(len(f.SubLayers), "sub-layer"), plural(f.Streams, "stream"), thousands(mhc.Size(len(f.SubLayers), f.Streams)))
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "SUB-LAYER\tMIXING\tPRE LOGITS\tPRE BIAS\tPOST LOGITS\tPOST BIAS")
	for i, p := range f.SubLayers {
		fmt.Fprintf(tw, "blk.%d.%s\t%s\t%.4f\t%.4f\t%.4f\t%.4f\n", i/2, []string{"attn", "ffn"}[i%2], mixing(p.Res),
			p.PreLogits, p.PreBias, p.PostLogits, p.PostBias)
	}
	return tw.Flush()
}

// compareMHC compares f, read from path, with the parameters in the GGUF file
// that was exported beside it, if there is one: the .mhc format has no checksum.
func compareMHC(path string, f *mhc.File) error {
	beside := strings.TrimSuffix(path, filepath.Ext(path)) + ".gguf"
	if _, err := os.Stat(beside); err != nil {
		return nil
	}
	w, err := modelfile.ReadGGUF(beside)
	if err != nil {
		return nil // it may be anyone's; inspect it by its own name
	}
	if want, ok := w.MHC(); ok && !reflect.DeepEqual(f.SubLayers, want.SubLayers) {
		return errors.WithHint(errors.Wrapf(mhc.ErrFormat, "%s: its parameters are not those of %s", path, beside),
			"it is damaged, or of another export: export the model again")
	}
	return nil
}

// mixing describes how much of the streams stays in place: the weight of the
// identity among the permutations.
func mixing(res []float32) string {
	if len(res) == 1 {
		return fmt.Sprintf("identity %.4f", 1/(1+math.Exp(-float64(res[0]))))
	}
	top := float64(slices.Max(res))
	var sum float64
	for _, x := range res {
		sum += math.Exp(float64(x) - top)
	}
	return fmt.Sprintf("identity %.4f", math.Exp(float64(res[0])-top)/sum)
}

// inspectCheckpoint shows a checkpoint, of a run the newest sound one.
func (a *app) inspectCheckpoint(path string, asJSON bool) error {
	dir, err := checkpointIn(path)
	if err != nil {
		return err
	}
	snap, err := checkpoint.Load(dir)
	if err != nil {
		return err
	}
	c, err := parseResolved(snap.Config)
	if err != nil {
		return errors.Wrapf(err, "%s", dir)
	}
	m, err := model.New(c.Model)
	if err != nil {
		return errors.Wrapf(err, "%s", dir)
	}
	table, err := tableOf("model", m)
	if err != nil {
		return err
	}
	var rows []tensorRow
	for _, name := range slices.Sorted(maps.Keys(snap.Tensors)) {
		t := snap.Tensors[name]
		rows = append(rows, tensorRow{name, t.DType.String(), t.Shape, int64(len(t.Data))})
	}
	if asJSON {
		return a.json(map[string]any{
			"checkpoint": dir, "step": snap.Step, "cursor": snap.Cursor, "seed": snap.Seed, "created_by": snap.CreatedBy,
			"config": c, "model": table, "tensors": rows,
		})
	}
	a.printTable(table)
	recipe, err := json.Marshal(c.Recipe)
	if err != nil {
		return err
	}
	a.printf("\n%s: step %s of %s, %s windows drawn, made by %s\nrecipe %s\n\n", dir, thousands(snap.Step), thousands(c.Recipe.Steps),
		thousands(int64(snap.Cursor)), snap.CreatedBy, recipe)
	return a.printTensors(rows)
}
