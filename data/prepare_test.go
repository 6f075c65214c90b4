package data

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/ternlm/tern/data/tinystories"
	"github.com/ternlm/tern/tokenizer"
)

// prepare writes a token file from inputs and returns its bytes.
func prepare(t testing.TB, o PrepareOptions) ([]byte, Manifest) {
	t.Helper()
	o.Out = filepath.Join(t.TempDir(), "out")
	m, err := Prepare(context.Background(), o)
	if err != nil {
		t.Fatalf("%v (hints %v)", err, errors.GetAllHints(err))
	}
	b, err := os.ReadFile(o.Out + ".bin")
	if err != nil {
		t.Fatal(err)
	}
	return b, m
}

// encoded returns the bytes that documents should come to.
func encoded(t testing.TB, tokenizer string, docs []string) []byte {
	t.Helper()
	tok := open(t, tokenizer)
	var b []byte
	for _, d := range docs {
		for _, id := range tok.EncodeDocument(nil, []byte(d)) {
			b = append(b, u16(uint16(id))...)
		}
	}
	return b
}

func toJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestValidationStoriesHaveThePublishedChecksum(t *testing.T) {
	path := writeFile(t, "valid.txt", validText(t))
	bin, m := prepare(t, PrepareOptions{Inputs: []string{path}})
	const published = "5f2d5a7972a450f23d4fcb6a3f94dfc4c40ed5cf5a0ce616b895ae5308f4fd85"
	want := Manifest{
		Format: "tern-tokens", Version: 1, Tokenizer: "gpt2", Vocab: 50257, EOT: 50256,
		Tokens: 194559, Documents: 1000, SHA256: published, Sources: []string{"valid.txt"},
	}
	for _, s := range strings.Split(string(validText(t)), tokenizer.EndOfText) {
		want.TextBytes += int64(len(strings.TrimSpace(s)))
	}
	if d := cmp.Diff(want, m); d != "" {
		t.Error(d)
	}
	if got := fmt.Sprintf("%x", sha256.Sum256(bin)); got != published {
		t.Errorf("the file's sha256 is %s", got)
	}
	tokens, err := TokenizeText(context.Background(), validText(t), "gpt2")
	if err != nil {
		t.Fatal(err)
	}
	if sum, err := tokens.Fingerprint(); err != nil || sum != published {
		t.Errorf("in memory: %s, %v", sum, err)
	}
}

func TestTrainingStoriesHaveThePublishedCount(t *testing.T) {
	text, err := tinystories.Train()
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := TokenizeText(context.Background(), text, "gpt2")
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := tokens.Manifest(); !ok || m.Tokens != 1798294 || m.Documents != tinystories.TrainStories {
		t.Errorf("%+v", m)
	}
}

