package rows

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// array is an operand or a result with its type.
type array struct {
	at driver.Pointer
	tensor.Type
}

func (l *launcher) in(i int) array  { return array{l.In[i], l.Node.In[i].Type()} }
func (l *launcher) out(i int) array { return array{l.Out[i], l.Node.Out[i]} }

// coefs are coefficients of streams, of which step lie between a row's and the next
// row's.
type coefs struct {
	at   driver.Pointer
	step int
}

func (l *launcher) coefs(i, rank int) coefs { return coefs{l.In[i], stepOf(l.Node.In[i], rank)} }

// anyMix launches z_i = sum_k m_ik x_k + post_i y, without the last term where y is
// no array. m is transposed if told. If z lies over x, which is copied to room
// then, it may lie over m too: rows of as many columns as streams are matrices.
func (l *launcher) anyMix(x, y array, m coefs, transposed bool, post coefs, z array, room driver.Pointer) {
	_, S, C := dims(l.Node)
	if x.at == z.at {
		l.Copy(room, x.at, x.Bytes())
		x.at = room
		if m.at == z.at {
			m.at = room
		}
	}
	n, across, along := z.Shape.Numel(), S, 1
	if transposed {
		across, along = 1, S
	}
	l.launch("stream_mix_any", blocks(n, 256), driver.Dim{X: 256}, x.at, y.at, m.at, post.at, z.at,
		uint64(n), S, C, across, along, m.step, post.step, flags(x.Type, y.Type, z.Type))
}

// anyRead launches z = sum_i p_i x_i.
func (l *launcher) anyRead(x array, p coefs, z array) {
	_, S, C := dims(l.Node)
	n := z.Shape.Numel()
	l.launch("stream_read_any", blocks(n, 256), driver.Dim{X: 256},
		x.at, p.at, z.at, uint64(n), S, C, p.step, flags(x.Type, z.Type))
}

// anyPairs launches the sums of the products of streams of a and of b, which are
// the gradient of v, of rank dimensions if all rows share its elements.
func (l *launcher) anyPairs(a, b array, v graph.Value, rank int, out driver.Pointer, room *driver.Pointer) {
	N, S, C := dims(l.Node)
	to, finish := l.share(v, rank, out, room)
	span, parts := streamParts(l.Node)
	if stepOf(v, rank) > 0 {
		span, parts = 1, N
	}
	ofB := b.Shape.Numel() / (N * C)
	items := parts * S * ofB
	l.launch("stream_pairs_any", blocks(items, 8), driver.Dim{X: 32, Y: 8},
		a.at, b.at, to, uint64(N), S, ofB, C, span, uint64(items), flags(a.Type, b.Type))
	finish()
}

func anyStreamRead() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{true, false}, []bool{true}),
		Bind:   bind(streams, func(l *launcher) { l.anyRead(l.in(0), l.coefs(1, 1), l.out(0)) }),
	}
}

func anyStreamReadVJP() engine.Kernel {
	return engine.Kernel{
		Narrow:  narrows([]bool{true, false, true}, []bool{true, false}),
		Scratch: func(n *graph.Node) int { return shareBytes(n, n.In[1], 1) },
		Bind: bind(streams, func(l *launcher) {
			_, S, C := dims(l.Node)
			n, g, ds, pre, room := l.Node.Out[0].Shape.Numel(), l.in(2), l.out(0), l.coefs(1, 1), l.Scratch
			l.anyPairs(l.in(0), g, l.Node.In[1], 1, l.Out[1], &room)
			l.launch("stream_spread_any", blocks(n, 256), driver.Dim{X: 256},
				g.at, pre.at, ds.at, uint64(n), S, C, pre.step, flags(g.Type, ds.Type))
		}),
	}
}

func anyStreamWrite() engine.Kernel {
	return engine.Kernel{
		Narrow:  narrows([]bool{true, true, false, false}, []bool{true}),
		Scratch: func(n *graph.Node) int { return n.In[0].Type().Bytes() },
		Bind: bind(streams, func(l *launcher) {
			l.anyMix(l.in(0), l.in(1), l.coefs(2, 2), false, l.coefs(3, 1), l.out(0), l.Scratch)
		}),
	}
}

func anyStreamWriteVJP() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{true, true, false, false, true}, []bool{true, true, false, false}),
		Scratch: func(n *graph.Node) int {
			return shareBytes(n, n.In[2], 2) + shareBytes(n, n.In[3], 1) + n.In[4].Type().Bytes()
		},
		Bind: bind(streams, func(l *launcher) {
			s, y, g, ds, room := l.in(0), l.in(1), l.in(4), l.out(0), l.Scratch
			l.anyPairs(g, s, l.Node.In[2], 2, l.Out[2], &room)
			l.anyPairs(g, y, l.Node.In[3], 1, l.Out[3], &room)
			l.anyRead(g, l.coefs(3, 1), l.out(1))
			l.anyMix(g, array{}, l.coefs(2, 2), true, coefs{}, ds, room)
		}),
	}
}
