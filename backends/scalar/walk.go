package scalar

import (
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// maxRank is the most dimensions that tensor.Type.Check allows.
const maxRank = 8

// walk visits the elements of a shape in order, with the offsets of the
// matching elements of up to three operands. Dimensions along which all
// operands advance evenly are merged: operands of one shape make a walk of one
// dimension, a row against a matrix makes one of two.
type walk struct {
	rank int
	dims [maxRank]int
	step [maxRank][3]int // elements of each operand for one step of a dimension
}

// broadcastWalk walks the result of n with its operands broadcast to it.
func broadcastWalk(n *graph.Node) *walk {
	w := &walk{}
	out := n.Out[0].Shape
	var strides [3][maxRank]int
	for k, v := range n.In {
		size := 1
		for d := len(out) - 1; d >= 0; d-- {
			if s := v.Shape()[d]; s != 1 {
				strides[k][d] = size
				size *= s
			}
		}
	}
	for d, size := range out {
		w.push(size, [3]int{strides[0][d], strides[1][d], strides[2][d]})
	}
	w.close()
	return w
}

// transposeWalk walks the result of transposing s by perm.
func transposeWalk(s tensor.Shape, perm []int) *walk {
	var strides [maxRank]int
	size := 1
	for d := len(s) - 1; d >= 0; d-- {
		strides[d] = size
		size *= s[d]
	}
	w := &walk{}
	for _, p := range perm {
		w.push(s[p], [3]int{strides[p]})
	}
	w.close()
	return w
}

// push adds an inner dimension.
func (w *walk) push(size int, step [3]int) {
	if size == 1 {
		return
	}
	if w.rank > 0 {
		outer := w.step[w.rank-1]
		if outer == [3]int{step[0] * size, step[1] * size, step[2] * size} {
			w.dims[w.rank-1] *= size
			w.step[w.rank-1] = step
			return
		}
	}
	w.dims[w.rank], w.step[w.rank] = size, step
	w.rank++
}

// close makes the walk of a single element one of one dimension.
func (w *walk) close() {
	if w.rank == 0 {
		w.dims[0], w.rank = 1, 1
	}
}

// inner is the step of each operand along the innermost dimension.
func (w *walk) inner() [3]int { return w.step[w.rank-1] }

// each covers the elements [lo,hi) with runs along the innermost dimension: n
// elements from lo on, and where the operands start.
func (w *walk) each(lo, hi int, run func(lo, n int, at [3]int)) {
	last := w.rank - 1
	for lo < hi {
		rest, j := lo/w.dims[last], lo%w.dims[last]
		at := [3]int{j * w.step[last][0], j * w.step[last][1], j * w.step[last][2]}
		for d := last - 1; d >= 0; d-- {
			i := rest % w.dims[d]
			rest /= w.dims[d]
			for k := range at {
				at[k] += i * w.step[d][k]
			}
		}
		n := min(w.dims[last]-j, hi-lo)
		run(lo, n, at)
		lo += n
	}
}
