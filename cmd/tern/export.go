package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/formats/checkpoint"
	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework"
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
	mhc = besideMHC(path)
	return mhc, errors.Wrap(w.WriteMHC(mhc), "export")
}

// besideMHC is the name of the .mhc file that belongs to a GGUF file.
func besideMHC(path string) string {
	return strings.TrimSuffix(path, filepath.Ext(path)) + filepath.Ext(mhcFile)
}

// exportCmd holds the flags of tern export.
type exportCmd struct {
	out     string
	name    string
	arch    string
	typ     string
	force   bool
	backend backendFlags
	json    bool
}

func newExportCmd(a *app) *cobra.Command {
	var c exportCmd
	cmd := &cobra.Command{
		Use:   "export CHECKPOINT_OR_RUN --out DIR|FILE.gguf",
		Short: "Write a checkpoint's model as a GGUF file, and its residual as a .mhc file",
		Long: "Architecture tern holds every model; llama, which llama.cpp and what is built on it run as they are, those\n" +
			"with a standard or scaled residual and without --sub-norm. The linears of llama are q2_0 or tq2_0 (ternary\n" +
			"weights as they are, for groups that are a multiple of 64 or 256), f16 or f32.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), a, args[0]) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&c.out, "out", "", "file NAME.gguf, or an existing directory for model.gguf and model.mhc")
	fs.StringVar(&c.name, "name", "", "the model's name in the file")
	fs.StringVar(&c.arch, "arch", modelfile.Architecture, "architecture of the file: tern or llama")
	fs.StringVar(&c.typ, "type", "", "type of the linears of --arch llama: q2_0 (the default), tq2_0, f16 or f32")
	fs.BoolVar(&c.force, "force", false, "replace files that are there")
	c.backend.add(fs)
	fs.BoolVar(&c.json, "json", false, "write JSON")
	return cmd
}

func (c exportCmd) run(ctx context.Context, a *app, path string) (err error) {
	out, err := c.target()
	if err != nil {
		return err
	}
	typ, err := c.llamaType()
	if err != nil {
		return err
	}
	if st, err := os.Stat(path); err == nil && !st.IsDir() {
		return usagef("name a run's directory, or a step-... directory in one", "export takes a checkpoint, and %s is a file", path)
	}
	dir, err := checkpointIn(path)
	if err != nil {
		return err
	}
	be, err := c.backend.open(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, be.Close()) }()
	snap, err := checkpoint.Load(dir)
	if err != nil {
		return err
	}
	w, err := weightsOf(ctx, be, snap)
	if err != nil {
		return errors.Wrapf(err, "%s", dir)
	}
	w.Info = infoOf(dir, snap)
	if c.name != "" {
		w.Info.Name = c.name
	}
	if c.arch == modelfile.Llama {
		return c.llama(a, w, dir, out, snap.Step, typ)
	}
	mhc, err := export(w, out)
	if err != nil {
		return err
	}
	tensors, err := w.Bytes()
	if err != nil {
		return err
	}
	if c.json {
		return a.json(map[string]any{"checkpoint": dir, "step": snap.Step, "gguf": out, "mhc": mhc, "tensor_bytes": tensors})
	}
	a.printf("exported  %s, step %s\n          %s: tensors of %s bytes\n", dir, thousands(snap.Step), out, thousands(tensors))
	if mhc != "" {
		a.printf("          %s\n", mhc)
	}
	return nil
}

// llamaType is the type that --type names for --arch llama.
func (c exportCmd) llamaType() (ggml.Type, error) {
	switch {
	case c.arch != modelfile.Architecture && c.arch != modelfile.Llama:
		return 0, usagef(framework.Suggest(c.arch, []string{modelfile.Architecture, modelfile.Llama}), "--arch %s", c.arch)
	case c.arch == modelfile.Architecture && c.typ != "":
		return 0, usagef("leave it out, or add --arch llama", "--type %s: the weights of architecture tern are written as they are", c.typ)
	case c.typ == "":
		return ggml.Q2_0, nil
	}
	var names []string
	for _, t := range modelfile.LlamaTypes {
		if names = append(names, strings.ToLower(t.String())); strings.EqualFold(c.typ, t.String()) {
			return t, nil
		}
	}
	return 0, usagef(framework.Suggest(c.typ, names), "--type %s", c.typ)
}

// llama writes the file of architecture llama.
func (c exportCmd) llama(a *app, w *modelfile.Weights, dir, out string, step int, t ggml.Type) error {
	folded, err := w.WriteLlama(out, t)
	if err != nil {
		return err
	}
	if c.json {
		return a.json(map[string]any{"checkpoint": dir, "step": step, "gguf": out, "arch": c.arch, "type": strings.ToLower(t.String()), "folded": folded})
	}
	a.printf("exported  %s, step %s\n          %s: architecture llama, linears in %v\n", dir, thousands(step), out, t)
	if folded > 0 {
		a.printf("          gains of the residual went into the weights: rounded by at most %.2g\n", folded)
	}
	return nil
}

// target is the path of the GGUF file. Nothing is overwritten unasked.
func (c exportCmd) target() (string, error) {
	out := c.out
	switch st, err := os.Stat(out); {
	case out == "":
		return "", usagef("for example --out model.gguf", "--out is missing")
	case err == nil && st.IsDir():
		out = filepath.Join(out, modelFile)
	case filepath.Ext(out) != ".gguf":
		return "", usagef("name an existing directory or a file NAME.gguf", "--out %s", out)
	}
	if c.force {
		return out, nil
	}
	for _, f := range []string{out, besideMHC(out)} {
		if _, err := os.Lstat(f); err == nil {
			return "", usagef("choose another --out, or replace it with --force", "%s exists", f)
		}
	}
	return out, nil
}

// infoOf describes the model of a checkpoint, with what its run knows of it.
func infoOf(dir string, snap *checkpoint.Snapshot) modelfile.Info {
	i := modelfile.Info{Name: "tern", CreatedBy: buildVersion().String(), Description: fmt.Sprintf("step %d", snap.Step)}
	raw, err := os.ReadFile(filepath.Join(filepath.Dir(dir), runFile))
	var r runInfo
	if err != nil || json.Unmarshal(raw, &r) != nil {
		return i // a checkpoint stands for itself
	}
	for _, s := range r.Settings {
		if s.Key == "preset" {
			i.Name = "tern " + s.Value
		}
	}
	if r.Result != nil && snap.Step == r.Config.Recipe.Steps {
		i.BitsPerByte = r.Result.Trained.BitsPerByte
	}
	i.Description = describeTraining(snap.Step, r.Config.Recipe.TokensPerStep(), r.Train.Name)
	return i
}

func describeTraining(steps, tokens int, data string) string {
	return fmt.Sprintf("%d steps of %d tokens on: %s", steps, tokens, data)
}
