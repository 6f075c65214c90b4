package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/internal/regularfile"
	"github.com/ternlm/tern/model"
)

// inspectCmd holds the flags of tern inspect.
type inspectCmd struct {
	s       *settings
	graph   string
	lowered bool
	diff    bool
	json    bool
}

func newInspectCmd(a *app) *cobra.Command {
	c := inspectCmd{s: newSettings()}
	cmd := &cobra.Command{
		Use:   "inspect [FILE | DIRECTORY | CHECKPOINT | RUN]",
		Short: "Show a model's parameters, a file's content, how two files differ, or a graph",
		Long: "Shows what is in a GGUF file (of one part or the first of several), a .mhc file, a llama2.c file, a directory of the\n" +
			"Hugging Face layout, a checkpoint or a run.\n" +
			"Without a file, shows the model of --preset and the other flags: its parameters by category and the size of its export.\n" +
			"With --graph, prints the text of one of its graphs: " + strings.Join(graphNames, ", ") + ".\n\n" + diffHelp,
		Example: "  tern inspect model.gguf\n  tern inspect --diff before.gguf after.gguf\n  tern inspect --preset tiny --graph train",
		Args:    usageArgs(c.checkArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.inspectModel(cmd.Context(), a)
			}
			if set := c.changed(); set != "" {
				return usagef("leave it out, or leave the file out", "--%s describes a model, but %s does that", set, args[0])
			}
			if c.diff {
				return c.inspectDiff(cmd.Context(), a, args[0], args[1])
			}
			return c.inspectPath(a, args[0])
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&c.graph, "graph", "", "print a graph: "+strings.Join(graphNames, ", "))
	fs.BoolVar(&c.lowered, "lowered", false, "print the graph as the backend runs it")
	fs.BoolVar(&c.diff, "diff", false, "compare two files")
	fs.BoolVar(&c.json, "json", false, "write JSON")
	c.s.addSome(fs, slices.Concat([]string{"preset", "recipe"}, modelKeys, recipeKeys, []string{"backend", "threads"}))
	cmd.AddCommand(newInspectResidualCmd(a))
	return cmd
}

// checkArgs checks how many paths there are.
func (c *inspectCmd) checkArgs(cmd *cobra.Command, args []string) error {
	if c.diff {
		return cobra.ExactArgs(2)(cmd, args)
	}
	return cobra.MaximumNArgs(1)(cmd, args)
}

// changed names a flag that describes a model and was given, "" for none.
func (c inspectCmd) changed() string {
	if c.graph != "" {
		return "graph"
	}
	for _, k := range c.s.set.Keys() {
		if f := c.s.set.Flag(k); f.Changed {
			return f.Name
		}
	}
	return ""
}

// inspectPath tells what is at path.
func (c inspectCmd) inspectPath(a *app, path string) error {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return errors.WithHint(errors.Wrap(err, "inspect"), "name a file, a run's directory or a checkpoint's, or use --preset")
	case !st.IsDir() && !st.Mode().IsRegular(): // a pipe would block
		return errors.WithHint(errors.Wrapf(regularfile.ErrIrregular, "%s: %v", path, st.Mode().Type()), "save what it gives to a file first")
	}
	switch kind := kindOf(path); {
	case kind == "huggingface":
		return a.inspectHuggingFace(path, c.json)
	case kind == "llama2c":
		return a.inspectLlama2C(path, c.json)
	case st.IsDir():
		return a.inspectCheckpoint(path, c.json)
	case kind == "mhc":
		return a.inspectMHC(path, c.json)
	case kind == "tokens":
		return tokensError(path)
	}
	return a.inspectGGUF(path, c.json)
}

// inspectModel shows the model that the flags describe.
func (c inspectCmd) inspectModel(ctx context.Context, a *app) error {
	if err := c.s.load(a); err != nil {
		return err
	}
	if err := c.s.resolve(nil); err != nil {
		return err
	}
	m, err := model.New(c.s.Model)
	if err != nil {
		return err
	}
	if c.graph != "" {
		return c.printGraph(ctx, a, m)
	}
	t, err := tableOf(c.s.Preset, m)
	if err != nil {
		return err
	}
	if c.json {
		return a.json(t)
	}
	a.printTable(t)
	return nil
}
