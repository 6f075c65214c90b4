package simd

import (
	"math/bits"
	"runtime"
	"sync/atomic"
)

// maxSlots bounds how many items of a phase can run at once.
const maxSlots = 64

// slots lends pieces of scratch memory to running items, so that an item finds its piece warm and the memory grows
// with the workers, not with the items. What a piece holds never reaches a result, so the order of lending does not matter.
type slots struct {
	free atomic.Uint64
	size int
	area []float32
}

func (s *slots) init(n, size int, area []float32) {
	s.size, s.area = size, area
	s.free.Store(^uint64(0) >> (64 - n))
}

// take waits for a free piece.
func (s *slots) take() (slot int, area []float32) {
	for {
		free := s.free.Load()
		if free == 0 {
			runtime.Gosched()
			continue
		}
		if s.free.CompareAndSwap(free, free&(free-1)) {
			slot = bits.TrailingZeros64(free)
			return slot, s.area[slot*s.size : (slot+1)*s.size]
		}
	}
}

func (s *slots) give(slot int) { s.free.Or(1 << slot) }
