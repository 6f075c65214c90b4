package fuse

import "github.com/ternlm/tern/framework/tensor"

// term is (i/div) % mod * mul; a mod of 0 leaves the quotient as it is.
type term struct{ div, mod, mul int }

// indexMap gives the linear index of an element of one tensor by that of an
// element of another: the sum of terms, and off.
type indexMap struct {
	terms []term
	off   int
}

// strided is the map from the elements of a tensor of the given sizes to those of
// one whose axes have strides, from off on. Neighboring axes that lie one behind
// the other in both are one, so that equal maps look the same.
func strided(sizes, strides []int, off int) indexMap {
	type group struct{ size, stride int }
	var groups []group // innermost first
	for d := len(sizes) - 1; d >= 0; d-- {
		if sizes[d] == 1 {
			continue
		}
		if k := len(groups) - 1; k >= 0 && strides[d] == groups[k].stride*groups[k].size {
			groups[k].size *= sizes[d]
			continue
		}
		groups = append(groups, group{sizes[d], strides[d]})
	}
	if len(groups) == 0 { // of one element: its index is 0
		return indexMap{terms: []term{{1, 0, 1}}, off: off}
	}
	m, div := indexMap{off: off}, 1
	for i, g := range groups {
		t := term{div, g.size, g.stride}
		if i == len(groups)-1 {
			t.mod = 0
		}
		if g.stride != 0 {
			m.terms = append(m.terms, t)
		}
		div *= g.size
	}
	return m
}

// identity reports whether the map leaves an index as it is.
func (m indexMap) identity() bool {
	return m.off == 0 && len(m.terms) == 1 && m.terms[0] == term{1, 0, 1}
}

func (m indexMap) equal(o indexMap) bool {
	if m.off != o.off || len(m.terms) != len(o.terms) {
		return false
	}
	for i, t := range m.terms {
		if t != o.terms[i] {
			return false
		}
	}
	return true
}

// stridesOf gives the distance of neighbors along each axis of s.
func stridesOf(s tensor.Shape) []int {
	st, n := make([]int, len(s)), 1
	for i := len(s) - 1; i >= 0; i-- {
		st[i] = n
		n *= s[i]
	}
	return st
}

// broadcastMap is the map from a result of shape out to an operand of shape in,
// whose axes of length 1 are repeated.
func broadcastMap(out, in tensor.Shape) indexMap {
	st := stridesOf(in)
	for d := range in {
		if in[d] == 1 {
			st[d] = 0
		}
	}
	return strided(out, st, 0)
}

// transposeMap is the map from a transposed tensor to x.
func transposeMap(x tensor.Shape, perm []int) indexMap {
	from := stridesOf(x)
	sizes, strides := make([]int, len(perm)), make([]int, len(perm))
	for i, p := range perm {
		sizes[i], strides[i] = x[p], from[p]
	}
	return strided(sizes, strides, 0)
}

// partMap is the map from a tensor of shape out to x, which has other bounds along
// axis: coordinate c of out is coordinate c+lo of x. Where that is outside of x the
// index means nothing.
func partMap(out, x tensor.Shape, axis, lo int) indexMap {
	st := stridesOf(x)
	return strided(out, st, lo*st[axis])
}

// split gives the counts of elements before, along and after an axis.
func split(s tensor.Shape, axis int) (outer, n, inner int) {
	return s[:axis].Numel(), s[axis], s[axis+1:].Numel()
}

// rowMap is the map from an element of a tensor (outer, n, inner) to the row
// (outer, inner) along the middle axis that it is in.
func rowMap(outer, n, inner int) indexMap {
	return strided([]int{outer, n, inner}, []int{inner, 0, 1}, 0)
}
