package tokenizer

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// randomWord is n letters of few, so that tokens and texts meet.
func randomWord(r *rand.Rand, n int) string {
	s := make([]rune, n)
	for i := range s {
		s[i] = []rune("aabcé")[r.IntN(5)]
	}
	return string(s)
}

// spmByLoop merges as SentencePiece is defined: the pair whose text has the
// highest score, the leftmost among equals, until no pair is a token.
func spmByLoop(v *Vocabulary, text string) []int32 {
	id := map[string]int{}
	for i, s := range v.Tokens {
		id[s] = i
	}
	parts := strings.Split(text, "")
	for {
		best := -1
		for i := range len(parts) - 1 {
			at, ok := id[parts[i]+parts[i+1]]
			if ok && (best < 0 || v.Scores[at] > v.Scores[id[parts[best]+parts[best+1]]]) {
				best = i
			}
		}
		if best < 0 {
			break
		}
		parts = slices.Replace(parts, best, best+2, parts[best]+parts[best+1])
	}
	var ids []int32
	for _, p := range parts {
		ids = append(ids, int32(id[p]))
	}
	return ids
}

func TestMergesByScoreAreThoseOfAPlainLoop(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	for range 30 {
		v := &Vocabulary{Model: "llama", Tokens: append(strings.Split("abcé"+space, ""), space+space), BOS: -1, EOS: -1, UNK: -1, PAD: -1}
		for range 40 {
			s := randomWord(r, 1+r.IntN(4))
			if r.IntN(3) == 0 {
				s = strings.Repeat(space, 1+r.IntN(3)) + s
			}
			if r.IntN(20) == 0 {
				s += space
			}
			if !slices.Contains(v.Tokens, s) {
				v.Tokens = append(v.Tokens, s)
			}
		}
		for range v.Tokens {
			v.Scores = append(v.Scores, float32(r.IntN(12)))
		}
		tok := newTokenizer(t, v)
		for range 60 {
			text := randomWord(r, 1+r.IntN(90))
			for range r.IntN(4) {
				text += strings.Repeat(" ", 1+r.IntN(4)) + randomWord(r, r.IntN(20))
			}
			want := spmByLoop(v, strings.ReplaceAll(text, " ", space))
			if got := tok.EncodeString(text); !slices.Equal(got, want) {
				t.Fatalf("%q: %v, want %v\n%q %v", text, got, want, v.Tokens, v.Scores)
			}
		}
	}
}

func TestMergesByListAreThoseOfAPlainLoop(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	for range 30 {
		v := &Vocabulary{Model: "gpt2", Pre: "gpt-2", BOS: -1, EOS: -1, UNK: -1, PAD: -1}
		for b := range 256 {
			v.Tokens = append(v.Tokens, printable([]byte{byte(b)}))
		}
		known := []string{"a", "b", "c", printable([]byte("é")[:1]), printable([]byte("é")[1:])}
		for range 60 {
			left, right := known[r.IntN(len(known))], known[r.IntN(len(known))]
			if m := left + " " + right; !slices.Contains(v.Merges, m) {
				v.Merges, known = append(v.Merges, m), append(known, left+right)
			}
			if !slices.Contains(v.Tokens, left+right) {
				v.Tokens = append(v.Tokens, left+right)
			}
		}
		r.Shuffle(len(v.Merges), func(i, j int) { v.Merges[i], v.Merges[j] = v.Merges[j], v.Merges[i] })
		r.Shuffle(len(v.Tokens), func(i, j int) { v.Tokens[i], v.Tokens[j] = v.Tokens[j], v.Tokens[i] })
		rank := map[string]int{}
		for i, m := range v.Merges {
			rank[m] = i
		}
		tok := newTokenizer(t, v)
		for range 60 {
			text := randomWord(r, 1+r.IntN(100))
			var want []int32
			for _, part := range mergeByList(v, rank, text) {
				want = append(want, int32(slices.Index(v.Tokens, part)))
			}
			if got := tok.EncodeString(text); !slices.Equal(got, want) {
				t.Fatalf("%q: %v, want %v", text, got, want)
			}
		}
	}
}

