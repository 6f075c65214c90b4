package simd

//go:generate go run -C ../../_gen ./half -out ../internal/simd/half_amd64.s -stubs ../internal/simd/half_stub_amd64.go -pkg simd

// rowLanes is the number of rows of a vector of rowDots.
const rowLanes = 8

// Rows are the elements of a matrix, stored as f32 or as f16: one of the two is set. Kernels widen f16 as they read it,
// so that the f32 values never stand in memory.
type Rows struct {
	F32 []float32
	F16 []uint16
}

// Len is the number of elements.
func (r *Rows) Len() int { return max(len(r.F32), len(r.F16)) }

// dots is rowDots of rows that start at element at.
func (r *Rows) dots(dst, x []float32, at, ld, k, blocks, ahead int) {
	switch {
	case blocks == 0:
	case k%8 != 0 || k == 0:
		r.tail(dst, x, at, ld, k, blocks*rowLanes)
	case r.F16 != nil:
		rowDotsHalf(dst, x, r.F16[at:], ld, k, blocks, ahead)
	default:
		rowDots(dst, x, r.F32[at:], ld, k, blocks, ahead)
	}
}

// tail is dots of n rows of any length.
func (r *Rows) tail(dst, x []float32, at, ld, k, n int) {
	if r.F16 != nil {
		rowDotsHalfRef(dst, x, r.F16[at:], ld, k, n)
		return
	}
	rowDotsRef(dst, x, r.F32[at:], ld, k, n)
}

// sum sets dst[i] to a chain over n rows of d elements, d a multiple of 8, that start at element at: of
// fma(p[j], rows[j*ld+i], .), from zero if first, else from dst[i].
func (r *Rows) sum(dst, p []float32, at, ld, n, d, ahead int, first bool) {
	for i := 0; i < d; {
		width := 8
		switch {
		case d-i >= 64:
			width = 64
		case d-i >= 32:
			width = 32
		}
		if r.F16 != nil {
			rowSumHalf(width, dst[i:], p, r.F16[at+i:], ld, n, ahead, first)
		} else {
			rowSum(width, dst[i:], p, r.F32[at+i:], ld, n, ahead, first)
		}
		i += width
	}
}

// rowSum calls the kernel of a width by name: through a function value, its arguments would escape to the heap.
func rowSum(width int, dst, p, rows []float32, ld, n, ahead int, first bool) {
	switch width {
	case 64:
		rowSum64(dst, p, rows, ld, n, ahead, first)
	case 32:
		rowSum32(dst, p, rows, ld, n, ahead, first)
	default:
		rowSum8(dst, p, rows, ld, n, ahead, first)
	}
}

func rowSumHalf(width int, dst, p []float32, rows []uint16, ld, n, ahead int, first bool) {
	switch width {
	case 64:
		rowSum64Half(dst, p, rows, ld, n, ahead, first)
	case 32:
		rowSum32Half(dst, p, rows, ld, n, ahead, first)
	default:
		rowSum8Half(dst, p, rows, ld, n, ahead, first)
	}
}

// widen returns n rows of d elements, ld apart, from element at, as f32, and the distance of the rows: in area, of n*d
// floats, if they are stored as f16, and where they are if not.
func (r *Rows) widen(area []float32, at, ld, n, d int) (rows []float32, stride int) {
	if r.F16 == nil {
		return r.F32[at:], ld
	}
	for j := range n {
		F16ToF32(area[j*d:(j+1)*d], r.F16[at+j*ld:])
	}
	return area, d
}
