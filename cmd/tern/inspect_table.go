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
	bytes := map[model.Category]int64{}
	for _, p := range params {
		bytes[p.Category] += sizes[p.Name]
	}
	t := &modelTable{Name: name, Config: m.Config, Total: modelRow{Category: "total"}}
	counts, total := model.Count(params)
	for _, c := range model.Categories {
		if counts[c] > 0 {
			t.Rows = append(t.Rows, modelRow{Category: categoryName(m.Config, c), Parameters: counts[c], Bytes: bytes[c]})
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
		name, _, _ := strings.Cut(strings.TrimPrefix(m.Quant, pluginScheme+":"), ":")
		return name
	default:
		return string(c)
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(m.Residual, pluginScheme+":"), ":")
	if name == "mhclite" {
		return "mHC"
	}
	return name
}

// printTable writes the model table.
func (a *app) printTable(t *modelTable) {
	c := t.Config
	a.printSizes(t)
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

// printSizes writes the first line of a model table.
func (a *app) printSizes(t *modelTable) {
	c := t.Config
	a.printf("%s: %d layers, width %d, %d heads (%d for keys), ffn %d, context %d\n", printable(t.Name), c.Layers, c.Dim, c.Heads, c.KVHeads, c.FFN, c.Context)
}
