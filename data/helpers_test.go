package data

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/ternlm/tern/data/tinystories"
	"github.com/ternlm/tern/tokenizer"
)

func open(t testing.TB, name string) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func validText(t testing.TB) []byte {
	t.Helper()
	b, err := tinystories.Valid()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// randomText draws from the places where the split could go wrong: white
// space of every kind, quotes, letters, digits and marks of several scripts,
// and now and then any character at all.
func randomText(r *rand.Rand, n int) string {
	alphabet := []rune("  \t\n\r\v\f\u0085\u00a0\u2003\u3000''''’sstdmrevlLSTRaZé09½²٣Ⅷ一あ가កŉ́⃣!?.-_<|>🦙👍🏽\u200d\ufeff\ufffd\u0000")
	var b strings.Builder
	for range n {
		switch r.IntN(12) {
		case 0:
			for {
				if c := rune(r.IntN(utf8.MaxRune + 1)); utf8.ValidRune(c) {
					b.WriteRune(c)
					break
				}
			}
		case 1:
			b.WriteRune(rune(r.IntN(0x3000)))
		case 2:
			b.WriteString([]string{" the", "ing", "ation", "Once", " upon", "'ll", "'re", "'ve", "   "}[r.IntN(9)])
		default:
			b.WriteRune(alphabet[r.IntN(len(alphabet))])
		}
	}
	return b.String()
}
