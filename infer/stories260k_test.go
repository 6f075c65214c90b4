package infer_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"path/filepath"
	"testing"

	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/data/tinystories"
	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/tokenizer"
	"github.com/ternlm/tern/train"
)

// stories260K is a model of llama2.c; its README says where it is from.
const stories260K = "testdata/stories260K/stories260K.bin"

// The text is the first storyBytes of the validation stories; loss.py beside the
// model printed the other three.
const (
	storyBytes = 12_000
	storyIDs   = 5638
	storySum   = "5709d98d371f0dcbf2d96cfa696c0c8bb662f19697b68c29bbb26ef87bfcf614"
	storyLoss  = 1.514292981
)

// story is what llama2.c's run.c writes in 200 steps at temperature 0
// (expected_stdout in test_all.py of karpathy/llama2.c).
const story = `Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. She said, "I want to play with your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she`

func openStories260K(t *testing.T) *modelfile.Weights {
	t.Helper()
	return openModel(t, stories260K)
}

func openModel(t *testing.T, path string) *modelfile.Weights {
	t.Helper()
	w, err := modelfile.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func TestStories260KWritesTheTextOfLlama2C(t *testing.T) {
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		ctx := context.Background()
		w := openStories260K(t)
		tok := must(w.Tokenizer())
		m := must(infer.Load(ctx, be, w))
		defer m.Close()
		s := must(m.NewSession())
		defer s.Close()
		prompt := tok.Begin()
		ids := prompt
		for id, err := range infer.Generate(ctx, s, prompt, must(infer.NewSampler(infer.Sampling{}, m.Config.Vocab)), tok.EOT(), 200) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		if got := tok.Decode(ids); got != story {
			t.Errorf("wrote %q", got)
		}
	})
}

// storyTokens are the ids of the text, which must be SentencePiece's.
func storyTokens(t *testing.T, tok *tokenizer.Tokenizer) *data.Tokens {
	t.Helper()
	tokens := must(data.TokenizeWith(context.Background(), must(tinystories.Valid())[:storyBytes], tok))
	ids := make([]int32, tokens.Len())
	if err := tokens.Read(ids, 0); err != nil {
		t.Fatal(err)
	}
	var raw []byte
	for _, id := range ids {
		raw = append(raw, byte(id), byte(id>>8))
	}
	if sum := sha256.Sum256(raw); len(ids) != storyIDs || hex.EncodeToString(sum[:]) != storySum {
		t.Errorf("%d ids with sum %x, SentencePiece gives %d with %s", len(ids), sum, storyIDs, storySum)
	}
	return tokens
}

// storyScore is the loss in nats a token of so many windows of 256 tokens, each in
// an empty context.
func storyScore(t *testing.T, be framework.Backend, w *modelfile.Weights, windows int) float64 {
	t.Helper()
	ctx := context.Background()
	e, err := train.NewEvaluator(ctx, be, w.Model, modelfile.Pass, storyTokens(t, must(w.Tokenizer())), 4, 256, windows)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	s := must(be.NewStore())
	defer s.Close()
	if err := w.Put(ctx, s); err != nil {
		t.Fatal(err)
	}
	score := must(e.Run(ctx, s))
	if score.Tokens != windows*256 {
		t.Fatalf("%d tokens scored", score.Tokens)
	}
	return score.Loss
}

func TestStories260KHasTheLossOfAnIndependentForward(t *testing.T) {
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		if got := storyScore(t, be, openStories260K(t), 20); math.Abs(got-storyLoss) > 1e-5 {
			t.Errorf("loss %v, want %v", got, storyLoss)
		}
	})
}

// As GGUF and back as llama2.c's file the model computes the same bits, and has
// the same ids.
func TestStories260KIsTheSameAfterConversion(t *testing.T) {
	dir := t.TempDir()
	there, back := filepath.Join(dir, "stories.gguf"), filepath.Join(dir, "back.bin")
	if _, err := openStories260K(t).WriteLlama(there, modelfile.LlamaOptions{Type: ggml.F32}); err != nil {
		t.Fatal(err)
	}
	if _, err := openModel(t, there).WriteLlama2C(back); err != nil {
		t.Fatal(err)
	}
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		want := storyScore(t, be, openStories260K(t), 4)
		for _, path := range []string{there, back} {
			if got := storyScore(t, be, openModel(t, path), 4); got != want {
				t.Errorf("%s: loss %v, was %v", filepath.Base(path), got, want)
			}
		}
	})
}
