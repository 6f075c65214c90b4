package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/data"
)

func newDataCmd(a *app) *cobra.Command {
	return newGroup("data", "Prepare text for training, and look at token files", newPrepareCmd(a), newDataInfoCmd(a))
}

func newPrepareCmd(a *app) *cobra.Command {
	var o data.PrepareOptions
	var force, asJSON bool
	cmd := &cobra.Command{
		Use:   "prepare INPUT... --out NAME.bin",
		Short: "Turn text, JSON, parquet or other programs' token files into a token file",
		Long: "Reads plain text with <|endoftext|> between documents, lines of JSON, a JSON array, parquet, and token files of\n" +
			"nanoGPT, llm.c and tern, packed by gzip or zstd or not, and writes NAME.bin and its manifest NAME.json.",
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Inputs = args
			return a.prepare(cmd.Context(), o, force, asJSON)
		},
	}
	fs := cmd.Flags()
	fs.SortFlags = false
	fs.StringVar(&o.Out, "out", "", "token file to write, NAME.bin")
	fs.StringVar(&o.Tokenizer, "tokenizer", "gpt2", "gpt2, or gpt2:N for its first N ranks; it must be the model's")
	fs.StringVar(&o.Format, "format", "", "format of the inputs; without it their content tells ("+strings.Join(data.Formats(), ", ")+")")
	fs.StringVar(&o.Field, "field", "", "key or column that holds the text")
	fs.BoolVar(&o.Verbatim, "verbatim", false, "keep line breaks at both ends of documents")
	fs.IntVar(&o.Workers, "workers", 0, "goroutines that tokenize; 0 is one for each processor")
	fs.BoolVar(&force, "force", false, "replace a file that is there")
	fs.BoolVar(&asJSON, "json", false, "write the manifest as JSON")
	return cmd
}

func (a *app) prepare(ctx context.Context, o data.PrepareOptions, force, asJSON bool) error {
	if o.Out == "" {
		return usagef("for example --out stories.bin", "--out is missing")
	}
	out := strings.TrimSuffix(o.Out, ".bin") + ".bin"
	for _, f := range []string{out, strings.TrimSuffix(out, ".bin") + ".json"} {
		if _, err := os.Lstat(f); err == nil && !force {
			return usagef("choose another --out, or replace it with --force", "%s exists", f)
		}
	}
	show := &byteProgress{a: a, begin: time.Now()}
	show.width, show.tty = a.terminal()
	o.Progress = show.update
	m, err := data.Prepare(ctx, o)
	show.done()
	if err != nil {
		return err
	}
	if asJSON {
		return a.json(m)
	}
	a.printManifest(out, m)
	return nil
}

func (a *app) printManifest(path string, m data.Manifest) {
	a.printf("file       %s\ntokenizer  %s, vocabulary %s\ntokens     %s\ndocuments  %s\ntext       %s bytes\nsha256     %s\n",
		path, m.Tokenizer, thousands(m.Vocab), thousands(m.Tokens), thousands(m.Documents), thousands(m.TextBytes), m.SHA256)
}

// byteProgress shows how much of the inputs is read, on a terminal.
type byteProgress struct {
	a     *app
	begin time.Time
	width int
	tty   bool
	shown time.Time
	any   bool
}

func (p *byteProgress) update(done, total int64) {
	if !p.tty || time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown, p.any = time.Now(), true
	spent := time.Since(p.begin).Seconds()
	rate := float64(done) / max(spent, 1e-9)
	line := fmt.Sprintf("%s | %.1f MB/s", size(done), rate/1e6)
	if total > 0 {
		line = fmt.Sprintf("%s of %s %.1f%% | %.1f MB/s | ETA %s", size(done), size(total), 100*float64(done)/float64(total),
			rate/1e6, duration(float64(total-done)/max(rate, 1)))
	}
	fmt.Fprintf(p.a.stderr, "\r%s\x1b[K", line[:min(len(line), p.width-1)])
}

func (p *byteProgress) done() {
	if p.any {
		fmt.Fprint(p.a.stderr, "\r\x1b[K")
	}
}

// tokenFileInfo is what tern data info reports.
type tokenFileInfo struct {
	File      string         `json:"file"`
	Tokenizer string         `json:"tokenizer"`
	Vocab     int            `json:"vocab"`
	Tokens    int            `json:"tokens"`
	SHA256    string         `json:"sha256"`
	Verified  bool           `json:"verified"`
	Manifest  *data.Manifest `json:"manifest,omitempty"`
	Begins    string         `json:"begins"` // text of the first tokens
}

func newDataInfoCmd(a *app) *cobra.Command {
	var asJSON, verify bool
	var tokenizer string
	cmd := &cobra.Command{
		Use:   "info FILE.bin",
		Short: "Say what a token file holds",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.tokenInfo(args[0], tokenizer, verify, asJSON)
		},
	}
	cmd.Flags().BoolVar(&verify, "verify", false, "read all of it: check the sha256 and every id")
	cmd.Flags().StringVar(&tokenizer, "tokenizer", "", "whose ids they are, for a file without a manifest")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

func (a *app) tokenInfo(path, tokenizer string, verify, asJSON bool) (err error) {
	t, err := data.OpenTokensAs(path, tokenizer)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, t.Close()) }()
	if verify {
		if err := t.Verify(); err != nil {
			return err
		}
	}
	head := make([]int32, min(t.Len(), 40))
	if err := t.Read(head, 0); err != nil {
		return err
	}
	sum, err := t.Fingerprint()
	if err != nil {
		return err
	}
	i := tokenFileInfo{
		File: t.Path(), Tokenizer: t.Tokenizer().Name(), Vocab: t.Vocab(), Tokens: t.Len(),
		SHA256: sum, Verified: verify, Begins: t.Tokenizer().Decode(head),
	}
	m, ok := t.Manifest()
	if ok {
		i.Manifest = &m
	}
	if asJSON {
		return a.json(i)
	}
	if ok {
		a.printManifest(i.File, m)
	} else {
		a.printf("file       %s (without a manifest)\ntokenizer  %s, vocabulary %s\ntokens     %s\nsha256     %s\n",
			i.File, i.Tokenizer, thousands(i.Vocab), thousands(i.Tokens), i.SHA256)
	}
	if verify {
		a.printf("verified   every id is in the vocabulary\n")
	}
	a.printf("begins     %q\n", i.Begins)
	return nil
}
