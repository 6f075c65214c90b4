package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// The classes of the split pattern. Every character is in exactly one.
const (
	classOther uint8 = iota
	classLetter
	classNumber
	classSpace
)

// classes holds the class of every character, in pages of 256 that are shared
// where they are equal in being empty: 0x1100 page numbers and some 300 pages.
var classes = buildClasses()

type classTable struct {
	ascii [256]uint8 // classOther from 128 on, not used there
	page  [0x1100]uint16
	cells [][256]uint8
}

func buildClasses() *classTable {
	t := &classTable{cells: make([][256]uint8, 1)}
	t.fill(unicode.L, classLetter)
	t.fill(unicode.N, classNumber)
	t.fill(unicode.White_Space, classSpace)
	for r := range utf8.RuneSelf {
		t.ascii[r] = t.class(rune(r))
	}
	return t
}

func (t *classTable) fill(table *unicode.RangeTable, class uint8) {
	for _, r := range table.R16 {
		for c := rune(r.Lo); c <= rune(r.Hi); c += rune(r.Stride) {
			t.set(c, class)
		}
	}
	for _, r := range table.R32 {
		for c := rune(r.Lo); c <= rune(r.Hi); c += rune(r.Stride) {
			t.set(c, class)
		}
	}
}

func (t *classTable) set(r rune, class uint8) {
	p := &t.page[r>>8]
	if *p == 0 {
		*p = uint16(len(t.cells))
		t.cells = append(t.cells, [256]uint8{})
	}
	t.cells[*p][r&0xff] = class
}

func (t *classTable) class(r rune) uint8 { return t.cells[t.page[r>>8]][r&0xff] }

// classAt returns the class and the width of the first character of b, which
// is not empty and valid UTF-8.
func (t *classTable) classAt(b []byte) (class uint8, width int) {
	if b[0] < utf8.RuneSelf {
		return t.ascii[b[0]], 1
	}
	r, n := utf8.DecodeRune(b)
	return t.class(r), n
}

// nextPiece returns the length of the first piece of text under GPT-2's split,
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//
// text is valid UTF-8 and not empty. The split has no memory: the pieces of
// text[n:] are the following pieces of text.
func nextPiece(text []byte) int {
	t := classes
	if text[0] == '\'' {
		if n := contraction(text); n > 0 {
			return n
		}
	}
	class, n := t.classAt(text)
	if class != classSpace {
		return t.run(text, n, class)
	}
	if text[0] == ' ' && len(text) > 1 {
		if next, width := t.classAt(text[1:]); next != classSpace {
			return t.run(text, 1+width, next)
		}
	}
	end := t.run(text, n, classSpace)
	if end == len(text) || end == n {
		return end
	}
	// \s+(?!\S) gives the last white space back to the word that follows.
	_, last := utf8.DecodeLastRune(text[:end])
	return end - last
}

// run returns where the characters of a class that start at from end.
func (t *classTable) run(text []byte, from int, class uint8) int {
	for from < len(text) {
		c := text[from]
		if c < utf8.RuneSelf {
			if t.ascii[c] != class {
				return from
			}
			from++
			continue
		}
		next, width := t.classAt(text[from:])
		if next != class {
			return from
		}
		from += width
	}
	return from
}

// contraction returns the length of 's 't 'm 'd 're 've or 'll at the start of
// text, or 0.
func contraction(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	switch text[1] {
	case 's', 't', 'm', 'd':
		return 2
	case 'r', 'v':
		if len(text) > 2 && text[2] == 'e' {
			return 3
		}
	case 'l':
		if len(text) > 2 && text[2] == 'l' {
			return 3
		}
	}
	return 0
}
