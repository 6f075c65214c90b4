// Command big writes a GGUF file of a model with the shapes of BitNet b1.58
// 2B4T and random ternary weights, on which programs can be measured:
//
//	go run ./interop/big --out model.gguf
//
// Of architecture llama, llama.cpp and tern run it; of bitnet it has norms
// before the last matrix of each sub-layer, too. The text that such a model
// writes has no sense. The same flags give the same file.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/gguf"
)

// errOption is returned for an option that no model can be made with.
var errOption = errors.New("cannot make such a model")

// options say what is written.
type options struct {
	sizes
	arch string
	typ  ggml.Type // of the linears
	seed uint64
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "big:", err)
		for _, hint := range errors.GetAllHints(err) {
			fmt.Fprintln(os.Stderr, "hint:", hint)
		}
		os.Exit(1)
	}
}

func run(args []string) error {
	o := options{sizes: bitnet2B}
	set := flag.NewFlagSet("big", flag.ContinueOnError)
	set.IntVar(&o.layers, "layers", o.layers, "blocks")
	set.IntVar(&o.vocab, "vocab", o.vocab, "tokens of the vocabulary")
	set.StringVar(&o.arch, "arch", "llama", "architecture: llama or bitnet")
	set.Uint64Var(&o.seed, "seed", 1, "of the weights")
	typ := set.String("type", "tq2_0", "type of the linears: "+typeNames())
	out := set.String("out", "", "file to write")
	if err := set.Parse(args); errors.Is(err, flag.ErrHelp) {
		return nil
	} else if err != nil {
		return err
	}
	if *out == "" || set.NArg() > 0 {
		return errors.WithHint(errors.Wrap(errOption, "no file named, or more than flags"), "name it with --out FILE")
	}
	var err error
	if o.typ, err = typeByName(*typ); err != nil {
		return err
	}
	return write(*out, o)
}

// write writes the file, whole or not at all.
func write(path string, o options) error {
	if err := o.check(); err != nil {
		return err
	}
	return errors.Wrapf(gguf.WriteFile(path, o.metadata(), o.tensors()), "write %s", path)
}

// linearTypes are what linears can be written in.
var linearTypes = []ggml.Type{ggml.TQ2_0, ggml.TQ1_0, ggml.Q2_0, ggml.F16}

func typeNames() string {
	names := make([]string, len(linearTypes))
	for i, t := range linearTypes {
		names[i] = strings.ToLower(t.String())
	}
	return strings.Join(names, ", ")
}

func typeByName(name string) (ggml.Type, error) {
	for _, t := range linearTypes {
		if strings.EqualFold(name, t.String()) {
			return t, nil
		}
	}
	return 0, errors.WithHintf(errors.Wrapf(errOption, "type %q", name), "choose one of %s", typeNames())
}
