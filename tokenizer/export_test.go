package tokenizer

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func vocabularyOf(t testing.TB, name string) *Vocabulary {
	t.Helper()
	v, err := open(t, name).Vocabulary()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The published file of GPT-2's merges, a line each under a line with its
// version, has this SHA-256; tiktoken checks the file that it loads by it.
func TestMergesAreThePublishedFile(t *testing.T) {
	file := "#version: 0.2\n" + strings.Join(vocabularyOf(t, "gpt2").Merges, "\n") + "\n"
	const want = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
	if got := fmt.Sprintf("%x", sha256.Sum256([]byte(file))); got != want {
		t.Errorf("%d bytes with sum %s, want %s", len(file), got, want)
	}
}

// The first lines of that file, to see what is wrong.
func TestMergesAreThoseOfGPT2(t *testing.T) {
	v := vocabularyOf(t, "gpt2")
	want := []string{"Ġ t", "Ġ a", "h e", "i n", "r e", "o n", "Ġt he", "e r", "Ġ s", "a t"}
	if !slices.Equal(v.Merges[:len(want)], want) || len(v.Merges) != MaxVocab-1-256 {
		t.Errorf("%d merges, the first are %q, want %q", len(v.Merges), v.Merges[:len(want)], want)
	}
	if len(v.Tokens) != MaxVocab || v.Tokens[262] != "Ġthe" || v.Tokens[198] != "Ċ" || v.Tokens[50256] != EndOfText {
		t.Errorf("%d tokens: %q %q %q", len(v.Tokens), v.Tokens[262], v.Tokens[198], v.Tokens[50256])
	}
	if v.Types[50256] != TokenControl || v.Types[0] != TokenNormal || v.EOS != 50256 {
		t.Errorf("types %d %d, end %d", v.Types[50256], v.Types[0], v.EOS)
	}
}

// mergeByList encodes one piece as a program does that has nothing but the
// vocabulary: the first merge of the list, everywhere, until none is left.
func mergeByList(v *Vocabulary, rank map[string]int, piece string) []string {
	var parts []string
	for _, b := range []byte(piece) {
		parts = append(parts, printable([]byte{b}))
	}
	for {
		best, at := len(v.Merges), -1
		for i := range len(parts) - 1 {
			if r, ok := rank[parts[i]+" "+parts[i+1]]; ok && r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			return parts
		}
		parts = slices.Replace(parts, at, at+2, parts[at]+parts[at+1])
	}
}

func TestTheVocabularyEncodesAsItsTokenizerDoes(t *testing.T) {
	for _, name := range []string{"gpt2", "gpt2:4096", "gpt2:300", "gpt2:257"} {
		v, tok := vocabularyOf(t, name), open(t, name)
		rank, id := map[string]int{}, map[string]int32{}
		for i, m := range v.Merges {
			rank[m] = i
		}
		for i, s := range v.Tokens {
			id[s] = int32(i)
		}
		if len(id) != tok.Vocab() || len(rank) != len(v.Merges) {
			t.Fatalf("%s: %d different tokens of %d, %d merges of %d", name, len(id), tok.Vocab(), len(rank), len(v.Merges))
		}
		r := rand.New(rand.NewPCG(7, 1))
		text := []byte(strings.ToValidUTF8(string(validText(t)[:20_000])+randomText(r, 2000), "?"))
		want := tok.Encode(nil, text)
		var got []int32
		for len(text) > 0 {
			n := nextPiece(text)
			for _, part := range mergeByList(v, rank, string(text[:n])) {
				got = append(got, id[part])
			}
			text = text[n:]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %d ids by the merges, %d by the tokenizer, or others", name, len(got), len(want))
		}
	}
}
