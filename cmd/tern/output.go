package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/modelfile"
)

// The formats that a model is written in.
const (
	formatGGUF        = "gguf"
	formatHuggingFace = "huggingface"
	formatLlama2C     = "llama2c"
)

var formats = []string{formatGGUF, formatHuggingFace, formatLlama2C}

// typesHelp says what --type takes.
const typesHelp = "Linears are written as q2_0, tq2_0 or tq1_0 (ternary weights as they are, for\n" +
	"groups that are a multiple of 64, 256 and 256), f16, bf16, f32 or q8_0; what a ternary type cannot hold is refused\n" +
	"unless --allow-lossy is given. A head that was trained as int8 is q8_0 in every GGUF file. --packed writes ternary\n" +
	"weights with one scale a layer (--quant ternary:group=tensor) as transformers' BitNet models have them."

// output holds the flags of commands that write a model.
type output struct {
	format  string
	arch    string
	typ     string
	packed  bool
	name    string
	license string
	lossy   bool
	force   bool
}

func (o *output) add(fs *pflag.FlagSet) {
	fs.StringVar(&o.format, "format", "", "gguf, huggingface or llama2c; without it as the name of the output has it")
	fs.StringVar(&o.arch, "arch", "", "architecture of a GGUF file: "+strings.Join(modelfile.Arches, ", ")+"; without it llama where it fits")
	fs.StringVar(&o.typ, "type", "", "type of the linears: "+strings.ToLower(typeNames(modelfile.LlamaTypes))+"; without it q2_0 for ternary weights, else f16")
	fs.BoolVar(&o.packed, "packed", false, "with --format huggingface: ternary linears as BitNet's bytes of four codes, one scale for each; --type is that of the embedding")
	fs.BoolVar(&o.lossy, "allow-lossy", false, "round weights that a ternary type cannot hold, and report the error")
	fs.StringVar(&o.name, "name", "", "the model's name in the file")
	fs.StringVar(&o.license, "license", "", "the weights' licence in the file, as an SPDX identifier")
	fs.BoolVar(&o.force, "force", false, "replace files that are there")
}

func typeNames(types []ggml.Type) string {
	var names []string
	for _, t := range types {
		names = append(names, t.String())
	}
	return strings.Join(names, ", ")
}

// target is where a model goes, and as what.
type target struct {
	path, format string
	typ          ggml.Type
	typed        bool // the type was asked for
}

// target checks the flags, and that nothing is overwritten unasked.
func (o output) target(path string) (t target, err error) {
	t = target{path: path, format: o.format}
	if t.format == "" {
		t.format = map[string]string{".gguf": formatGGUF, ".bin": formatLlama2C, "": formatHuggingFace}[filepath.Ext(path)]
	}
	if !slices.Contains(formats, t.format) {
		hint := "name a file NAME.gguf or NAME.bin, a directory, or a --format"
		if o.format != "" {
			hint = framework.Suggest(o.format, formats)
		}
		return t, usagef(hint, "no format goes with %s", path)
	}
	if o.arch != "" && !slices.Contains(modelfile.Arches, o.arch) {
		return t, usagef(framework.Suggest(o.arch, modelfile.Arches), "--arch %s", o.arch)
	}
	if o.arch != "" && t.format != formatGGUF {
		return t, usagef("leave it out", "--arch %s: only GGUF files have one to choose", o.arch)
	}
	if o.packed && t.format != formatHuggingFace {
		return t, usagef("leave it out: --type q2_0 or tq2_0 packs ternary weights in a GGUF file", "--packed: only Hugging Face directories have such weights")
	}
	if t.typ, t.typed, err = o.chosen(t.format); err != nil {
		return t, err
	}
	return t, o.vacant(t)
}

// chosen is the type that --type names for a format.
func (o output) chosen(format string) (ggml.Type, bool, error) {
	types := map[string][]ggml.Type{formatGGUF: modelfile.LlamaTypes, formatHuggingFace: modelfile.HuggingFaceTypes, formatLlama2C: {ggml.F32}}[format]
	if o.typ == "" {
		return 0, false, nil
	}
	if o.arch == modelfile.Architecture {
		return 0, false, usagef("leave it out, or choose --arch llama", "--type %s: the weights of architecture tern are written as they are", o.typ)
	}
	var names []string
	for _, t := range types {
		if names = append(names, strings.ToLower(t.String())); strings.EqualFold(o.typ, t.String()) {
			return t, true, nil
		}
	}
	return 0, false, usagef(framework.Suggest(o.typ, names), "--type %s: %s has %s", o.typ, format, strings.Join(names, ", "))
}

