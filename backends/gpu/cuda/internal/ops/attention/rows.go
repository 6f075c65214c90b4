package attention

import (
	"strconv"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/framework/tensor"
)

// What rows.cu has too.
const (
	rowsThreads = 128
	rowsWarps   = 4
	pieceSize   = 128
	gradRows    = 4
)

// lanes is how many threads have a row of D elements, 8 each.
func (d dims) lanes() int {
	n := 1
	for 8*n < d.D {
		n *= 2
	}
	return n
}

// pieces is into how many pieces the columns are cut that have blocks of their
// own; 0 where there are blocks enough without, or the pieces take much memory.
// Bits do not depend on it.
func (d dims) pieces() int {
	const enough = 512   // blocks: four for each multiprocessor of an H200
	const most = 1 << 17 // rows of pieces: 34 MB with a D of 64
	n := ceilDiv(d.S, pieceSize)
	if n == 1 || d.B*d.KV*ceilDiv(d.T*d.H/d.KV, 8) >= enough || d.B*d.T*d.H*n > most {
		return 0
	}
	return n
}

// rowsOfTile is how many query rows of a key head a block has.
func (o operands) rowsOfTile() int {
	switch rows := o.T * o.H / o.KV; {
	case o.k != o.v:
		return 4
	case rows == 1:
		return 1
	case rows <= 4:
		return 4
	}
	return 8
}

func (o operands) whole() int {
	if o.aligned() {
		return 1
	}
	return 0
}

// byRows is the result in one pass, or in pieces that are merged.
func (o operands) byRows() []work {
	pieces := o.pieces()
	if pieces == 0 {
		return []work{o.rows(o.out[0], 0, 0, 0, 0)}
	}
	return []work{
		o.rows(0, o.scratch, 0, 0, pieces),
		{
			source: rowsSource, kernel: "attention_merge", grid: o.B * o.T * o.H, block: min(256, ceilDiv(o.D, 32)*32),
			args: []any{o.scratch, o.in[3], o.out[0], o.T, o.H, o.D, o.S, pieces, o.narrow},
		},
	}
}

// rows launches attention_rows.
func (o operands) rows(out, partial, stats, g driver.Pointer, pieces int) work {
	R, lanes := o.rowsOfTile(), o.lanes()
	tiles := ceilDiv(o.T*o.H/o.KV, R)
	name := "attention_rows_" + stored(o.k) + "_" + strconv.Itoa(R)
	if o.k != o.v {
		name = "attention_rows_" + stored(o.k) + "_" + stored(o.v) + "_4"
	}
	args := []any{o.in[0], o.in[1], o.in[2], o.in[3], out, partial, stats, g}
	args = append(append(args, o.sizes()...), lanes, o.whole(), tiles, pieces, float32(o.scale()), o.narrow, o.failure, o.node)
	floats := pieceSize*(R|1) + (6*R+3)/4*4 + (rowsWarps+1)*R*8*lanes
	return work{rowsSource, name, tiles * o.B * o.KV * max(pieces, 1), rowsThreads, 4 * floats, args}
}

// stored is the name of a type in those of kernels.
func stored(d tensor.DType) string {
	switch d {
	case tensor.BF16:
		return "bf16"
	case tensor.F16:
		return "f16"
	}
	return "f32"
}

// pullbackByRows computes what the passes want of each row, then dq, then dk and dv.
func (o operands) pullbackByRows() []work {
	lanes, tiles := o.lanes(), ceilDiv(o.T*o.H/o.KV, gradRows)
	shared := 4 * rowsWarps * gradRows * 8 * lanes
	args := func(out ...any) []any {
		a := append([]any{o.in[0], o.in[1], o.in[2], o.in[3], o.in[4], o.scratch}, out...)
		return append(append(a, o.sizes()...), lanes, o.whole())
	}
	return []work{
		o.rows(0, 0, o.scratch, o.in[4], 0),
		{rowsSource, "attention_dq", tiles * o.B * o.KV, rowsThreads, shared, append(args(o.out[0]), tiles, float32(o.scale()), o.narrow)},
		{
			rowsSource, "attention_dkv", ceilDiv(o.S, gradRows) * o.B * o.KV, rowsThreads, shared,
			append(args(o.out[1], o.out[2]), float32(o.scale()), o.narrow),
		},
	}
}