// findByLoop cuts text as llama.cpp does: for each token, the longest first, in
// all that is still text, from the left.
func findByLoop(texts []string, text string) []found {
	type part struct {
		at   int
		text string
		id   int32
	}
	order := make([]int32, len(texts))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return len(texts[b]) - len(texts[a]) })
	parts := []part{{text: text, id: -1}}
	for _, id := range order {
		for i := 0; i < len(parts); i++ {
			p := parts[i]
			at := strings.Index(p.text, texts[id])
			if p.id >= 0 || at < 0 {
				continue
			}
			end := at + len(texts[id])
			parts = slices.Replace(parts, i, i+1, part{p.at, p.text[:at], -1}, part{p.at + at, p.text[at:end], id}, part{p.at + end, p.text[end:], -1})
			i++
		}
	}
	var all []found
	for _, p := range parts {
		if p.id >= 0 {
			all = append(all, found{p.at, p.at + len(p.text), p.id})
		}
	}
	return all
}

// A place that is left with a shorter token comes before those behind it.
func TestUserDefinedTokensInWhatLongerOnesLeave(t *testing.T) {
	got := newUserTokens([]string{"aaab", "bcdef", "aa"}, []int32{0, 1, 2}).find([]byte("aaabcdef"))
	if want := []found{{0, 2, 2}, {3, 8, 1}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Tokens of one length do not overlap here: llama.cpp leaves their order open.
func TestUserDefinedTokensAreThoseOfAPlainLoop(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 9))
	for range 4000 {
		var texts []string
		var ids []int32
		for _, n := range r.Perm(9)[:1+r.IntN(5)] {
			texts, ids = append(texts, randomWord(r, n+1)), append(ids, int32(len(ids)))
		}
		slices.SortFunc(texts, func(a, b string) int { return len(a) - len(b) })
		texts = slices.CompactFunc(texts, func(a, b string) bool { return len(a) == len(b) })
		text := randomWord(r, r.IntN(40))
		got := newUserTokens(texts, ids[:len(texts)]).find([]byte(text))
		if want := findByLoop(texts, text); !slices.Equal(got, want) {
			t.Fatalf("%q in %q: %v, want %v", texts, text, got, want)
		}
	}
}

func TestEverySplitTakesAllOfATextAndCutsNoCharacter(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 9))
	for name, s := range splits {
		for range 300 {
			text := []byte(strings.ToValidUTF8(randomText(r, 1+r.IntN(30)), ""))
			var cut func(text []byte, stages []stage)
			var got []byte
			cut = func(text []byte, stages []stage) {
				for len(text) > 0 {
					n := len(text)
					if len(stages) > 0 {
						n = stages[0](text)
					}
					if n < 1 || n > len(text) || !utf8.Valid(text[:n]) {
						t.Fatalf("%s: a piece of %d bytes in %q", name, n, text)
					}
					if len(stages) > 0 {
						cut(text[:n], stages[1:])
					} else {
						got = append(got, text[:n]...)
					}
					text = text[n:]
				}
			}
			if cut(text, s.stages); !bytes.Equal(got, text) {
				t.Fatalf("%s: %q became %q", name, text, got)
			}
		}
	}
}

