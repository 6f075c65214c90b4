package tokenizer

import (
	"bytes"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
	"github.com/pkoukk/tiktoken-go"
	tiktoken_loader "github.com/pkoukk/tiktoken-go-loader"

	"github.com/ternlm/tern/data/tinystories"
)

func open(t testing.TB, name string) *Tokenizer {
	t.Helper()
	tok, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// reference returns the library's encoder, made the library's way for the
// whole vocabulary and with its pattern for a part of it.
func reference(t testing.TB, size int) func(string) []int32 {
	t.Helper()
	tiktoken.SetBpeLoader(tiktoken_loader.NewOfflineLoader())
	enc, err := tiktoken.GetEncoding("r50k_base")
	if err != nil {
		t.Fatal(err)
	}
	if size != MaxVocab {
		ranks, err := tiktoken_loader.NewOfflineLoader().LoadTiktokenBpe("r50k_base.tiktoken")
		if err != nil {
			t.Fatal(err)
		}
		for token, rank := range ranks {
			if rank >= size-1 {
				delete(ranks, token)
			}
		}
		const pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
		bpe, err := tiktoken.NewCoreBPE(ranks, nil, pattern)
		if err != nil {
			t.Fatal(err)
		}
		enc = tiktoken.NewTiktoken(bpe, nil, nil)
	}
	return func(s string) []int32 {
		var ids []int32
		for _, id := range enc.EncodeOrdinary(s) {
			ids = append(ids, int32(id))
		}
		return ids
	}
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

func TestEncodeMatchesVectorsOfAnotherImplementation(t *testing.T) {
	in, err := os.ReadFile("testdata/ggml-vocab-gpt-2.gguf.inp")
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile("testdata/ggml-vocab-gpt-2.gguf.out")
	if err != nil {
		t.Fatal(err)
	}
	texts := strings.Split(string(in), "\n__ggml_vocab_test__\n")
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(texts) < 45 || len(lines) < 45 {
		t.Fatalf("%d texts and %d lines, want 45", len(texts), len(lines))
	}
	tok := open(t, "gpt2")
	for i, line := range lines {
		var want []int32
		for _, f := range strings.Fields(line) {
			id, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, int32(id))
		}
		if got := tok.EncodeString(texts[i]); !slices.Equal(got, want) {
			t.Errorf("vector %d %q: %v, want %v", i, texts[i], got, want)
		}
	}
}

func TestEncodeMatchesTheLibrary(t *testing.T) {
	for _, size := range []int{257, 300, 1024, 4096, 50257} {
		t.Run(strconv.Itoa(size), func(t *testing.T) {
			tok, want := open(t, "gpt2:"+strconv.Itoa(size)), reference(t, size)
			r := rand.New(rand.NewPCG(1, uint64(size)))
			for range 1500 {
				s := randomText(r, 1+r.IntN(40))
				if got := tok.EncodeString(s); !slices.Equal(got, want(s)) {
					t.Fatalf("%q: %v, want %v", s, got, want(s))
				}
			}
			for _, story := range strings.Split(string(validText(t)), EndOfText)[:100] {
				if got := tok.EncodeString(story); !slices.Equal(got, want(story)) {
					t.Fatalf("%q differs", story)
				}
			}
		})
	}
}

func TestInvalidBytesAreEncodedAsTheLibraryDoes(t *testing.T) {
	tok, want := open(t, "gpt2"), reference(t, MaxVocab)
	for _, s := range []string{"\xff", "a\xc3", "\xe2\x82 x", "ok \xf0\x9f\xa6 \xed\xa0\x80!", "'\xffs"} {
		if got := tok.EncodeString(s); !slices.Equal(got, want(s)) {
			t.Errorf("%q: %v, want %v", s, got, want(s))
		}
	}
}

func TestLongPiecesMatchTheLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, size := range []int{300, 50257} {
		tok, want := open(t, "gpt2:"+strconv.Itoa(size)), reference(t, size)
		for _, n := range []int{longPiece - 1, longPiece, longPiece + 1, 200, 2000} {
			letters := make([]byte, n)
			for _, alphabet := range []string{"a", "ab", "aeinst", "abcdefghijklmnopqrstuvwxyz", "= "[:1], "0123456789"} {
				for i := range letters {
					letters[i] = alphabet[r.IntN(len(alphabet))]
				}
				s := string(letters)
				if got := tok.EncodeString(s); !slices.Equal(got, want(s)) {
					t.Errorf("vocabulary %d, %d bytes of %q differ", size, n, alphabet)
				}
			}
			s := strings.Repeat("é", n) + strings.Repeat("\n", n)
			if got := tok.EncodeString(s); !slices.Equal(got, want(s)) {
				t.Errorf("vocabulary %d, %d times é differs", size, n)
			}
		}
	}
}

