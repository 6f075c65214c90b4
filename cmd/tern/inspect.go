package main

import (
	"context"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/formats/mhc"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/residual"
)

// inspectCmd holds the flags of tern inspect.
type inspectCmd struct {
	s       *settings
	graph   string
	lowered bool
	json    bool
}

func newInspectCmd(a *app) *cobra.Command {
	c := inspectCmd{s: newSettings()}
	cmd := &cobra.Command{
		Use:   "inspect [FILE.gguf | FILE.mhc | CHECKPOINT | RUN]",
		Short: "Show a model's parameters, a file's content, or a graph",
		Long: "Without a file, shows the model of --preset and the other flags: its parameters by category and the size of its export.\n" +
			"With --graph, prints the text of one of its graphs: " + strings.Join(graphNames, ", ") + ".",
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.inspectModel(cmd.Context(), a)
			}
			if set := c.changed(); set != "" {
				return usagef("leave it out, or leave the file out", "--%s describes a model, but %s does that", set, args[0])
			}
			return c.inspectPath(a, args[0])
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&c.graph, "graph", "", "print a graph: "+strings.Join(graphNames, ", "))
	fs.BoolVar(&c.lowered, "lowered", false, "print the graph as the backend runs it")
	fs.BoolVar(&c.json, "json", false, "write JSON")
	c.s.addSome(fs, slices.Concat([]string{"preset", "recipe"}, modelKeys, recipeKeys, []string{"backend", "threads"}))
	return cmd
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
	case st.IsDir():
		return a.inspectCheckpoint(path, c.json)
	}
	switch kindOf(path) {
	case "mhc":
		return a.inspectMHC(path, c.json)
	case "tokens":
		return tokensError(path)
	}
	return a.inspectGGUF(path, c.json)
}

// modelRow is a line of the model table.
type modelRow struct {
	Category   string `json:"category"`
	Parameters int    `json:"parameters"`
	Bytes      int64  `json:"export_bytes"`
}

// modelTable is the size of a model by category.
type modelTable struct {
	Name     string       `json:"name"`
	Config   model.Config `json:"config"`
	Rows     []modelRow   `json:"rows"`
	Total    modelRow     `json:"total"`
	Residual int64        `json:"residual_bytes"`      // part of the total
	MHC      int          `json:"mhc_bytes,omitempty"` // of the .mhc file
}

// tableOf counts m without making its weights.
func tableOf(name string, m *model.Model) (*modelTable, error) {
	params, err := m.Parameters()
	if err != nil {
		return nil, err
	}
	sizes, err := modelfile.Sizes(m)
	if err != nil {
		return nil, err
	}
	bytes := map[model.Category]int64{}
	for _, p := range params {
		bytes[p.Category] += sizes[p.Name]
	}
	t := &modelTable{Name: name, Config: m.Config, Total: modelRow{Category: "total"}}
	counts, total := model.Count(params)
	for _, c := range model.Categories {
		if counts[c] > 0 {
			t.Rows = append(t.Rows, modelRow{categoryName(m.Config, c), counts[c], bytes[c]})
			t.Total.Bytes += bytes[c]
		}
	}
	t.Total.Parameters, t.Residual = total, bytes[model.Residuals]
	if r, ok := m.Residual().(residual.MHCLite); ok {
		t.MHC = mhc.Size(2*m.Layers, r.Streams)
	}
	return t, nil
}

// categoryName is the word for a category in tables; quantized weights and the
// residual's go by the names of what made them.
func categoryName(m model.Config, c model.Category) string {
	switch c {
	case model.Residuals:
	case model.Ternary:
		name, _, _ := strings.Cut(m.Quant, ":")
		return name
	default:
		return string(c)
	}
	name, _, _ := strings.Cut(m.Residual, ":")
	if name == "mhclite" {
		return "mHC"
	}
	return name
}

// printTable writes the model table.
func (a *app) printTable(t *modelTable) {
	c := t.Config
	a.printf("%s: %d layers, width %d, %d heads (%d for keys), ffn %d, context %d\n", t.Name, c.Layers, c.Dim, c.Heads, c.KVHeads, c.FFN, c.Context)
	head, tied := c.Head, ""
	if head == string(model.Ternary) {
		head = categoryName(c, model.Ternary)
	}
	if c.Tied {
		tied = " (the embedding)"
	}
	a.printf("tokenizer %s (%s tokens), quantizer %s, residual %s, head %s%s\n\n", c.Tokenizer, thousands(c.Vocab), c.Quant, c.Residual, head, tied)
	row := func(name, parameters, bytes string) { a.printf("%-11s %15s %15s\n", name, parameters, bytes) }
	row("category", "parameters", "export bytes")
	for _, r := range append(slices.Clone(t.Rows), t.Total) {
		row(r.Category, thousands(r.Parameters), thousands(r.Bytes))
	}
	if t.Residual > 0 {
		a.printf("\nexport without the residual  %13s bytes\n", thousands(t.Total.Bytes-t.Residual))
	}
	if t.MHC > 0 {
		a.printf("the residual as a .mhc file  %13s bytes\n", thousands(t.MHC))
	}
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
