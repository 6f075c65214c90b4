package scalar

import (
	"math"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func addCodes[F Float](t host.Table) {
	t.Add("encode", encode[F]())
	t.Add("decode", decode[F]())
}

// encode packs the code of the nearest level, the first of equally near ones.
func encode[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		if c.Out[0].DType == tensor.I8 {
			return []host.Loop{encodeBytes(c.Out[0].I8(), view[F](c.In[0]))}
		}
		x, z, levels := view[F](c.In[0]), c.Out[0].Data, c.Node.Attr.(graph.CodeAttr).Levels
		n, width := rows(c.In[0].Shape)
		perByte := c.Out[0].DType.Block()
		bytes, bits := len(z)/n, 8/perByte
		return []host.Loop{loop(n, 4*width, func(lo, hi int) {
			for r := lo; r < hi; r++ {
				to := z[r*bytes : (r+1)*bytes]
				clear(to)
				for i, v := range x[r*width : (r+1)*width] {
					to[i/perByte] |= nearest(float64(v), levels) << (i % perByte * bits)
				}
			}
		})}
	}}
}

// encodeBytes rounds to the nearest of -127 to 127, the lower of equally near ones; NaN gives -127.
func encodeBytes[F Float](z []int8, x []F) host.Loop {
	return loop(len(z), 4, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			z[i] = -127
			if v := float64(x[i]); v > -127 {
				z[i] = int8(min(127, math.Ceil(v-0.5)))
			}
		}
	})
}

func nearest(v float64, levels []int8) byte {
	best, distance := 0, math.Inf(1)
	for i, l := range levels {
		if d := math.Abs(v - float64(l)); d < distance {
			best, distance = i, d
		}
	}
	return byte(best)
}

// codeBook is levels by code. A code that the book lacks stands for 0, so that
// no byte of a file can make a kernel read beyond it.
func codeBook[E Float | int8](levels []int8) (book [16]E) {
	for i, l := range levels {
		book[i] = E(l)
	}
	return book
}

// unpack sets dst to the levels of a row of codes.
func unpack[E Float | int8](dst []E, codes []byte, perByte int, book *[16]E) {
	if perByte == 1 { // int8, without a book; -128 is no level
		for i := range dst {
			dst[i] = E(int8(codes[i]))
			if codes[i] == 0x80 {
				dst[i] = 0
			}
		}
		return
	}
	bits := 8 / perByte
	mask := byte(1<<bits - 1)
	for i := range dst {
		dst[i] = book[codes[i/perByte]>>(i%perByte*bits)&mask&15]
	}
}

func decode[F Float]() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		return []host.Loop{unpackRows(view[F](c.Out[0]), c.In[0], c.Node.Attr.(graph.CodeAttr).Levels)}
	}}
}

// unpackRows sets dst to the levels of all codes.
func unpackRows[E Float | int8](dst []E, codes tensor.Tensor, levels []int8) host.Loop {
	n, width := rows(codes.Shape)
	book, bytes := codeBook[E](levels), len(codes.Data)/n
	return loop(n, 2*width, func(lo, hi int) {
		for r := lo; r < hi; r++ {
			unpack(dst[r*width:(r+1)*width], codes.Data[r*bytes:(r+1)*bytes], codes.DType.Block(), &book)
		}
	})
}
