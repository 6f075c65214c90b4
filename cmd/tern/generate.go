package main

import (
	"context"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/tokenizer"
)

// generation says how a text is generated.
type generation struct {
	infer.Sampling
	Tokens int // at most; 0 is as many as the context holds
}

// generated is what a generation reports.
type generated struct {
	Prompt        int     `json:"prompt_tokens"`
	Tokens        int     `json:"tokens"`
	PromptSeconds float64 `json:"prompt_s"`
	Seconds       float64 `json:"s"` // of the tokens
}

// run feeds the prompt and shows it and the text that follows, piece by piece.
func (g generation) run(ctx context.Context, m *infer.Model, tok *tokenizer.Tokenizer, prompt string, show func(string) error) (r generated, err error) {
	smp, err := infer.NewSampler(g.Sampling, m.Config.Vocab)
	if err != nil {
		return r, err
	}
	ids := tok.Encode(tok.Begin(), []byte(prompt))
	limit := g.Tokens
	if room := m.Config.Context - len(ids); limit == 0 || limit > room {
		limit = max(1, room)
	}
	s, err := m.NewSession()
	if err != nil {
		return r, err
	}
	defer func() { err = errors.CombineErrors(err, s.Close()) }()
	if err := show(prompt); err != nil {
		return r, err
	}
	r.Prompt = len(ids)
	begin, stream := time.Now(), tok.NewStream()
	for id, err := range infer.Generate(ctx, s, ids, smp, tok.EOT(), limit) {
		if err != nil {
			return r, err
		}
		if r.Tokens == 0 {
			r.PromptSeconds = time.Since(begin).Seconds()
			begin = time.Now()
		}
		r.Tokens++
		if err := show(stream.Push(id)); err != nil {
			return r, err
		}
	}
	r.Seconds = time.Since(begin).Seconds()
	return r, show(stream.Flush())
}

// checkPrompt refuses what is no text.
func checkPrompt(prompt string) error {
	if !utf8.ValidString(prompt) {
		return usagef("check the encoding of the terminal or the file that it comes from", "the prompt %q is not valid UTF-8", prompt)
	}
	return nil
}

// generateCmd holds the flags of tern generate.
type generateCmd struct {
	g       generation
	model   string
	cache   string
	backend backendFlags
	json    bool
}

// cacheTypes are the values of --cache.
var cacheTypes = map[string]tensor.DType{"f32": tensor.F32, "f16": tensor.F16}

func newGenerateCmd(a *app) *cobra.Command {
	var c generateCmd
	cmd := &cobra.Command{
		Use:   "generate [PROMPT]",
		Short: "Write a text; without a model a story, by the model that ships with tern",
		Args:  usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			prompt := "Once upon a time"
			if len(args) > 0 {
				prompt = args[0]
			}
			return c.run(cmd.Context(), a, prompt)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&c.model, "model", "", "GGUF file, checkpoint or run; without it the model that ships with tern")
	fs.Float64Var(&c.g.Temperature, "temperature", 0.8, "0 takes the likeliest token")
	fs.IntVar(&c.g.TopK, "top-k", 40, "choose from the k likeliest tokens; 0 is all")
	fs.Float64Var(&c.g.TopP, "top-p", 0, "choose from the likeliest tokens with this probability together; 0 is all")
	fs.Uint64Var(&c.g.Seed, "seed", 1, "of the choices")
	fs.IntVar(&c.g.Tokens, "tokens", 0, "most tokens to write; 0 is as many as the context holds")
	fs.StringVar(&c.cache, "cache", "f32", "how keys and values are kept: f32, or f16 in half the memory")
	c.backend.add(fs)
	fs.BoolVar(&c.json, "json", false, "write the text and the speed as JSON")
	return cmd
}

func (c generateCmd) run(ctx context.Context, a *app, prompt string) (err error) {
	if err := c.g.Validate(); err != nil {
		return err
	}
	if c.g.Tokens < 0 {
		return usagef("0 is as many as the context holds", "--tokens %d", c.g.Tokens)
	}
	if err := checkPrompt(prompt); err != nil {
		return err
	}
	cache, ok := cacheTypes[c.cache]
	if !ok {
		return usagef("choose f32 or f16", "--cache %s", c.cache)
	}
	be, err := c.backend.open(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, be.Close()) }()
	w, err := openWeightsOr(ctx, be, c.model)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, w.Close()) }()
	// The tokenizer's tables are made beside the graphs; who needs them waits.
	go func() { _, _ = w.Tokenizer() }()
	m, err := infer.Load(ctx, be, w, infer.CacheType(cache))
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, m.Close()) }()

	tok, err := w.Tokenizer()
	if err != nil {
		return err
	}
	var text strings.Builder
	r, err := c.g.run(ctx, m, tok, prompt, func(s string) error {
		text.WriteString(s)
		if c.json {
			return nil
		}
		_, err := io.WriteString(a.stdout, s)
		return err
	})
	if err != nil {
		return err
	}
	if c.json {
		return a.json(struct {
			Text string `json:"text"`
			generated
		}{text.String(), r})
	}
	a.printf("\n")
	if a.verbose {
		a.note("%d tokens of prompt in %.2f s, %d tokens in %.2f s: %.1f tok/s on %s", r.Prompt, r.PromptSeconds,
			r.Tokens, r.Seconds, float64(max(0, r.Tokens-1))/max(r.Seconds, 1e-9), be.Name())
	}
	return nil
}