// vacant refuses to replace files.
func (o output) vacant(t target) error {
	if o.force {
		return nil
	}
	files := []string{t.path}
	switch t.format {
	case formatGGUF:
		files = append(files, besideMHC(t.path))
	case formatHuggingFace:
		files = nil // the writer refuses a directory with a model
	case formatLlama2C:
		files = append(files, filepath.Join(filepath.Dir(t.path), "tokenizer.bin"))
	}
	for _, f := range files {
		if _, err := os.Lstat(f); err == nil {
			return usagef("choose another name, or replace it with --force", "%s exists", f)
		}
	}
	return nil
}

// written is what writing a model reports.
type written struct {
	File   string         `json:"file"`
	Format string         `json:"format"`
	Arch   string         `json:"arch,omitempty"`
	Type   string         `json:"type,omitempty"`
	Packed bool           `json:"packed,omitempty"`
	MHC    string         `json:"mhc,omitempty"`
	Bytes  int64          `json:"tensor_bytes,omitempty"`
	Loss   modelfile.Loss `json:"loss"`
}

// write writes w.
func (o output) write(w *modelfile.Weights, t target) (r written, err error) {
	if o.name != "" {
		w.Info.Name = o.name
	}
	if o.license != "" {
		w.Info.License = o.license
	}
	r = written{File: t.path, Format: t.format}
	switch t.format {
	case formatHuggingFace:
		return o.writeHuggingFace(w, t)
	case formatLlama2C:
		r.Type = strings.ToLower(ggml.F32.String())
		r.Loss, err = w.WriteLlama2C(t.path)
		return r, err
	}
	if r.Arch = o.arch; r.Arch == "" {
		r.Arch = w.DefaultArch()
	}
	if r.Arch == modelfile.Architecture {
		if t.typed {
			return r, w.CheckLlama(modelfile.Llama) // says why it was not llama
		}
		if r.MHC, err = export(w, t.path); err == nil {
			r.Bytes, err = w.Bytes()
		}
		return r, err
	}
	if !t.typed {
		t.typ = w.DefaultType()
	}
	r.Type = strings.ToLower(t.typ.String())
	r.Loss, err = w.WriteLlama(t.path, modelfile.LlamaOptions{Arch: r.Arch, Type: t.typ, Lossy: o.lossy})
	return r, err
}

// writeHuggingFace writes w as a directory; without --type in f16, or in what holds
// all that is not packed.
func (o output) writeHuggingFace(w *modelfile.Weights, t target) (r written, err error) {
	switch {
	case t.typed:
	case o.packed:
		if t.typ, err = w.PackedType(); err != nil {
			return r, err
		}
	default:
		t.typ = ggml.F16
	}
	r = written{File: t.path, Format: t.format, Type: strings.ToLower(t.typ.String()), Packed: o.packed}
	r.Loss, err = w.WriteHuggingFace(t.path, modelfile.HuggingFaceOptions{Type: t.typ, Packed: o.packed})
	return r, err
}

// printWritten says what was written.
func (a *app) printWritten(r written) {
	switch {
	case r.Arch == modelfile.Architecture:
		a.printf("          %s: architecture tern, tensors of %s bytes\n", r.File, thousands(r.Bytes))
	case r.Arch != "":
		a.printf("          %s: architecture %s, linears in %s\n", r.File, r.Arch, r.Type)
	case r.Packed:
		a.printf("          %s: %s, packed, the embedding in %s\n", r.File, r.Format, r.Type)
	default:
		a.printf("          %s: %s, %s\n", r.File, r.Format, r.Type)
	}
	if r.MHC != "" {
		a.printf("          %s\n", r.MHC)
	}
	if r.Loss.Folded > 0 {
		a.printf("          gains of the residual went into the weights: rounded by at most %.2g\n", r.Loss.Folded)
	}
	if r.Loss.Error > 0 {
		a.printf("          rounded: relative error at most %.2g, of %s\n", r.Loss.Error, r.Loss.Tensor)
	}
}
