package avx2

import (
	"math"

	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
)

// spaced is a code book in arithmetic progression: low, low+step, ... for n codes.
type spaced struct {
	low, step float64
	n         int
}

// spacedLevels tells whether levels ascend in equal steps.
func spacedLevels(levels []int8) (spaced, bool) {
	s := spaced{n: len(levels), step: 1}
	if s.n == 0 {
		return s, false
	}
	s.low = float64(levels[0])
	if s.n > 1 {
		s.step = float64(levels[1]) - s.low
	}
	for i, l := range levels {
		if float64(l) != s.level(i) {
			return s, false
		}
	}
	return s, s.step > 0
}

func (s spaced) level(code int) float64 { return s.low + float64(code)*s.step }

// nearest is the code of the level nearest to v, the first of equally near ones. The distances are those that a search
// of the whole book would compare: only far beyond the book are more than two neighbors equally near, by rounding.
func (s spaced) nearest(v float64) byte {
	if !(math.Abs(v) < 1<<20) { // NaN as well
		return s.search(v, 0, s.n)
	}
	guess := int((v-s.low)/s.step + 0.5)
	return s.search(v, max(0, min(guess, s.n-1)-1), min(s.n, max(guess, 0)+2))
}

// search looks through codes lo to hi.
func (s spaced) search(v float64, lo, hi int) byte {
	best, distance := 0, math.Inf(1)
	for code := lo; code < hi; code++ {
		if d := math.Abs(v - s.level(code)); d < distance {
			best, distance = code, d
		}
	}
	return byte(best)
}

// encodeSpaced packs codes over equally spaced levels without a search of the book.
func encodeSpaced() host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			_, ok := spacedLevels(n.Attr.(graph.CodeAttr).Levels)
			return ok && len(n.Out[0].Shape) > 0
		},
		Bind: func(c *host.Call) []host.Loop {
			s, _ := spacedLevels(c.Node.Attr.(graph.CodeAttr).Levels)
			x, z, per := c.In[0].F32(), c.Out[0].Data, c.Out[0].DType.Block()
			n, width := rows(c.Node)
			bytes, bits := len(z)/max(1, n), 8/per
			return []host.Loop{loop(n, 4*width, func(lo, hi int) {
				for r := lo; r < hi; r++ {
					s.encodeRow(z[r*bytes:(r+1)*bytes], x[r*width:(r+1)*width], per, bits)
				}
			})}
		},
	}
}

// encodeRow packs the codes of x, so many a byte of so many bits, low bits first.
func (s spaced) encodeRow(dst []byte, x []float32, per, bits int) {
	for i := range dst {
		var packed byte
		for f, v := range x[i*per : min((i+1)*per, len(x))] {
			packed |= s.nearest(float64(v)) << (f * bits)
		}
		dst[i] = packed
	}
}
