package tokenizer

import (
	"math"
	"slices"
)

// longPiece is the length in bytes from which pieces are merged here: the
// library's merge takes time with the square of the length.
const longPiece = 64

const noRank = math.MaxInt32

// merge appends the ids of one long piece: the merges of a byte-level BPE,
// lowest rank first and leftmost among equals.
func (v *vocabulary) merge(dst []int32, piece []byte) []int32 {
	m := newMerger(piece)
	m.rankOf = v.rank
	for i := range piece {
		m.add(i, 1)
	}
	m.merge()
	for at := int32(0); at < int32(len(piece)); at = m.next[at] {
		dst = append(dst, v.rank(piece[at:m.next[at]]))
	}
	return dst
}

// merger holds the parts of a piece; a part is named by where it starts. Its
// memory is some 30 bytes a byte, 40 where it has ids.
type merger struct {
	piece []byte
	next  []int32 // start of the following part, or len(piece)
	prev  []int32 // start of the part before, or -1
	rank  []int32 // rank of the pair (part, following part), or noRank
	queue pairQueue

	// A pair has a rank by its text, negative for none, or by its ids.
	rankOf func(text []byte) int32
	merges map[uint64]merged
	id     []int32 // of the part, negative for no token; for merges
	made   []int32 // id of the merge of the pair
}

func newMerger(piece []byte) *merger {
	n := len(piece)
	return &merger{piece: piece, next: make([]int32, n), prev: make([]int32, n), rank: make([]int32, n)}
}

// add adds the next part of the piece, which starts at and is width bytes wide.
func (m *merger) add(at, width int) {
	m.next[at] = int32(at + width)
	if at == 0 {
		m.prev[at] = -1
	}
	if at+width < len(m.piece) {
		m.prev[at+width] = int32(at)
	}
}

// merge joins pairs, the lowest rank first and leftmost among equals, until
// none is left. A short piece has no queue: its pairs are looked through.
func (m *merger) merge() {
	if len(m.piece) > longPiece {
		m.queue.index = make(map[int32]*bucket)
	}
	for at := int32(0); int(at) < len(m.piece); at = m.next[at] {
		m.renew(at)
	}
	if m.queue.index == nil {
		for at := m.least(); at >= 0; at = m.least() {
			m.join(at)
		}
		return
	}
	for len(m.queue.ranks) > 0 {
		rank, at := m.queue.pop()
		if m.rank[at] == rank { // else the pair is gone or has changed
			m.join(at)
		}
	}
}

// least returns the first part of the pair to be merged next, or -1.
func (m *merger) least() int32 {
	best, rank := int32(-1), int32(noRank)
	for at := int32(0); int(at) < len(m.piece); at = m.next[at] {
		if m.rank[at] < rank {
			best, rank = at, m.rank[at]
		}
	}
	return best
}

func (m *merger) pairRank(at int32) int32 {
	mid := m.next[at]
	if int(mid) >= len(m.piece) {
		return noRank
	}
	if m.merges != nil {
		if to, ok := m.merges[pairKey(m.id[at], m.id[mid])]; ok {
			m.made[at] = to.id
			return to.rank
		}
		return noRank
	}
	if r := m.rankOf(m.piece[at:m.next[mid]]); r >= 0 {
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
	if m.merges != nil {
		m.id[at] = m.made[at]
	}
	m.renew(at)
	if m.prev[at] >= 0 {
		m.renew(m.prev[at])
	}
}

func (m *merger) renew(at int32) {
	m.rank[at] = m.pairRank(at)
	if m.rank[at] != noRank && m.queue.index != nil {
		m.queue.push(m.rank[at], at)
	}
}

// pairQueue gives pairs by rank, then by place. A long run has many pairs of
// few ranks, pushed nearly in order, so the pairs of a rank are a list that is
// sorted when it has to be, and only the ranks are a heap.
type pairQueue struct {
	index map[int32]*bucket
	ranks []*bucket // min-heap of the buckets that are not empty
	last  *bucket   // of the last push: the next one is often its neighbor
}

type bucket struct {
	rank     int32
	at       []int32
	head     int // at[:head] are taken
	unsorted bool
}

func (q *pairQueue) push(rank, at int32) {
	b := q.last
	if b == nil || b.rank != rank {
		if b = q.index[rank]; b == nil {
			b = &bucket{rank: rank}
			q.index[rank] = b
		}
		q.last = b
	}
	if n := len(b.at); n == 0 {
		q.enter(b)
	} else if at < b.at[n-1] {
		b.unsorted = true
	}
	b.at = append(b.at, at)
}

func (q *pairQueue) pop() (rank, at int32) {
	b := q.ranks[0]
	if b.unsorted {
		slices.Sort(b.at[b.head:])
		b.unsorted = false
	}
	at = b.at[b.head]
	if b.head++; b.head == len(b.at) {
		b.at, b.head = b.at[:0], 0
		q.leave()
	}
	return b.rank, at
}

func (q *pairQueue) enter(b *bucket) {
	q.ranks = append(q.ranks, b)
	for i := len(q.ranks) - 1; i > 0; {
		up := (i - 1) / 2
		if q.ranks[up].rank <= q.ranks[i].rank {
			return
		}
		q.ranks[i], q.ranks[up] = q.ranks[up], q.ranks[i]
		i = up
	}
}

// leave removes the least rank.
func (q *pairQueue) leave() {
	end := len(q.ranks) - 1
	q.ranks[0] = q.ranks[end]
	q.ranks = q.ranks[:end]
	for i := 0; ; {
		least := i
		for c := 2*i + 1; c <= 2*i+2 && c < end; c++ {
			if q.ranks[c].rank < q.ranks[least].rank {
				least = c
			}
		}
		if least == i {
			return
		}
		q.ranks[i], q.ranks[least] = q.ranks[least], q.ranks[i]
		i = least
	}
}
