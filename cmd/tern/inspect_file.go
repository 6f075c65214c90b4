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
	"github.com/ternlm/tern/formats/mhc"
	"github.com/ternlm/tern/internal/regularfile"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// tensorRow is a line of a list of tensors.
type tensorRow struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Shape []int  `json:"shape"`
	Bytes int64  `json:"bytes"`
	File  string `json:"file,omitempty"` // that holds it, where there may be several
}

func (a *app) printTensors(rows []tensorRow) error {
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	head := "TENSOR\tTYPE\tSHAPE\tBYTES"
	if slices.ContainsFunc(rows, func(r tensorRow) bool { return r.File != "" }) {
		head += "\tFILE"
	}
	fmt.Fprintln(tw, head)
	var sum int64
	for _, r := range rows {
		fmt.Fprintf(tw, "%s\t%s\t%v\t%s", printable(r.Name), r.Type, r.Shape, thousands(r.Bytes))
		if r.File != "" {
			fmt.Fprintf(tw, "\t%s", printable(r.File))
		}
		fmt.Fprintln(tw)
		sum += r.Bytes
	}
	fmt.Fprintf(tw, "%s\t\t\t%s\n", plural(len(rows), "tensor"), thousands(sum))
	return tw.Flush()
}

// inspectMHC shows the parameters of a residual.
func (a *app) inspectMHC(path string, asJSON bool) error {
	r, _, err := regularfile.Open(path)
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
		rows = append(rows, tensorRow{Name: name, Type: t.DType.String(), Shape: t.Shape, Bytes: int64(len(t.Data))})
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
