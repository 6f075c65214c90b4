package tokenizer

import "sync/atomic"

// cacheSlots bounds the memory of a tokenizer's cache at some 10 MB.
const cacheSlots = 1 << 16

// pieceCache remembers the ids of pieces that are several tokens. It is two-way
// associative, reads and writes are single atomic operations, and a lost write
// costs only time: what is stored never depends on the order of the calls.
type pieceCache struct {
	slots [cacheSlots]atomic.Pointer[cachedPiece]
}

type cachedPiece struct {
	piece string
	ids   []int32
}

func (c *pieceCache) find(piece []byte, h uint64) []int32 {
	at := h % cacheSlots
	if e := c.slots[at].Load(); e != nil && e.piece == string(piece) {
		return e.ids
	}
	if e := c.slots[at^1].Load(); e != nil && e.piece == string(piece) {
		return e.ids
	}
	return nil
}

// add stores a piece; the older of the two in its place makes room.
func (c *pieceCache) add(piece []byte, h uint64, ids []int32) {
	at := h % cacheSlots
	if old := c.slots[at].Load(); old != nil {
		c.slots[at^1].Store(old)
	}
	c.slots[at].Store(&cachedPiece{piece: string(piece), ids: ids})
}
