package attention

import (
	"encoding/binary"
	"math"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// rope turns operand of by the angles of its positions times sign: the pullback
// turns back.
func rope(of int, sign float32) engine.Kernel {
	return engine.Kernel{
		Narrow: func(n *graph.Node) (in, out []bool) {
			in = make([]bool, len(n.In))
			in[0], in[of] = true, true // the pullback does not read x
			return in, []bool{true}
		},
		Bind: func(c *engine.Call) error {
			turns, err := c.Constant(turnsOf(c.Node.Attr.(graph.RoPEAttr), c.Node.Out[0].Shape[3]))
			if err != nil {
				return err
			}
			return bind(c, turn(c.Node.Out[0].Shape, c.In[of], c.In[1], turns, c.Out[0], sign, widths(c.Node.In[of].Type(), c.Node.Out[0])))
		},
	}
}

// turnsOf returns the frequencies as fractions of a turn, in units of 2^-64 of one.
func turnsOf(a graph.RoPEAttr, d int) []byte {
	var data []byte
	for _, f := range a.Frequencies(d) {
		fraction := math.Mod(f/(2*math.Pi), 1)
		data = binary.LittleEndian.AppendUint64(data, uint64(math.Ldexp(fraction, 64)))
	}
	return data
}

// turn launches rope over [B,T,H,D].
func turn(s tensor.Shape, x, pos, turns, out driver.Pointer, sign float32, narrow uint32) work {
	const threads, heads = 128, 4
	T, H, D := s[1], s[2], s[3]
	name, size := "rope_pairs", 2
	if D%8 == 0 && (x|out)%16 == 0 {
		name, size = "rope_octets", 8
	}
	n := s[0] * T * ceilDiv(H, heads) * (D / size)
	return work{ropeSource, name, ceilDiv(n, threads), threads, 0, []any{x, pos, turns, out, uint64(n), T, H, D, sign, narrow}}
}

// widths has bit i set where type i is bf16.
func widths(types ...tensor.Type) uint32 {
	var mask uint32
	for i, t := range types {
		if t.DType == tensor.BF16 {
			mask |= 1 << i
		}
	}
	return mask
}