// The pieces are written down by the expressions of llama.cpp.
func TestPiecesOfSplits(t *testing.T) {
	for _, c := range []struct {
		split, text string
		want        []string
	}{
		{"llama-bpe", "Hello world", []string{"Hello", " world"}},
		{"llama-bpe", "don't WE'LL 'S", []string{"don", "'t", " WE", "'LL", " '", "S"}},
		{"llama-bpe", "'s're'Vex'LLx'x", []string{"'s", "'re", "'Ve", "x", "'LL", "x", "'x"}},
		{"llama-bpe", "12345a 67", []string{"123", "45", "a", " ", "67"}},
		{"llama-bpe", "  x", []string{" ", " x"}},
		{"llama-bpe", "a  \n b", []string{"a", "  \n", " b"}},
		{"llama-bpe", "a\nb\rc", []string{"a", "\n", "b", "\r", "c"}},
		{"llama-bpe", "a \r\n\n\tb", []string{"a", " \r\n\n", "\tb"}},
		{"llama-bpe", "!?\n\nx  ", []string{"!?\n\n", "x", "  "}},
		{"llama-bpe", "(foo) [3]\t\t{", []string{"(foo", ")", " [", "3", "]", "\t", "\t", "{"}},
		{"llama-bpe", "\u00a0x \u3000. —", []string{"\u00a0x", " ", "\u3000", ".", " —"}},
		{"qwen2", "a1234 5", []string{"a", "1", "2", "3", "4", " ", "5"}},
		{"gpt-2", "a1234 5 ?", []string{"a", "1234", " 5", " ?"}},
		{"smollm", "a12 3½ x'S", []string{"a", "1", "2", " ", "3", "½", " x", "'", "S"}},
		{"falcon", "a `$b 1234567 «x »y", []string{"a", " ", "`$", "b", " ", "123", "456", "7", " ", "«", "x", " ", "»", "y"}},
		{"falcon", "12½345", []string{"12½", "345"}},
		{"default", "a `$b 1234567", []string{"a", " `", "$", "b", " ", "123", "456", "7"}},
		{"default", "a 12½345", []string{"a", " ", "12½", "345"}},
		{"deepseek-coder", "$, x  (", []string{"$", ",", " x", " ", " ("}},
		{"deepseek-coder", "if (x)\n\n  ab12", []string{"if", " (", "x", ")", "\n", "\n", " ", " ab", "1", "2"}},
		{"deepseek-coder", "$你\u9fa5\u9fa6 ", []string{"$", "你\u9fa5", "\u9fa6", " "}},
		{"deepseek-coder", "+\u0840\u1000\u1038=", []string{"+", "\u0840\u1000", "\u1038", "="}},
		{"deepseek-coder", "\u1038 \u2028", []string{"\u1038", " \u2028"}},
	} {
		var got []string
		var cut func(text []byte, stages []stage)
		cut = func(text []byte, stages []stage) {
			if len(stages) == 0 {
				got = append(got, string(text))
				return
			}
			for len(text) > 0 {
				n := stages[0](text)
				cut(text[:n], stages[1:])
				text = text[n:]
			}
		}
		if cut([]byte(c.text), splits[c.split].stages); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q: %q, want %q", c.split, c.text, got, c.want)
		}
	}
}

// FuzzNew makes a vocabulary of lines: the first byte of each says what it is.
func FuzzNew(f *testing.F) {
	f.Add("\x01a\n\x01b\n\x01ab\n\x21a b\n\x06<0x41>\n\x04  \n\x02?", uint8(0), int8(0), "ab  abA")
	f.Add("\x01a\n\x31\u2581a\n\x01\u2581\n\x41aa\n\x06<0x00>\n\x03</s>\n\x51a\u2581a", uint8(1), int8(5), "aa a</s>")
	f.Add("\x04a\n\x04ab\n\x04bcd\n\x01a", uint8(7), int8(-1), "abcdabcd")
	f.Fuzz(func(t *testing.T, lines string, model uint8, id int8, text string) {
		if len(lines) > 1<<12 || len(text) > 1<<12 {
			return
		}
		names := []string{"", "gpt-2", "llama-bpe", "falcon", "deepseek-coder", "smollm", "none"}
		v := &Vocabulary{Model: []string{"gpt2", "llama"}[model&1], Pre: names[int(model>>1)%len(names)], BOS: int32(id), EOS: -1, UNK: int32(id), PAD: -1}
		v.AddSpacePrefix, v.AddBOS = model&0x80 != 0, model&0x40 != 0
		for line := range strings.SplitSeq(lines, "\n") {
			if line == "" {
				continue
			}
			if kind := line[0]; kind&0xf0 == 0x20 {
				v.Merges = append(v.Merges, line[1:])
			} else {
				v.Tokens, v.Types, v.Scores = append(v.Tokens, line[1:]), append(v.Types, int32(kind&15)), append(v.Scores, float32(kind>>4))
			}
		}
		tok, err := New(v)
		if err != nil {
			return
		}
		ids := tok.EncodeDocument(tok.Begin(), []byte(text))
		for _, id := range ids {
			if id < 0 || int(id) >= tok.Vocab() {
				t.Fatalf("id %d of %d", id, tok.Vocab())
			}
		}
		_ = tok.Decode(ids)
		if again := tok.EncodeDocument(tok.Begin(), []byte(text)); !slices.Equal(again, ids) {
			t.Fatalf("%q: %v, then %v", text, ids, again)
		}
	})
}
