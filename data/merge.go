package data

import "math"

// longPiece is the length in bytes from which pieces are merged here: the
// library's merge takes time with the square of the length.
const longPiece = 64

const noRank = math.MaxInt32

// merge appends the ids of one long piece: the merges of a byte-level BPE,
// lowest rank first and leftmost among equals, with a heap over the pairs and
// a linked list over the parts. Time n log n, memory about 28 bytes a byte.
func (v *vocabulary) merge(dst []int32, piece []byte) []int32 {
	m := newMerger(v, piece)
	for len(m.heap) > 0 {
		p := m.pop()
		if m.rank[p.at] == p.rank { // else the pair is gone or has changed
			m.join(p.at)
		}
	}
	for at := int32(0); at < int32(len(piece)); at = m.next[at] {
		dst = append(dst, v.rank(piece[at:m.next[at]]))
	}
	return dst
}

// merger holds the parts of a piece; a part is named by where it starts.
type merger struct {
	v     *vocabulary
	piece []byte
	next  []int32 // start of the following part, or len(piece)
	prev  []int32 // start of the part before, or -1
	rank  []int32 // rank of the pair (part, following part), or noRank
	heap  []pair
}

type pair struct{ rank, at int32 }

func (p pair) less(q pair) bool { return p.rank < q.rank || p.rank == q.rank && p.at < q.at }

func newMerger(v *vocabulary, piece []byte) *merger {
	n := len(piece)
	m := &merger{v: v, piece: piece, next: make([]int32, n), prev: make([]int32, n), rank: make([]int32, n), heap: make([]pair, 0, n)}
	for i := range int32(n) {
		m.next[i], m.prev[i] = i+1, i-1
	}
	for i := range int32(n) {
		m.rank[i] = m.pairRank(i)
		if m.rank[i] != noRank {
			m.heap = append(m.heap, pair{m.rank[i], i})
		}
	}
	for i := len(m.heap)/2 - 1; i >= 0; i-- {
		m.sink(i)
	}
	return m
}

func (m *merger) pairRank(at int32) int32 {
	mid := m.next[at]
	if int(mid) >= len(m.piece) {
		return noRank
	}
	if r := m.v.rank(m.piece[at:m.next[mid]]); r >= 0 {
		return r
	}
	return noRank
}

// join makes one part of the part at and the one that follows.
func (m *merger) join(at int32) {
	gone := m.next[at]
	m.rank[gone] = noRank
	m.next[at] = m.next[gone]
	if int(m.next[at]) < len(m.piece) {
		m.prev[m.next[at]] = at
	}
	m.renew(at)
	if m.prev[at] >= 0 {
		m.renew(m.prev[at])
	}
}

func (m *merger) renew(at int32) {
	m.rank[at] = m.pairRank(at)
	if m.rank[at] == noRank {
		return
	}
	m.heap = append(m.heap, pair{m.rank[at], at})
	for i := len(m.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !m.heap[i].less(m.heap[up]) {
			return
		}
		m.heap[i], m.heap[up] = m.heap[up], m.heap[i]
		i = up
	}
}

func (m *merger) pop() pair {
	top, last := m.heap[0], len(m.heap)-1
	m.heap[0] = m.heap[last]
	m.heap = m.heap[:last]
	m.sink(0)
	return top
}

func (m *merger) sink(i int) {
	for {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(m.heap); c++ {
			if m.heap[c].less(m.heap[least]) {
				least = c
			}
		}
		if least == i {
			return
		}
		m.heap[i], m.heap[least] = m.heap[least], m.heap[i]
		i = least
	}
}
