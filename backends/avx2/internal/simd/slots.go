package simd

// Slots lends pieces of scratch memory to running items; see slots.
type Slots struct{ slots }

// Init cuts area into n pieces of size floats, of which at most maxSlots are lent.
func (s *Slots) Init(n, size int, area []float32) { s.init(min(n, maxSlots), size, area) }

// Take waits for a free piece.
func (s *Slots) Take() (slot int, area []float32) { return s.take() }

// Give returns a piece.
func (s *Slots) Give(slot int) { s.give(slot) }
