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
// lowest rank first and leftmost among equals, with a queue of pairs and a
// linked list of parts. Memory is some 30 bytes a byte.
func (v *vocabulary) merge(dst []int32, piece []byte) []int32 {
	m := newMerger(v, piece)
	for len(m.queue.ranks) > 0 {
		rank, at := m.queue.pop()
		if m.rank[at] == rank { // else the pair is gone or has changed
			m.join(at)
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
	queue pairQueue
}

func newMerger(v *vocabulary, piece []byte) *merger {
	n := len(piece)
	m := &merger{v: v, piece: piece, next: make([]int32, n), prev: make([]int32, n), rank: make([]int32, n)}
	m.queue.index = make(map[int32]*bucket)
	for i := range int32(n) {
		m.next[i], m.prev[i] = i+1, i-1
	}
	for i := range int32(n) {
		m.renew(i)
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
	if m.rank[at] != noRank {
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
