package tokenizer

import (
	"cmp"
	"slices"
	"strings"
)

// maxUserDefined is the longest user-defined token in bytes: the search looks
// that far from every place of a text.
const maxUserDefined = 256

// userTokens finds user-defined tokens in a text.
type userTokens struct {
	texts []string // sorted
	ids   []int32
	first [256]span // the texts that begin with a byte
}

type span struct{ lo, hi int32 }

// found is a user-defined token in a text.
type found struct {
	at, end int
	id      int32
}

// newUserTokens takes texts that are not empty; of equal ones the first counts.
// It returns nil where there are none.
func newUserTokens(texts []string, ids []int32) *userTokens {
	if len(texts) == 0 {
		return nil
	}
	order := make([]int, len(texts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return strings.Compare(texts[a], texts[b]) })
	u := &userTokens{}
	for _, i := range order {
		if n := len(u.texts); n > 0 && u.texts[n-1] == texts[i] {
			continue
		}
		u.texts, u.ids = append(u.texts, texts[i]), append(u.ids, ids[i])
	}
	for i, s := range u.texts {
		f := &u.first[s[0]]
		if f.hi == 0 {
			f.lo = int32(i)
		}
		f.hi = int32(i + 1)
	}
	return u
}

// longest returns the longest token that text begins with, whose length is 0 if
// there is none.
func (u *userTokens) longest(text []byte) (n int, id int32) {
	if len(text) == 0 {
		return 0, 0
	}
	f := u.first[text[0]]
	lo, hi := int(f.lo), int(f.hi) // the tokens that begin with text[:d]
	for d := 1; lo < hi; d++ {
		if len(u.texts[lo]) == d {
			n, id = d, u.ids[lo]
			lo++
		}
		if d == len(text) {
			break
		}
		in := u.texts[lo:hi]
		from, _ := slices.BinarySearchFunc(in, text[d], func(s string, b byte) int { return cmp.Compare(s[d], b) })
		to, _ := slices.BinarySearchFunc(in, int(text[d])+1, func(s string, b int) int { return cmp.Compare(int(s[d]), b) })
		lo, hi = lo+from, lo+to
	}
	return n, id
}

// find returns the tokens in text by place. The longest are taken first, and
// others in what they leave, as llama.cpp does; it leaves open which of
// overlapping ones of one length comes first, here it is the leftmost.
func (u *userTokens) find(text []byte) []found {
	var waiting [maxUserDefined + 1][]int // places, by length of the token there
	top := 0
	for at := range text {
		if u.first[text[at]].hi == 0 {
			continue
		}
		if n, _ := u.longest(text[at:]); n > 0 {
			waiting[n] = append(waiting[n], at)
			top = max(top, n)
		}
	}
	if top == 0 {
		return nil
	}
	var all []found
	taken := make([]bool, len(text))
	for n := top; n > 0; n-- {
		slices.Sort(waiting[n])
		for _, at := range waiting[n] {
			if taken[at] {
				continue
			}
			free := 1
			for free < n && !taken[at+free] {
				free++
			}
			length, id := u.longest(text[at : at+free])
			if length < n { // what is left may hold a shorter one
				waiting[length] = append(waiting[length], at)
				continue
			}
			for i := range n {
				taken[at+i] = true
			}
			all = append(all, found{at: at, end: at + n, id: id})
		}
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.at, b.at) })
	return all
}
