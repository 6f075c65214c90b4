package scalar

import (
	"unsafe"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/tensor"
)

// pieceCost is about how many element operations are worth handing out.
const pieceCost = 1 << 14

// loop is work on items that cost so many element operations each.
func loop(items, cost int, do func(lo, hi int)) host.Loop {
	return host.Loop{Items: items, Grain: max(1, pieceCost/max(1, cost)), Do: do}
}

// once is work that is not split.
func once(do func()) host.Loop {
	return host.Loop{Items: 1, Do: func(_, _ int) { do() }}
}

// view is the data of an f32 value.
func view[F Float](t tensor.Tensor) []F { return tensor.View[F](t.Data) }

// take cuts n elements off scratch memory, keeping it aligned.
func take[E any](scratch *[]byte, n int) []E {
	size := room[E](n)
	e := tensor.View[E]((*scratch)[:size])[:n]
	*scratch = (*scratch)[size:]
	return e
}

// room is the bytes that take uses for n elements.
func room[E any](n int) int {
	var e E
	return (n*int(unsafe.Sizeof(e)) + 63) &^ 63
}

// split gives the counts of elements before, along and after an axis.
func split(s tensor.Shape, axis int) (outer, n, inner int) {
	return s[:axis].Numel(), s[axis], s[axis+1:].Numel()
}

// rows gives the number of innermost rows of a shape and their length.
func rows(s tensor.Shape) (n, width int) {
	if len(s) == 0 {
		return 1, 1
	}
	return s[:len(s)-1].Numel(), s[len(s)-1]
}

// dot is the sum of products in float64, in four interleaved parts.
func dot[F Float](x, y []F) float64 {
	var a, b, c, d float64
	y = y[:len(x)]
	i := 0
	for ; i+4 <= len(x); i += 4 {
		a += float64(x[i]) * float64(y[i])
		b += float64(x[i+1]) * float64(y[i+1])
		c += float64(x[i+2]) * float64(y[i+2])
		d += float64(x[i+3]) * float64(y[i+3])
	}
	for ; i < len(x); i++ {
		a += float64(x[i]) * float64(y[i])
	}
	return (a + b) + (c + d)
}

// bytesOf is the memory of x.
func bytesOf[E any](x []E) []byte {
	var e E
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*int(unsafe.Sizeof(e)))
}
