package avx2

import (
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// forms are the vector routines of a binary op: two vectors, a vector and a
// scalar on its right, a vector and a scalar on its left.
type forms struct {
	vv     func(dst, x, y []float32)
	vs, sv func(dst, x []float32, c float32)
}

// span walks the result of a broadcast op in runs along the innermost axes
// over which each operand either advances or stays.
type span struct {
	run  int      // elements of a run
	step [2]int   // of each operand along a run: 1 or 0
	dims []int    // of the runs, outermost first
	jump [][2]int // elements that each operand moves for one step of a dim
}

// spanOf merges the axes of the operands x and y broadcast to out.
func spanOf(out, x, y tensor.Shape) span {
	strides := func(s tensor.Shape) []int {
		st, n := make([]int, len(s)), 1
		for d := len(s) - 1; d >= 0; d-- {
			if s[d] != 1 {
				st[d] = n
				n *= s[d]
			}
		}
		return st
	}
	sx, sy := strides(x), strides(y)
	var dims []int
	var jump [][2]int
	for d, size := range out {
		if size == 1 {
			continue
		}
		j := [2]int{sx[d], sy[d]}
		if k := len(dims) - 1; k >= 0 && jump[k] == [2]int{j[0] * size, j[1] * size} {
			dims[k], jump[k] = dims[k]*size, j
			continue
		}
		dims, jump = append(dims, size), append(jump, j)
	}
	if len(dims) == 0 {
		return span{run: 1, step: [2]int{1, 1}}
	}
	k := len(dims) - 1
	return span{run: dims[k], step: jump[k], dims: dims[:k], jump: jump[:k]}
}

// count is the number of runs.
func (s *span) count() int { return tensor.Shape(s.dims).Numel() }

// at gives where the operands of run r start.
func (s *span) at(r int) (x, y int) {
	for d := len(s.dims) - 1; d >= 0; d-- {
		i := r % s.dims[d]
		r /= s.dims[d]
		x += i * s.jump[d][0]
		y += i * s.jump[d][1]
	}
	return x, y
}

// binary runs an op of two f32 operands. Runs too short for vectors are left
// to the reference kernel.
func binary(f forms) host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			s := spanOf(n.Out[0].Shape, n.In[0].Shape(), n.In[1].Shape())
			return s.run >= 8 && n.Out[0].Shape.Numel() >= 32
		},
		Bind: func(c *host.Call) []host.Loop {
			x, y, z := c.In[0].F32(), c.In[1].F32(), c.Out[0].F32()
			s := spanOf(c.Out[0].Shape, c.In[0].Shape, c.In[1].Shape)
			if s.count() == 1 {
				return []host.Loop{loop(len(z), 1, func(lo, hi int) { f.apply(s.step, z[lo:hi], x, y, lo) })}
			}
			return []host.Loop{loop(s.count(), s.run, func(lo, hi int) {
				for r := lo; r < hi; r++ {
					i, j := s.at(r)
					f.apply(s.step, z[r*s.run:(r+1)*s.run], x[i:], y[j:], 0)
				}
			})}
		},
	}
}

// apply computes dst from the elements of x and y that start at `from` of a
// run in which they advance by step.
func (f *forms) apply(step [2]int, dst, x, y []float32, from int) {
	switch step {
	case [2]int{1, 1}:
		f.vv(dst, x[from:], y[from:])
	case [2]int{1, 0}:
		f.vs(dst, x[from:], y[0])
	case [2]int{0, 1}:
		f.sv(dst, y[from:], x[0])
	}
}
