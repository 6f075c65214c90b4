package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/data/tinystories"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/tokenizer"
)

// function is a subject that is only a function.
type function struct {
	run   func(ctx context.Context) error
	units float64
}

func (f function) Run(ctx context.Context) (float64, error) { return f.units, f.run(ctx) }

func (f function) Close() error { return nil }

// benchText reads the text of tern bench tokenizer, which a file gives or the
// stories that ship with tern.
func benchText(path string) ([]byte, error) {
	if path == "" {
		return tinystories.Valid()
	}
	text, err := os.ReadFile(path)
	if err == nil && len(text) == 0 {
		return nil, usagef("name a file with text", "--text %s is empty", path)
	}
	return text, errors.Wrap(err, "read --text")
}

// tokenizerCases measure the way from text to tokens and back. dir is for
// files.
func tokenizerCases(name, path, dir string, threads []int) ([]benchCase, error) {
	tok, err := tokenizer.Open(name)
	if err != nil {
		return nil, err
	}
	text, err := benchText(path)
	if err != nil {
		return nil, err
	}
	if path == "" {
		path = filepath.Join(dir, "text.txt")
		if err := os.WriteFile(path, text, 0o666); err != nil {
			return nil, errors.Wrap(err, "write the text for the tokenizer")
		}
	}
	ids := tok.Encode(nil, text)
	mb := float64(len(text)) / 1e6
	each := func(what string, threads []int, open func(threads int) function) benchCase {
		return benchCase{
			part: "tokenizer", series: tok.Name(), name: what, unit: "MB/s", item: "pass", units: mb, work: work{Bytes: float64(len(text))},
			params: map[string]any{"tokenizer": tok.Name(), "bytes": len(text), "tokens": len(ids)}, threads: threads,
			values: map[string]string{"text": path, "what": what, "tokens": fmt.Sprint(len(ids))},
			open: func(_ context.Context, be framework.Backend) (subject, error) {
				f := open(describe(be).Threads)
				f.units = mb
				return f, nil
			},
		}
	}
	return []benchCase{
		each("encode", []int{1}, func(int) function {
			buf := make([]int32, 0, len(ids))
			return function{run: func(context.Context) error { buf = tok.Encode(buf[:0], text); return nil }}
		}),
		each("decode", []int{1}, func(int) function {
			buf := make([]byte, 0, len(text))
			return function{run: func(context.Context) error { buf = tok.AppendDecode(buf[:0], ids); return nil }}
		}),
		each("prepare", threads, func(workers int) function { return preparation(name, path, dir, workers) }),
	}, nil
}

// preparation reads the text's file and writes a token file.
func preparation(tokenizer, path, dir string, workers int) function {
	out := filepath.Join(dir, fmt.Sprintf("tokens-%d.bin", workers))
	return function{run: func(ctx context.Context) error {
		_, err := data.Prepare(ctx, data.PrepareOptions{Inputs: []string{path}, Out: out, Tokenizer: tokenizer, Workers: workers, Format: "text"})
		return err
	}}
}

// tokenizerFlags are those of tern bench tokenizer.
type tokenizerFlags struct{ tokenizer, text string }

func newBenchTokenizerCmd(a *app) *cobra.Command {
	var f benchFlags
	var t tokenizerFlags
	cmd := &cobra.Command{
		Use:   "tokenizer",
		Short: "Measure the way from text to tokens and back",
		Long: "Measures encoding and decoding in memory on one thread, and tern data prepare, from a file of text to a token file.\n" +
			"MB are 10^6 bytes of text. No backend takes part, so there is no scalar figure.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.bench(cmd.Context(), f, "tokenizer", t.cases) },
	}
	fs := cmd.Flags()
	fs.StringVar(&t.tokenizer, "tokenizer", "gpt2", "gpt2, or gpt2:N for its first N ranks")
	fs.StringVar(&t.text, "text", "", "file of text; without it the embedded validation stories")
	f.add(fs, 5, 0.2)
	return cmd
}

func (t tokenizerFlags) cases(_ context.Context, l *lab, dir string) ([]benchCase, error) {
	return tokenizerCases(t.tokenizer, t.text, dir, l.threadsOf("tokenizer"))
}
