package tokenizer

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
)

// stage returns the length of the first piece of a text that is not empty and
// valid UTF-8. The following pieces are those of the rest of the text.
type stage func(text []byte) int

// split cuts a text into pieces: each stage cuts every piece of the one before,
// as if it were a text of its own.
type split struct {
	stages []stage
	whole  bool // a piece that is a token is that token, whatever the merges give
}

// splits are those of llama.cpp (src/llama-vocab.cpp) by the value of
// tokenizer.ggml.pre. Classes of characters are those of Go's package unicode;
// characters that another version of Unicode has may fall otherwise.
var splits = func() map[string]split {
	m := map[string]split{}
	for _, s := range []struct {
		names string
		split split
	}{
		{"gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert jina-v1-en jina-v2-code roberta-bpe " +
			"exaone4 mpt olmo jais trillion granite-docling", split{stages: []stage{nextPiece}}},
		{"llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano glm4 glm5", split{stages: []stage{llama3Piece}, whole: true}},
		{"dbrx smaug-bpe chatglm-bpe", split{stages: []stage{llama3Piece}}},
		{"qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2", split{stages: []stage{qwen2Piece}}},
		{"smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", split{stages: []stage{isolate(oneNumber), nextPiece}}},
		{"falcon", split{stages: []stage{isolate(falconMarks), nextPiece, isolate(threeDigits)}}},
		{"default", split{stages: []stage{isolate(defaultMarks), nextPiece, isolate(numbers), isolate(threeDigits)}}},
		{"deepseek-coder", split{stages: []stage{isolate(oneNewline), isolate(spaceAndLetters), isolate(spaceAndMarks), isolate(eastAsian), isolate(oneNumber)}}},
	} {
		for _, name := range strings.Fields(s.names) {
			m[name] = s.split
		}
	}
	m[""] = m["default"]
	return m
}()

// splitOf returns the split of a name; "" is "default".
func splitOf(name string) (split, error) {
	if s, ok := splits[name]; ok {
		return s, nil
	}
	var names []string
	for n := range splits {
		if n != "" {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return split{}, errors.WithHintf(errors.Wrapf(ErrUnknown, "split of text %q", name),
		"tokenizer.ggml.pre may be one of %s", strings.Join(names, ", "))
}

// llama3Piece is the split
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// where (?i:) means the letters of ASCII only.
func llama3Piece(text []byte) int { return wordPiece(text, 3) }

// qwen2Piece is llama3Piece with \p{N} in place of \p{N}{1,3}.
func qwen2Piece(text []byte) int { return wordPiece(text, 1) }

func wordPiece(text []byte, digits int) int {
	t := classes
	if text[0] == '\'' {
		var lower [3]byte
		for i, n := 0, copy(lower[:], text); i < n; i++ {
			lower[i] = toLower(lower[i])
		}
		if n := contraction(lower[:min(len(text), len(lower))]); n > 0 {
			return n
		}
	}
	class, n := t.classAt(text)
	switch class {
	case classLetter:
		return t.run(text, n, classLetter)
	case classNumber:
		return t.few(text, n, digits-1)
	}
	next, width := classOther, 0
	if n < len(text) {
		next, width = t.classAt(text[n:])
	}
	if width > 0 && next == classLetter && text[0] != '\r' && text[0] != '\n' {
		return t.run(text, n+width, classLetter)
	}
	if class == classOther || text[0] == ' ' && width > 0 && next == classOther {
		return newlines(text, t.run(text, n, classOther))
	}
	return t.space(text, n)
}

func toLower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// few returns where at most n numbers that start at from end.
func (t *classTable) few(text []byte, from, n int) int {
	for ; n > 0 && from < len(text); n-- {
		class, width := t.classAt(text[from:])
		if class != classNumber {
			break
		}
		from += width
	}
	return from
}

// space returns the piece of white space that text begins with: up to its last
// newline if it has one, else all but the last character if a word follows.
func (t *classTable) space(text []byte, from int) int {
	end := t.run(text, from, classSpace)
	if at := bytes.LastIndexAny(text[:end], "\r\n"); at >= 0 {
		return at + 1
	}
	if end == len(text) || end == from {
		return end
	}
	_, last := utf8.DecodeLastRune(text[:end])
	return end - last
}

func newlines(text []byte, from int) int {
	for from < len(text) && (text[from] == '\r' || text[from] == '\n') {
		from++
	}
	return from
}

// isolate makes a stage of an expression: what it matches are pieces, and what
// lies between. match returns the length of the match that text begins with, or
// 0, in a time that does not grow with the text where there is none.
func isolate(match func(text []byte) int) stage {
	return func(text []byte) int {
		if n := match(text); n > 0 {
			return n
		}
		for at := 0; ; {
			_, n := utf8.DecodeRune(text[at:])
			if at += n; at >= len(text) || match(text[at:]) > 0 {
				return at
			}
		}
	}
}

// spanOf returns the length of the characters that text begins with and in holds.
func spanOf(text []byte, in func(r rune) bool) int {
	for at := 0; ; {
		r, n := utf8.DecodeRune(text[at:])
		if n == 0 || !in(r) {
			return at
		}
		at += n
	}
}

// afterSpace is \s?[in]+.
func afterSpace(text []byte, in func(r rune) bool) int {
	r, n := utf8.DecodeRune(text)
	if !unicode.Is(unicode.White_Space, r) {
		return spanOf(text, in)
	}
	if m := spanOf(text[n:], in); m > 0 {
		return n + m
	}
	return 0
}

func isLetter(r rune) bool { return classes.class(r) == classLetter }

func isNumber(r rune) bool { return classes.class(r) == classNumber }

func isMark(r rune) bool { return unicode.Is(unicode.P, r) }

func numbers(text []byte) int { return spanOf(text, isNumber) }

func oneNumber(text []byte) int {
	if class, n := classes.classAt(text); class == classNumber {
		return n
	}
	return 0
}

func oneNewline(text []byte) int { return newlines(text[:1], 0) }

// threeDigits is [0-9][0-9][0-9].
func threeDigits(text []byte) int {
	for i := range 3 {
		if i >= len(text) || text[i] < '0' || text[i] > '9' {
			return 0
		}
	}
	return 3
}

// falconMarks is [\p{P}\$\+<=>\^~\|`]+, defaultMarks the same without the grave.
func falconMarks(text []byte) int {
	return spanOf(text, func(r rune) bool { return isMark(r) || strings.ContainsRune("$+<=>^~|`", r) })
}

func defaultMarks(text []byte) int {
	return spanOf(text, func(r rune) bool { return isMark(r) || strings.ContainsRune("$+<=>^~|", r) })
}

func spaceAndLetters(text []byte) int { return afterSpace(text, isLetter) }

func spaceAndMarks(text []byte) int { return afterSpace(text, isMark) }

// eastAsian is [一-龥ࠀ-一가-퟿]+ without the white space among them, which
// llama.cpp does not look for there.
func eastAsian(text []byte) int {
	return spanOf(text, func(r rune) bool {
		return (r >= 0x0800 && r <= 0x9fa5 || r >= 0xac00 && r <= 0xd7ff) && classes.class(r) != classSpace
	})
}
