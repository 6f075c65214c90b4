package diagnose_test

import (
	"context"
	"slices"
	"testing"

	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/diagnose"
)

func TestATextHasAsManyWindowsAsItHas(t *testing.T) {
	tokens := must(data.TokenizeText(context.Background(), []byte("Tom has a red ball. He likes it.\n"), "gpt2:320"))
	two := must(diagnose.FirstWindows(tokens, 2, 4))
	if two.Batch != 2 || two.Window != 4 || len(two.Tokens) != 8 || !slices.Equal(two.Tokens[1:4], two.Targets[:3]) {
		t.Errorf("%+v", two)
	}
	all := must(diagnose.FirstWindows(tokens, 1000, 4))
	if n := (tokens.Len() - 1) / 4; all.Batch > n || all.Batch < n-1 || len(all.Tokens) != 4*all.Batch {
		t.Errorf("%d windows of %d tokens", all.Batch, tokens.Len())
	}
	if !slices.Equal(all.Tokens[:8], two.Tokens) {
		t.Error("more windows begin otherwise")
	}
	if _, err := diagnose.FirstWindows(tokens, 2, 4000); err == nil {
		t.Error("a text without a window is accepted")
	}
}
