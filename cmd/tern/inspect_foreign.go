package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/tokenizer"
)

// otherTensors is the category of tensors that are none of a model's parameters.
const otherTensors model.Category = "other"

// vocabularyInfo describes a tokenizer.
type vocabularyInfo struct {
	Name   string `json:"name,omitempty"`
	Model  string `json:"model"` // "gpt2" or "llama"
	Pre    string `json:"pre,omitempty"`
	Tokens int    `json:"tokens"`
	Merges int    `json:"merges,omitempty"`
	BOS    int32  `json:"bos"`
	EOS    int32  `json:"eos"`
}

func vocabularyInfoOf(v *tokenizer.Vocabulary) *vocabularyInfo {
	return &vocabularyInfo{Model: v.Model, Pre: v.Pre, Tokens: len(v.Tokens), Merges: len(v.Merges), BOS: v.BOS, EOS: v.EOS}
}

// String says it in a line.
func (v *vocabularyInfo) String() string {
	if v == nil {
		return "no tokenizer"
	}
	s := "tokenizer: SentencePiece BPE"
	if v.Model == "gpt2" {
		s = "tokenizer: byte-level BPE split as " + v.Pre
	}
	s += ", " + thousands(v.Tokens) + " tokens"
	if v.Merges > 0 {
		s += ", " + thousands(v.Merges) + " merges"
	}
	return s
}

// foreignTable is the size of another program's model by category: parameters as
// tern counts them, bytes and types as the file has them. names gives the tensors
// the names that GGUF has for them.
func foreignTable(path string, w *modelfile.Weights, tensors []tensorRow, names func(string) string) (*modelTable, error) {
	params, err := w.Model.Parameters()
	if err != nil {
		return nil, err
	}
	counts, total := model.Count(params)
	t := &modelTable{Name: w.Info.Name, Config: w.Model.Config, Total: modelRow{Category: "total", Parameters: total}}
	if t.Name == "" {
		t.Name = filepath.Base(path)
	}
	for _, c := range append(slices.Clone(model.Categories), otherTensors) {
		r := modelRow{Category: string(c), Parameters: counts[c]}
		for _, x := range tensors {
			if categoryOf(names(x.Name)) != c {
				continue
			}
			if r.FileBytes += x.Bytes; !slices.Contains(r.Types, x.Type) {
				r.Types = append(r.Types, x.Type)
			}
		}
		if r.Parameters > 0 || r.FileBytes > 0 {
			t.Rows = append(t.Rows, r)
			t.Total.FileBytes += r.FileBytes
		}
	}
	tok, err := w.Tokenizer()
	if err != nil {
		return t, nil // it has none
	}
	v, err := tok.Vocabulary()
	if err != nil {
		return nil, err
	}
	t.Tokenizer = vocabularyInfoOf(v)
	t.Tokenizer.Name = tok.Name()
	return t, nil
}

// categoryOf tells a tensor of GGUF by its name.
func categoryOf(name string) model.Category {
	base := name[:max(strings.LastIndexByte(name, '.'), 0)]
	switch {
	case strings.HasSuffix(base, "norm"):
		return model.NormGain
	case base == "token_embd":
		return model.Embedded
	case base == "output" || strings.HasPrefix(base, "blk."):
		return model.Linear
	}
	return otherTensors
}

// printForeign writes the table of another program's model.
func (a *app) printForeign(t *modelTable) {
	a.printSizes(t)
	head := "a matrix of its own"
	if t.Config.Tied {
		head = "the embedding"
	}
	a.printf("%v, head: %s\n\n", t.Tokenizer, head)
	row := func(name, parameters, bytes, types string) {
		a.printf("%s\n", strings.TrimRight(fmt.Sprintf("%-11s %15s %15s  %s", name, parameters, bytes, types), " "))
	}
	row("category", "parameters", "bytes", "types")
	for _, r := range append(slices.Clone(t.Rows), t.Total) {
		row(r.Category, thousands(r.Parameters), thousands(r.FileBytes), strings.Join(r.Types, ", "))
	}
}

// whyNot is a line that says why tern does not run a model.
func whyNot(err error) string {
	s := message(err)
	if hints := errors.GetAllHints(err); len(hints) > 0 {
		s += "; " + hints[0]
	}
	return printable(strings.ReplaceAll(s, "\n", " "))
}