func pack(t testing.TB, kind string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	if kind == "zstd" {
		z, err := zstd.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestFormatsComeToTheSameTokens(t *testing.T) {
	docs := []string{
		"Once upon a time, there was a cat.", "He said \"no\\yes\" [1] {2}, ok?\n\n'It's' – ½ 🦙 \u00e9", "x",
		"[", "{\"a\"", `one " quote ], {and`, strings.Repeat(`\`, 100000), strings.Repeat("long story. ", 300) + "End.",
	}
	text := "\n" + docs[0] + "\n" + tokenizer.EndOfText + "\n\n" + strings.Join(docs[1:], "\n"+tokenizer.EndOfText+"\r\n") + tokenizer.EndOfText + " \n"
	var texts, stories, mixed, array, quoted []string
	var ids, before []uint16
	for _, d := range docs {
		texts = append(texts, string(toJSON(t, map[string]any{"id": 1, "text": d, "story": "no"})))
		stories = append(stories, string(toJSON(t, map[string]any{"summary": "no", "tags": []string{"]", "}"}, "story": d})))
		mixed = append(mixed, string(toJSON(t, map[string]any{"n": 7, "body": "\n\r\n" + d + "\n"})))
		quoted = append(quoted, string(toJSON(t, d)))
		before = append(before, 50256)
		for _, id := range open(t, "gpt2").EncodeString(d) {
			ids, before = append(ids, uint16(id)), append(before, uint16(id))
		}
		ids = append(ids, 50256)
	}
	for i, s := range stories {
		array = append(array, s+strings.Repeat(" \n\t", i%2))
	}
	inputs := map[string][]byte{
		"text":             []byte(text),
		"text, mark":       []byte("\ufeff" + text),
		"text, gzip":       pack(t, "gzip", []byte(text)),
		"text, zstd":       pack(t, "zstd", []byte(text)),
		"jsonl, text":      []byte(strings.Join(texts, "\n")),
		"jsonl, story":     []byte("\ufeff" + strings.Join(stories, "\r\n\n") + "\n"),
		"jsonl, only":      []byte(strings.Join(mixed, "\n")),
		"jsonl, string":    []byte(strings.Join(quoted, "\n")),
		"jsonl, null":      []byte(`{"text":null}` + "\n" + strings.Join(texts, "\n")),
		"jsonl, zstd":      pack(t, "zstd", []byte(strings.Join(texts, "\n"))),
		"array":            []byte("\n [" + strings.Join(array, ",") + "]\n"),
		"array of strings": []byte("[" + strings.Join(quoted, " ,\n ") + "]"),
		"nanogpt":          u16(ids...),
		"nanogpt, no end":  u16(ids[:len(ids)-1]...),
		"llm.c":            llmc(1, int32(len(before)), before...),
	}
	for _, tokenizer := range []string{"gpt2", "gpt2:700"} {
		want := encoded(t, tokenizer, docs)
		for name, data := range inputs {
			for _, workers := range []int{1, 3} {
				path := writeFile(t, "input", data)
				got, m := prepare(t, PrepareOptions{Inputs: []string{path}, Tokenizer: tokenizer, Workers: workers})
				if !bytes.Equal(got, want) {
					t.Errorf("%s, %s, %d workers: %d bytes, want %d", name, tokenizer, workers, len(got), len(want))
				}
				if m.Documents != int64(len(docs)) || m.TextBytes != int64(len(strings.Join(docs, ""))) || m.Tokens != int64(len(want)/2) {
					t.Errorf("%s: %+v", name, m)
				}
			}
		}
	}
}

func TestParquetOfAnotherWriterIsRead(t *testing.T) {
	docs := []string{
		"Once upon a time, there was a little girl named Lily. She liked ½ an apple.", "The end.",
		"  Tom's dog said \"wow\".\n\nThen it ran.  ", "Füße 🦙",
	}
	want := encoded(t, "gpt2", docs)
	for file, o := range map[string]PrepareOptions{
		"text.snappy.parquet": {}, "body.zstd.parquet": {}, "two.parquet": {Field: "b"},
	} {
		o.Inputs = []string{filepath.Join("testdata", file)}
		if got, _ := prepare(t, o); !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, want %d", file, len(got), len(want))
		}
	}
}

func TestLineBreaksAtTheEndsOfDocuments(t *testing.T) {
	text := []byte("\n\na \r\n\r\n<|endoftext|>\n \n\n<|endoftext|>\r\n \nb\n<|endoftext|>")
	lines := []byte("\"\\n\\n\\na\\r\\n\"\n\"\\n \"\n\" b\"")
	for name, c := range map[string]struct {
		data     []byte
		verbatim bool
		want     []string
	}{
		"text":            {text, false, []string{"a ", " \nb"}},
		"text, verbatim":  {text, true, []string{"\na \r\n", " \nb"}},
		"jsonl":           {lines, false, []string{"a", " b"}},
		"jsonl, verbatim": {lines, true, []string{"\n\n\na\r\n", " b"}},
	} {
		got, _ := prepare(t, PrepareOptions{Inputs: []string{writeFile(t, "in", c.data)}, Verbatim: c.verbatim})
		if !bytes.Equal(got, encoded(t, "gpt2", c.want)) {
			t.Errorf("%s: %v, want the tokens of %q", name, got, c.want)
		}
	}
}

func TestSeveralInputsFollowEachOther(t *testing.T) {
	a := writeFile(t, "a.txt", []byte("one\n<|endoftext|>\ntwo"))
	b := writeFile(t, "b.jsonl", []byte(`{"text":"three"}`))
	c := writeFile(t, "c.bin", encoded(t, "gpt2", []string{"four and five", "six, seven."}))
	var calls atomic.Int64
	got, m := prepare(t, PrepareOptions{Inputs: []string{a, b, c}, Progress: func(done, total int64) {
		calls.Add(1)
		if done > total || total != 20+16+18+2 && total < 40 {
			t.Errorf("progress %d of %d", done, total)
		}
	}})
	if want := encoded(t, "gpt2", []string{"one", "two", "three", "four and five", "six, seven."}); !bytes.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if !slices.Equal(m.Sources, []string{"a.txt", "b.jsonl", "c.bin"}) || calls.Load() == 0 {
		t.Errorf("sources %v, %d calls", m.Sources, calls.Load())
	}
	out := filepath.Join(t.TempDir(), "again.bin")
	if _, err := Prepare(context.Background(), PrepareOptions{Inputs: []string{a, b, c}, Out: out}); err != nil {
		t.Fatal(err)
	}
	again, _ := prepare(t, PrepareOptions{Inputs: []string{out}, Tokenizer: "gpt2"})
	if !bytes.Equal(again, got) {
		t.Error("its own file does not come back")
	}
}

// stream runs small segments over a reader.
func stream(t testing.TB, r io.Reader, tokenizer string, size segmentSize) ([]byte, Manifest, error) {
	t.Helper()
	p, err := newPreparer(PrepareOptions{Tokenizer: tokenizer, Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	p.size = size
	var out bytes.Buffer
	m, err := p.run(context.Background(), &out, func() error { return p.readStream(r) })
	return out.Bytes(), m, err
}

func TestLongDocumentsAreCutWhereItChangesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 9))
	for round := range 40 {
		var docs []string
		for range 1 + r.IntN(3) {
			var b strings.Builder
			b.WriteString("x")
			for b.Len() < 300+r.IntN(200000) {
				b.WriteString(randomText(r, 3))
				b.WriteString([]string{" ", "\n", "  ", " \u00a0 ", "\n\n\t", "'s "}[r.IntN(6)])
			}
			docs = append(docs, b.String()+"x")
		}
		text := strings.Join(docs, "\n\n"+tokenizer.EndOfText)
		got, m, err := stream(t, strings.NewReader(text), "gpt2:1000", segmentSize{text: 50 + r.IntN(1<<17), record: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		if want := encoded(t, "gpt2:1000", docs); !bytes.Equal(got, want) || m.Documents != int64(len(docs)) {
			t.Fatalf("round %d: %d documents come to other tokens", round, len(docs))
		}
	}
}

func TestSpaceAtTheEndOfALongDocumentIsTrimmed(t *testing.T) {
	long := strings.Repeat("word ", 40000)
	got, _, err := stream(t, strings.NewReader("\n \n"+long+strings.Repeat("\n", 200000)+tokenizer.EndOfText+"b"), "gpt2", segmentSize{text: 1 << 12, record: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, encoded(t, "gpt2", []string{" \n" + long, "b"})) {
		t.Error("other tokens")
	}
}

func TestSeparatorsAreFoundAcrossReads(t *testing.T) {
	for shift := range len(tokenizer.EndOfText) + 2 {
		a := strings.Repeat("b", 1<<16-shift)
		got, m, err := stream(t, strings.NewReader(a+tokenizer.EndOfText+"c"), "gpt2:300", segmentSize{text: 1 << 20, record: 1 << 20})
		if err != nil || m.Documents != 2 || !bytes.Equal(got, encoded(t, "gpt2:300", []string{a, "c"})) {
			t.Errorf("%d bytes before the end of a read: %d documents, %v", shift, m.Documents, err)
		}
	}
}

func TestInvalidBytesAreFoundAcrossReads(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 4))
	for range 3000 {
		b := []byte(randomText(r, 1+r.IntN(8)))
		if r.IntN(4) > 0 {
			b[r.IntN(len(b))] ^= byte(1 << r.IntN(8))
		}
		for name, in := range map[string]io.Reader{
			"whole": bytes.NewReader(b), "bytes": iotest.OneByteReader(bytes.NewReader(b)), "halves": iotest.HalfReader(bytes.NewReader(b)),
		} {
			out, err := io.ReadAll(&utf8Reader{r: in})
			if at := invalidAt(b); at < len(b) {
				if !errors.Is(err, ErrNotUTF8) || !strings.HasPrefix(err.Error(), fmt.Sprintf("byte %d:", at)) {
					t.Fatalf("%s: %q: error %v, want byte %d", name, b, err, at)
				}
			} else if err != nil || !bytes.Equal(out, b) {
				t.Fatalf("%s: %q: %q, %v", name, b, out, err)
			}
		}
	}
}

func TestRecordsThatDoNotEndAreRefused(t *testing.T) {
	size := segmentSize{text: 1 << 10, record: 1 << 17}
	long := strings.Repeat("a", 1<<18)
	for name, text := range map[string]string{
		"text": "a b " + long, "line": `{"text":"b"}` + "\n" + `{"text":"` + long + `"}`, "array": `["b","` + long + `"]`,
	} {
		if _, _, err := stream(t, strings.NewReader(text), "gpt2", size); !errors.Is(err, ErrTooLarge) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestMemoryDoesNotGrowWithTheInput(t *testing.T) {
	const total = 60 << 20
	text := validText(t)
	p, err := newPreparer(PrepareOptions{Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer debug.SetGCPercent(debug.SetGCPercent(25)) // the peak shall not be garbage
	var base, now runtime.MemStats
	var peak, calls uint64
	p.o.Progress = func(int64, int64) {
		if calls++; calls%8 == 0 {
			runtime.ReadMemStats(&now)
			peak = max(peak, now.HeapAlloc)
		}
	}
	p.tok.Encode(nil, text)
	runtime.GC()
	runtime.ReadMemStats(&base)
	m, err := p.run(context.Background(), io.Discard, func() error {
		// Stories, then documents that are empty, then one that does not end.
		for _, part := range [][]byte{text, []byte(tokenizer.EndOfText), []byte("on and on ")} {
			if err := p.readStream(io.LimitReader(&repeater{text: part}, total/3)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if m.Tokens < total/8 || calls < 60 {
		t.Fatalf("%d tokens in %d segments", m.Tokens, calls)
	}
	if grown := int64(peak) - int64(base.HeapAlloc); grown > 40<<20 {
		t.Errorf("%d MiB more on the heap for %d MiB of text", grown>>20, total>>20)
	}
}

type repeater struct {
	text []byte
	at   int
}

func (r *repeater) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

func TestBadInputIsRefusedAndNothingIsOverwritten(t *testing.T) {
	spread := append(bytes.Repeat([]byte("all good here. "), 20000), "caf\xe9 au lait"...)
	utf16 := []byte("\xff\xfeO\x00n\x00")
	var wide []byte
	for _, c := range "Once upon a time there was a cat" {
		wide = append(wide, byte(c), 0)
	}
	parquetFile, err := os.ReadFile("testdata/text.snappy.parquet")
	if err != nil {
		t.Fatal(err)
	}
	packed := pack(t, "gzip", bytes.Repeat(spread[:1000], 100))
	for name, c := range map[string]struct {
		data []byte
		o    PrepareOptions
		want error
		text string
	}{
		"empty":            {nil, PrepareOptions{}, ErrEmpty, "input"},
		"empty, named":     {nil, PrepareOptions{Format: "text"}, ErrEmpty, "input"},
		"white space":      {[]byte(" \n\n"), PrepareOptions{}, ErrEmpty, "no document"},
		"only separators":  {[]byte("<|endoftext|>\n<|endoftext|>"), PrepareOptions{}, ErrEmpty, "no document"},
		"latin-1":          {[]byte("caf\xe9"), PrepareOptions{}, ErrNotUTF8, "input: byte 3:"},
		"latin-1, late":    {spread, PrepareOptions{}, ErrNotUTF8, "byte 300003:"},
		"latin-1, packed":  {pack(t, "zstd", spread), PrepareOptions{}, ErrNotUTF8, "byte 300003:"},
		"latin-1 in jsonl": {[]byte("{\"text\":\"a\"}\n{\"text\":\"\xe9\"}"), PrepareOptions{}, ErrNotUTF8, "byte 22:"},
		"latin-1 in array": {[]byte("[\"a\",\"\xe9\"]"), PrepareOptions{}, ErrNotUTF8, "byte 6:"},
		"cut character":    {[]byte("caf\xc3"), PrepareOptions{}, ErrNotUTF8, "byte 3:"},
		"utf-16":           {utf16, PrepareOptions{}, ErrNotUTF8, "UTF-16"},
		"utf-16, no mark":  {wide, PrepareOptions{}, ErrFormat, "neither"},
		"binary":           {[]byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\xff\xff\xf0"), PrepareOptions{}, ErrFormat, "neither"},
		"odd tokens":       {append(u16(1, 2, 3, 4, 11, 700, 50256), 0), PrepareOptions{}, ErrFormat, "odd"},
		"token range":      {u16(1, 2, 3, 700, 50257), PrepareOptions{Format: "tokens"}, ErrTokenRange, "position 4"},
		"llm.c cut":        {llmc(1, 9, 1, 2), PrepareOptions{}, ErrTruncated, "9 tokens"},
		"jsonl, broken":    {[]byte("{\"text\":\"a\"}\n\n{\"text\":\"b\"\n"), PrepareOptions{}, ErrFormat, "input: line 3: "},
		"jsonl, number":    {[]byte("{\"text\":\"a\"}\n{\"text\":3}"), PrepareOptions{}, ErrFormat, "line 2: "},
		"jsonl, no field":  {[]byte(`{"a":"x","b":"y"}`), PrepareOptions{}, ErrFormat, "among: a, b"},
		"jsonl, field":     {[]byte(`{"text":"x"}`), PrepareOptions{Field: "body"}, ErrFormat, `no field "body"`},
		"array, cut":       {[]byte(`["a","b"`), PrepareOptions{}, ErrFormat, "ends before"},
		"array, cut in":    {[]byte(`["a","b`), PrepareOptions{}, ErrFormat, "element 2: "},
		"array, comma":     {[]byte(`["a",]`), PrepareOptions{}, ErrFormat, "byte 5 is"},
		"array, no comma":  {[]byte(`["a" "b"]`), PrepareOptions{}, ErrFormat, "after element 1"},
		"array, more":      {[]byte(`["a"] x`), PrepareOptions{}, ErrFormat, "nothing after"},
		"array, number":    {[]byte(`["a",7]`), PrepareOptions{}, ErrFormat, "element 2: "},
		"array, no array":  {[]byte(`"a"`), PrepareOptions{Format: "json"}, ErrFormat, "not ["},
		"array, empty":     {[]byte(`[ ]`), PrepareOptions{}, ErrEmpty, ""},
		"gzip, cut":        {packed[:len(packed)/2], PrepareOptions{}, ErrFormat, "unpack"},
		"gzip in gzip":     {pack(t, "gzip", packed), PrepareOptions{}, ErrFormat, "gzip inside"},
		"gzip, empty":      {pack(t, "gzip", nil), PrepareOptions{}, ErrEmpty, "unpacked"},
		"parquet, cut":     {parquetFile[:len(parquetFile)/2], PrepareOptions{}, ErrFormat, "parquet"},
		"tokenizer":        {[]byte("a"), PrepareOptions{Tokenizer: "bpe"}, tokenizer.ErrUnknown, "bpe"},
		"format":           {[]byte("a"), PrepareOptions{Format: "csv"}, ErrOption, "csv"},
		"workers":          {[]byte("a"), PrepareOptions{Workers: -1}, ErrOption, "workers"},
	} {
		path := writeFile(t, "input", c.data)
		checkRefused(t, name, path, c.o, c.want, c.text)
	}
	checkRefused(t, "two columns", "testdata/two.parquet", PrepareOptions{}, ErrFormat, "among: a, b")
	checkRefused(t, "latin-1 in parquet", "testdata/latin.parquet", PrepareOptions{}, ErrNotUTF8, "row 2: at its byte 4")
	checkRefused(t, "directory", "testdata", PrepareOptions{}, ErrFormat, "directory")
}

func checkRefused(t *testing.T, name, path string, o PrepareOptions, want error, text string) {
	t.Helper()
	dir := t.TempDir()
	o.Inputs, o.Out = []string{path}, filepath.Join(dir, "out.bin")
	for _, f := range []string{"out.bin", "out.json"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Prepare(context.Background(), o)
	if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Errorf("%s: error %v, want %v with %q", name, err, want, text)
	}
	if len(errors.GetAllHints(err)) == 0 {
		t.Errorf("%s: no hint with %v", name, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("%s: left %v, %v", name, left, err)
	}
	for _, f := range left {
		if b, err := os.ReadFile(filepath.Join(dir, f.Name())); err != nil || string(b) != "old" {
			t.Errorf("%s: %s was overwritten", name, f.Name())
		}
	}
}

func TestPrepareRefusesToOverwriteItsInput(t *testing.T) {
	path := withManifest(t, u16(1, 2, 299), nil)
	_, err := Prepare(context.Background(), PrepareOptions{Inputs: []string{path}, Out: path, Tokenizer: "gpt2:300"})
	if !errors.Is(err, ErrOption) {
		t.Errorf("error %v", err)
	}
	if _, err := Prepare(context.Background(), PrepareOptions{Out: path}); !errors.Is(err, ErrOption) {
		t.Errorf("no input: error %v", err)
	}
}

func TestPrepareStopsWhenItIsTold(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p, err := newPreparer(PrepareOptions{Workers: 2, Progress: func(int64, int64) { cancel() }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.run(ctx, io.Discard, func() error { return p.readStream(&repeater{text: validText(t)}) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func FuzzPrepareStream(f *testing.F) {
	for _, s := range []string{
		"a\n<|endoftext|>\nb", `{"text":"a"}` + "\n" + `{"story":"b"}`, `[{"text":"a\"]"},"b"]`, `["\\",{"a":[1,"}"]}]`, "[]", "\x1f\x8b\x08", "\x28\xb5\x2f\xfd",
	} {
		f.Add([]byte(s), "")
		f.Add([]byte(s), "json")
	}
	f.Fuzz(func(t *testing.T, b []byte, format string) {
		if checkFormat(format) != nil {
			format = ""
		}
		p, err := newPreparer(PrepareOptions{Tokenizer: "gpt2:300", Workers: 1, Format: format})
		if err != nil {
			t.Fatal(err)
		}
		p.size = segmentSize{text: 16, record: 1 << 17}
		var out bytes.Buffer
		m, err := p.run(context.Background(), &out, func() error { return p.readStream(bytes.NewReader(b)) })
		if err != nil {
			return
		}
		if m.Tokens*2 != int64(out.Len()) || m.Documents < 1 || m.check() != nil {
			t.Fatalf("%d bytes, manifest %+v", out.Len(), m)
		}
		if format == "json" && b[0] == '[' && !json.Valid(b) {
			t.Fatalf("%q is no JSON", b)
		}
	})
}

func BenchmarkPrepareText(b *testing.B) {
	text := bytes.Repeat(validText(b), 20)
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				p, err := newPreparer(PrepareOptions{Workers: workers})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := p.run(context.Background(), io.Discard, func() error { return p.readStream(bytes.NewReader(text)) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
