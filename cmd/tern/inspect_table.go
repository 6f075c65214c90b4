package main

import (
	"slices"
	"strings"

	"github.com/ternlm/tern/formats/mhc"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/residual"
)

// modelRow is a line of the model table.
type modelRow struct {
	Category   string   `json:"category"`
	Parameters int      `json:"parameters"`
	Bytes      int64    `json:"export_bytes,omitempty"` // of a model of tern
	FileBytes  int64    `json:"file_bytes,omitempty"`   // of another program's file
	Types      []string `json:"types,omitempty"`        // in another program's file
}

// modelTable is the size of a model by category.
type modelTable struct {
	Name     string       `json:"name"`
	Config   model.Config `json:"config"`
	Rows     []modelRow   `json:"rows"`
	Total    modelRow     `json:"total"`
	Residual int64        `json:"residual_bytes"`      // part of the total
	MHC      int          `json:"mhc_bytes,omitempty"` // of the .mhc file

	Tokenizer *vocabularyInfo `json:"tokenizer,omitempty"` // of another program's file, nil for none
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
	t := &modelTable{Name: name, Config: m.Config, Rows: rowsOf(m, params, sizes), Total: modelRow{Category: "total"}}
	for _, r := range t.Rows {
		t.Total.Parameters += r.Parameters
		t.Total.Bytes += r.Bytes
	}
	for _, p := range params {
		if p.Category == model.Residuals {
			t.Residual += sizes[p.Name]
		}
	}
	if r, ok := m.Residual().(residual.MHCLite); ok {
		t.MHC = mhc.Size(2*m.Layers, r.Streams)
	}
	return t, nil
}

// rowsOf sums parameters, and their bytes in a file, by the words for their
// categories, in the order of these.
func rowsOf(m *model.Model, params []model.Parameter, sizes map[string]int64) (rows []modelRow) {
	for _, c := range model.Categories {
		first := len(rows) // a plugin may have the name of another category
		for _, p := range params {
			if p.Category != c {
				continue
			}
			name := categoryName(m, p)
			i := first + slices.IndexFunc(rows[first:], func(r modelRow) bool { return r.Category == name })
			if i < first {
				i = len(rows)
				rows = append(rows, modelRow{Category: name})
			}
			rows[i].Parameters += p.Shape.Numel()
			rows[i].Bytes += sizes[p.Name]
		}
	}
	return rows
}

// categoryName is the word for a parameter's category in tables; quantized weights
// and the residual's parameters go by the names of what made them.
func categoryName(m *model.Model, p model.Parameter) string {
	switch p.Category {
	case model.Residuals:
		if name := specName(m.Config.Residual); name != "mhclite" {
			return name
		}
		return "mHC"
	case model.Ternary:
		return specName(m.QuantizerOf(strings.TrimSuffix(p.Name, ".weight")).Spec())
	}
	return string(p.Category)
}

// specName is the name in a spec, such as ternary:group=128, or a plugin's.
func specName(spec string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(spec, pluginScheme+":"), ":")
	return name
}

// printTable writes the model table.
func (a *app) printTable(t *modelTable) {
	c := t.Config
	a.printSizes(t)
	head, tied := c.Head, ""
	if head == model.HeadTernary {
		head = specName(c.Quant)
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

// printSizes writes the first line of a model table.
func (a *app) printSizes(t *modelTable) {
	c := t.Config
	a.printf("%s: %d layers, width %d, %d heads (%d for keys), ffn %d, context %d\n", printable(t.Name), c.Layers, c.Dim, c.Heads, c.KVHeads, c.FFN, c.Context)
}
