package attention

import (
	"math"
	"strconv"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/framework/tensor"
)

// What flash.cu has too.
const (
	flashThreads   = 128
	flashRows      = 64  // queries of a block, or columns of one of flash_dkv
	mostFlashGradD = 128 // more accumulators than that do not fit in registers
)

// padded is the D that a kernel was compiled for.
func (d dims) padded() int {
	for _, n := range []int{64, 96, 128} {
		if d.D <= n {
			return n
		}
	}
	return 256
}

// tile is how many rows come at a time.
func (d dims) tile(grad bool) int {
	switch n := d.padded(); {
	case n == 256, grad && n > 64:
		return 32
	}
	return 64
}

// flashShared is the bytes of so many tiles of 64 rows and twice two of the others.
func (d dims) flashShared(fixed int, grad bool) int {
	return 2 * (d.padded() + 8) * (fixed*flashRows + 4*d.tile(grad))
}

// flash reports whether tensor cores run the op, or its pullback.
func (o operands) flash(grad bool) bool {
	shared, most := o.flashShared(1, false), mostD
	wide := o.narrow&narrowQ == 0 || o.k != o.v || o.k == tensor.F32
	if grad {
		shared, most = max(shared, o.gradShared()), mostFlashGradD
		wide = wide || o.narrow&narrowG == 0
	}
	return !wide && o.T >= fewRows && o.D <= most && o.aligned() && shared <= o.sharedMost
}

// gradShared is for flash_dkv, which also has two buffers of a logarithm and a
// delta for each row of a tile.
func (d dims) gradShared() int { return d.flashShared(2, true) + 2*d.tile(true)*8 }

// flashForward is the result, or what the pullback wants of each row.
func (o operands) flashForward(stats driver.Pointer) work {
	var g, out driver.Pointer
	if stats != 0 {
		g = o.in[4]
	} else {
		out = o.out[0]
	}
	args := []any{o.in[0], o.in[1], o.in[2], o.in[3], out, stats, g}
	args = append(append(args, o.sizes()...), float32(o.scale()*math.Log2E), o.narrow, o.failure, o.node)
	name := "flash_" + stored(o.k) + "_" + strconv.Itoa(o.padded())
	return work{flashSource, name, o.queryBlocks(), flashThreads, o.flashShared(1, false), args}
}

func (d dims) queryBlocks() int { return ceilDiv(d.T, flashRows) * d.B * d.H }

func (o operands) flashPullback() []work {
	name := strconv.Itoa(o.padded())
	args := func(out ...any) []any {
		a := append([]any{o.in[0], o.in[1], o.in[2], o.in[3], o.in[4], o.scratch}, out...)
		return append(append(a, o.sizes()...), float32(o.scale()*math.Log2E), float32(o.scale()), o.narrow)
	}
	return []work{
		o.flashForward(o.scratch),
		{flashSource, "flash_dq_" + name, o.queryBlocks(), flashThreads, o.flashShared(2, true), args(o.out[0])},
		{flashSource, "flash_dkv_" + name, ceilDiv(o.S, flashRows) * o.B * o.KV, flashThreads, o.gradShared(), args(o.out[1], o.out[2])},
	}
}