func TestLongRunsTakeNoQuadraticTime(t *testing.T) {
	tok := open(t, "gpt2")
	for _, unit := range []string{"a", " ", "0", "=", "é", "abcd"} {
		text := bytes.Repeat([]byte(unit), 1<<20/len(unit))
		start := time.Now()
		ids := tok.Encode(nil, text)
		// Quadratic time would be 20 minutes.
		if d := time.Since(start); d > time.Minute {
			t.Errorf("1 MB of %q took %v", unit, d)
		}
		if tok.Decode(ids) != string(text) {
			t.Errorf("1 MB of %q does not come back", unit)
		}
	}
}

func TestRandomTextComesBack(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, name := range []string{"gpt2", "gpt2:257", "gpt2:2000"} {
		tok := open(t, name)
		for range 10000 {
			s := randomText(r, r.IntN(30))
			ids := tok.EncodeString(s)
			if got := tok.Decode(ids); got != s {
				t.Fatalf("%s: %q came back as %q", name, s, got)
			}
			if tok.BytesOf(ids) != len(s) {
				t.Fatalf("%s: %q is %d bytes, want %d", name, s, tok.BytesOf(ids), len(s))
			}
			for _, id := range ids {
				if id < 0 || id >= tok.EOT() {
					t.Fatalf("%s: id %d", name, id)
				}
			}
		}
	}
}

func TestStreamNeverCutsACharacter(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	tok := open(t, "gpt2:300")
	for range 2000 {
		s := randomText(r, r.IntN(20))
		stream, got := tok.NewStream(), ""
		for _, id := range tok.EncodeDocument(nil, []byte(s)) {
			part := stream.Push(id)
			if !utf8.ValidString(part) {
				t.Fatalf("%q: part %q", s, part)
			}
			got += part
		}
		if got += stream.Flush(); got != s {
			t.Fatalf("%q came as %q", s, got)
		}
	}
}

func TestStreamReplacesWhatIsNoCharacter(t *testing.T) {
	tok := open(t, "gpt2")
	single := func(b byte) int32 { return tok.vocab.rank([]byte{b}) }
	s := tok.NewStream()
	if got := s.Push(single(0xe2)) + s.Push(single(0x82)); got != "" {
		t.Errorf("the start of a character came out as %q", got)
	}
	if got := s.Push(single('a')); got != "\ufffd\ufffda" {
		t.Errorf("a broken character came out as %q", got)
	}
	if got := s.Push(single(0xf0)) + s.Flush() + s.Flush(); got != "\ufffd" {
		t.Errorf("the tail came out as %q", got)
	}
	if got := s.Push(-1) + s.Push(99999) + s.Push(tok.EOT()); got != "\ufffd\ufffd" {
		t.Errorf("ids without text came out as %q", got)
	}
}

func TestTokenizerNames(t *testing.T) {
	for name, vocab := range map[string]int{"gpt2": 50257, "gpt2:50257": 50257, "gpt2:257": 257, "gpt2:4096": 4096} {
		tok := open(t, name)
		if tok.Vocab() != vocab || tok.EOT() != int32(vocab-1) {
			t.Errorf("%s: vocabulary %d, end of text %d", name, tok.Vocab(), tok.EOT())
		}
		if again := open(t, tok.Name()); again != tok {
			t.Errorf("%s: its name %q opens another tokenizer", name, tok.Name())
		}
		if tok.Bytes(tok.EOT()) != 0 || tok.Bytes(-1) != 0 || tok.Bytes(tok.EOT()+1) != 0 || tok.Bytes(255) != 1 {
			t.Errorf("%s: wrong lengths", name)
		}
	}
	for _, name := range []string{"", "gpt", "gpt2:", "gpt2:256", "gpt2:50258", "gpt2:4k", "gpt2:-300", "gpt3:300", "gpt2:99999999999999999999"} {
		if _, err := Open(name); !errors.Is(err, ErrUnknown) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%q: error %v", name, err)
		}
	}
}

func FuzzTokenizer(f *testing.F) {
	f.Add("Once upon a time, there was a little girl. She'll  go\n\n  home 12½ 🦙")
	f.Add("''s're \t\u00a0\u3000x\xff")
	tok, small := open(f, "gpt2"), open(f, "gpt2:400")
	want := reference(f, MaxVocab)
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 1<<12 {
			return
		}
		if got := tok.EncodeString(s); !slices.Equal(got, want(s)) {
			t.Fatalf("%q: %v, want %v", s, got, want(s))
		}
		if got := small.Decode(small.EncodeString(s)); got != strings.ToValidUTF8(s, "\ufffd") && got != string([]rune(s)) {
			t.Fatalf("%q came back as %q", s, got)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	text := validText(b)
	for _, name := range []string{"gpt2", "gpt2:4096"} {
		b.Run(name, func(b *testing.B) {
			tok := open(b, name)
			dst := tok.Encode(nil, text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				dst = tok.Encode(dst[:0], text)
			}
		})
	}
}

func BenchmarkEncodeOneRun(b *testing.B) {
	for _, unit := range []string{"a", "0", "=", "ab"} {
		b.Run(unit, func(b *testing.B) {
			tok, text := open(b, "gpt2"), bytes.Repeat([]byte(unit), 1<<20/len(unit))
			var dst []int32
			for b.Loop() {
				dst = tok.Encode(dst[:0], text)
			}
		})
	}
}
