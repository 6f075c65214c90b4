package avx2

import (
	"math"
	"slices"
	"sync"
	"unsafe"
	"weak"

	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func addRows(t host.Table) {
	t.Add("rmsnorm", rmsNorm())
	t.Add("rmsnorm.vjp", rmsNormVJP())
	t.Add("softmax", softmax())
	t.Add("int8", int8Rows())
	t.Add("rope", rope(0, simd.RoPERow))
	t.Add("rope.vjp", rope(2, simd.RoPEInverseRow))
}

func tensorF32(b []byte) []float32 { return tensor.View[float32](b) }

// partRows is the number of rows whose shares of a column sum are added up in
// one part: a constant, so the order of the sum depends on the shape alone.
const partRows = 64

func parts(n int) int { return (n + partRows - 1) / partRows }

// addParts sets z to the sum of n parts of len(z) floats.
func addParts(z, part []float32, n int) host.Loop {
	return loop(len(z), n, func(lo, hi int) {
		copy(z[lo:hi], part[lo:hi])
		for i := 1; i < n; i++ {
			simd.Add(z[lo:hi], z[lo:hi], part[i*len(z)+lo:i*len(z)+hi])
		}
	})
}

func rmsNorm() host.Kernel {
	return host.Kernel{Supports: wide, Bind: func(c *host.Call) []host.Loop {
		x, w, z := c.In[0].F32(), c.In[1].F32(), c.Out[0].F32()
		n, d := rows(c.Node)
		eps := float32(c.Node.Attr.(graph.NormAttr).Eps)
		return []host.Loop{loop(n, 2*d, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				simd.RMSNormRow(z[i*d:(i+1)*d], x[i*d:(i+1)*d], w, eps)
			}
		})}
	}}
}

func rmsNormVJP() host.Kernel {
	return host.Kernel{
		Supports: wide,
		Scratch: func(n *graph.Node) int {
			count, d := rows(n)
			return 4 * parts(count) * d
		},
		Bind: func(c *host.Call) []host.Loop {
			x, w, g, dx, dw := c.In[0].F32(), c.In[1].F32(), c.In[2].F32(), c.Out[0].F32(), c.Out[1].F32()
			n, d := rows(c.Node)
			eps, part := float32(c.Node.Attr.(graph.NormAttr).Eps), tensorF32(c.Scratch)
			return []host.Loop{loop(parts(n), 5*d*partRows, func(lo, hi int) {
				for p := lo; p < hi; p++ {
					share := part[p*d : (p+1)*d]
					clear(share)
					for i := p * partRows; i < min(n, (p+1)*partRows); i++ {
						x, g := x[i*d:(i+1)*d], g[i*d:(i+1)*d]
						rstd := simd.RMSNormGradRow(dx[i*d:(i+1)*d], x, w, g, eps)
						simd.RMSNormGainGradRow(share, x, g, rstd)
					}
				}
			}), addParts(dw, part, parts(n))}
		},
	}
}

func softmax() host.Kernel {
	return host.Kernel{Supports: wide, Bind: func(c *host.Call) []host.Loop {
		x, z := c.In[0].F32(), c.Out[0].F32()
		n, d := rows(c.Node)
		return []host.Loop{loop(n, 6*d, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				simd.SoftmaxRow(z[i*d:(i+1)*d], x[i*d:(i+1)*d])
			}
		})}
	}}
}

func int8Rows() host.Kernel {
	return host.Kernel{Supports: wide, Bind: func(c *host.Call) []host.Loop {
		x, z := c.In[0].F32(), c.Out[0].F32()
		n, d := rows(c.Node)
		return []host.Loop{loop(n, 3*d, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				simd.FakeQuantRow(z[i*d:(i+1)*d], x[i*d:(i+1)*d])
			}
		})}
	}}
}

// angles is the table of the rotations of a run, made again when the positions
// have changed: in training they never do.
type angles struct {
	T        int
	freq     []float64
	pos      []int32 // that the table was made for
	cos, sin []float32
	valid    bool
}

// rope rotates operand `of`. Nodes bound one after another to the same positions
// share a table: those of one run, which do not overlap. Positions that are a
// state may be those of several runs at once.
func rope(of int, rotate func(dst, x, cos, sin []float32)) host.Kernel {
	var last shared
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		x, pos, z := c.In[of].F32(), c.In[1].I32(), c.Out[0].F32()
		s := c.Out[0].Shape
		T, H, D := s[1], s[2], s[3]
		freq := c.Node.Attr.(graph.RoPEAttr).Frequencies(D)
		a := newAngles(len(pos), T, freq)
		if !compile.Root(c.Node.In[1]).N.IsState() {
			a = last.angles(pos, T, freq)
		}
		return []host.Loop{
			{Items: 1, Do: func(_, _ int) { a.fill(pos) }},
			loop(s[0]*T, 2*H*D, func(lo, hi int) {
				for r := lo; r < hi; r++ {
					cos, sin := a.cos[r*D/2:(r+1)*D/2], a.sin[r*D/2:(r+1)*D/2]
					for h := r * H; h < (r+1)*H; h++ {
						rotate(z[h*D:(h+1)*D], x[h*D:(h+1)*D], cos, sin)
					}
				}
			}),
		}
	}}
}

// shared is the table that was asked for last, and what for.
type shared struct {
	mu    sync.Mutex
	table *angles
	pos   weak.Pointer[int32] // does not keep the memory of a whole run
}

// angles returns the table for positions that lie where pos does.
func (s *shared) angles(pos []int32, T int, freq []float64) *angles {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := weak.Make(unsafe.SliceData(pos))
	if a := s.table; a == nil || s.pos != at || len(a.pos) != len(pos) || a.T != T || !slices.Equal(a.freq, freq) {
		s.table, s.pos = newAngles(len(pos), T, freq), at
	}
	return s.table
}

func newAngles(B, T int, freq []float64) *angles {
	n := B * T * len(freq)
	return &angles{T: T, pos: make([]int32, B), freq: freq, cos: make([]float32, n), sin: make([]float32, n)}
}

func (a *angles) fill(pos []int32) {
	if a.valid && slices.Equal(a.pos, pos) {
		return
	}
	copy(a.pos, pos)
	a.valid = true
	k := 0
	for _, p := range pos {
		for t := range a.T {
			for _, f := range a.freq {
				sin, cos := math.Sincos(float64(int(p)+t) * f)
				a.sin[k], a.cos[k] = float32(sin), float32(cos)
				k++
			}
		}
	}
}
