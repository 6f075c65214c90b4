package linear

import (
	"fmt"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
)

// Shapes of the tiles of int8.cu, and the stages of their rings.
const (
	largeTile, smallTile = 128, 32
	tileStages           = 3
	tilePiece            = 64
)

// ownRows is up to how many rows a kernel quantizes them itself, ownBytes how much
// shared memory they may take.
const (
	ownRows  = quantized.OwnRows
	ownBytes = 32 << 10
)

// largeFrom is from how many results on there are large tiles enough for the
// processors of a device. A variable for tests.
var largeFrom = 64 * largeTile * largeTile

// multiplyInt8 is y = x W^T of rows as int8, for which q and unit are memory unless
// they are that already. Which kernel it is does not show in the result.
func (b *binding) multiplyInt8(w weight, x activations, q, unit driver.Pointer, y matrix) {
	aligned := w.k%32 == 0 && w.group%32 == 0
	if x.quantized() {
		q, unit = x.at, x.unit
	} else {
		if aligned && y.rows <= ownRows && y.rows*w.padded() <= ownBytes {
			b.launchFew(w, y, true, x.at, narrow(x.t))
			return
		}
		b.quantize(x.matrix, w.padded(), q, unit)
	}
	switch {
	case !aligned:
		b.launchInt8("int8_any", w, ceil(y.rows, 8)*ceil(w.m, 32), 256, 0, int8Args(w, y, q, unit))
	case y.rows <= fewRows:
		b.launchFew(w, y, false, q, unit)
	case y.rows*w.m >= largeFrom:
		b.launchTiles("int8_large", w, y, largeTile, 256, q, unit)
	default:
		b.launchTiles("int8_small", w, y, smallTile, 128, q, unit)
	}
}

// int8Args are the parameters OPERANDS of int8.cu, which begin with those of x.
func int8Args(w weight, y matrix, x ...any) []any {
	return append(append(x, w.args()...), y.rows, w.padded(), y.at, y.stride, narrow(y.t))
}

func (b *binding) launchTiles(name string, w weight, y matrix, tile, threads int, x ...any) {
	b.launchInt8(name, w, ceil(y.rows, tile)*ceil(w.m, tile), threads, tileStages*2*tile*tilePiece, int8Args(w, y, x...))
}

// launchInt8 runs the kernel of that name for the weight's width of codes.
func (b *binding) launchInt8(name string, w weight, blocks, threads, shared int, args []any) {
	b.launch(int8Sources[w.bits], fmt.Sprintf("%s_%d", name, w.bits), blocks, threads, shared, args...)
}

// launchFew takes x as it is if the kernel is to quantize it, which is one of up to
// ownRows rows, or else quantized. There are no more blocks than a large device runs
// at a time, since each of them has the rows to quantize.
func (b *binding) launchFew(w weight, y matrix, quantizes bool, x ...any) {
	const columns, most = 4 * 2, 1024 // of a block, and blocks
	rows, shared := 4, 0
	if quantizes {
		rows, shared = 1, y.rows*w.padded()
	}
	for rows < y.rows {
		rows *= 2
	}
	args := append(int8Args(w, y, x...), span(w.group/32))
	b.launchInt8(fmt.Sprintf("int8_few_%d", rows), w, min(most, ceil(w.m, columns)), 128, shared, args)
}

// span is how many lanes share a group of so many times 32 columns: as many, if
// that is a power of two and a warp has them, or the whole warp.
func span(pieces int) int {
	if pieces > 32 || pieces&(pieces-1) != 0 {
		return 32
	}
	return pieces
}
