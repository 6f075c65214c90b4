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
	"github.com/ternlm/tern/modelfile"
)

// export writes weights to the GGUF file at path and, for a residual that has
// one, a .mhc file beside it, whose path it returns.
func export(w *modelfile.Weights, path string) (mhc string, err error) {
	if len(w.Info.Plugins) == 0 { // it was not read from a file that says them
		w.Info.Plugins = filePlugins(w.Model.Config)
	}
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
	output
	out     string
	backend backendFlags
	json    bool
}

func newExportCmd(a *app) *cobra.Command {
	var c exportCmd
	cmd := &cobra.Command{
		Use:   "export CHECKPOINT_OR_RUN --out DIR|FILE.gguf",
		Short: "Write a checkpoint's model as a GGUF file, and its residual as a .mhc file; or in another format",
		Long: "Architecture llama, which llama.cpp and what is built on it run as they are, holds models with a standard or scaled\n" +
			"residual and without --sub-norm, bitnet those with it and a tied head; tern holds every model and is taken where llama\n" +
			"does not fit. " + typesHelp,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return c.run(cmd.Context(), a, args[0]) },
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&c.out, "out", "", "file NAME.gguf, an existing directory for model.gguf and model.mhc, NAME.bin for llama2.c, or with --format huggingface a new directory")
	c.add(fs)
	c.backend.add(fs)
	fs.BoolVar(&c.json, "json", false, "write JSON")
	return cmd
}

func (c exportCmd) run(ctx context.Context, a *app, path string) (err error) {
	if c.out == "" {
		return usagef("for example --out model.gguf", "--out is missing")
	}
	if st, err := os.Stat(c.out); err == nil && st.IsDir() && c.format == "" {
		c.out = filepath.Join(c.out, modelFile)
	}
	t, err := c.target(c.out)
	if err != nil {
		return err
	}
	if st, err := os.Stat(path); err == nil && !st.IsDir() {
		return usagef("name a run's directory, or a step-... directory in one; tern convert takes files", "export takes a checkpoint, and %s is a file", path)
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
	w.Info = exportInfo(dir, snap)
	w.Info.Plugins = filePlugins(w.Model.Config)
	r, err := c.write(w, t)
	if err != nil {
		return err
	}
	if c.json {
		return a.json(struct {
			Checkpoint string `json:"checkpoint"`
			Step       int64  `json:"step"`
			written
		}{dir, int64(snap.Step), r})
	}
	a.printf("exported  %s, step %s\n", dir, thousands(snap.Step))
	a.printWritten(r)
	return nil
}

// sourceOf names a checkpoint without the place where it lies: RUN/step-N.
func sourceOf(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return filepath.Base(dir)
	}
	return filepath.Base(filepath.Dir(abs)) + "/" + filepath.Base(abs)
}

// exportInfo describes the model of a checkpoint, with what its run knows of it.
func exportInfo(dir string, snap *checkpoint.Snapshot) modelfile.Info {
	i := modelfile.Info{
		Name: "tern", CreatedBy: buildVersion().String(), Description: fmt.Sprintf("step %d", snap.Step),
		Source: sourceOf(dir),
	}
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
