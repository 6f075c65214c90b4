package avx2

import (
	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// headLoss builds the kernels of a head with its loss, x [N,K] and targets [N]
// to nll [N], which hold the logits of a block of rows at a time. The logits
// are made by the kernels of the product alone, so every bit is that of the
// product followed by crossentropy.
//
// A gradient on its own makes the logits again; joined with the loss, as in a
// training step, it takes them from it. Shapes whose logits all fit in one
// block are left to the expansion, which shares them in any case.
type headLoss struct {
	parallel
	table   host.Table // of the product's kernels
	product *graph.Op
}

const (
	// lossBlock is 52 MiB of logits: 256 rows of a vocabulary of 50257.
	lossBlock = 13 << 20
	// Fewer rows would make poor products, more gain nothing.
	lossRowsMin, lossRowsMax = 32, 256
)

func (k parallel) addHeadLosses(t host.Table) {
	for op, product := range map[string]string{
		"linearcrossentropy": "matmul", "bitlinearcrossentropy": "bitlinear", "codebookcrossentropy": "codebookmatmul",
	} {
		h := headLoss{parallel: k, table: t, product: graph.Lookup(product)}
		t.Add(op, h.forward())
		if op != "codebookcrossentropy" { // whose scales have a gradient
			t.Add(op+".vjp", h.gradient(false))
			t.Add(op+".joint", h.gradient(true))
		}
	}
}

// headShape is the size of a head: x [n,k], w [v,k], in so many blocks of rows.
type headShape struct{ n, k, v, blocks int }

func (h headLoss) shape(n *graph.Node) headShape {
	s := headShape{n: n.In[0].Dim(0), k: n.In[0].Dim(1), v: n.In[1].Dim(0)}
	rows := min(max(h.block/s.v, lossRowsMin), lossRowsMax)
	s.blocks = max(1, (s.n+rows-1)/rows)
	return s
}

// rows are those of block i. Blocks differ by one row at most.
func (s headShape) rows(i int) (lo, hi int) { return i * s.n / s.blocks, (i + 1) * s.n / s.blocks }

// most is the number of rows of the largest block.
func (s headShape) most() int { return (s.n + s.blocks - 1) / s.blocks }

// logits is the node that multiplies some rows alone; its operands are the
// first of n.
func (h headLoss) logits(n *graph.Node, rows int) *graph.Node {
	s := h.shape(n)
	x := &graph.Node{Op: graph.Lookup("input"), Out: []tensor.Type{tensor.T(tensor.F32, rows, s.k)}}
	in := append([]graph.Value{{N: x}}, n.In[1:h.product.Arity]...)
	attr := n.Attr
	if attr == nil {
		attr = graph.MatMulAttr{TransY: true}
	}
	return &graph.Node{Op: h.product, In: in, Out: []tensor.Type{tensor.T(tensor.F32, rows, s.v)}, Attr: attr, Scope: n.Scope}
}

// fits reports whether the logits of n are worth cutting and have a kernel.
func (h headLoss) fits(n *graph.Node) bool {
	s := h.shape(n)
	if s.blocks == 1 || s.n*s.v <= h.block || s.v < 8 {
		return false
	}
	_, ok := h.table.Pick(h.logits(n, s.most()))
	return ok
}

// inner is the kernel that makes the logits of n, and its working memory.
func (h headLoss) inner(n *graph.Node) (k host.Kernel, scratch int) {
	s := h.shape(n)
	k, _ = h.table.Pick(h.logits(n, s.most()))
	if k.Scratch != nil {
		for _, rows := range []int{s.n / s.blocks, s.most()} {
			scratch = max(scratch, k.Scratch(h.logits(n, rows)))
		}
	}
	return k, scratch
}

func (h headLoss) prepare(n *graph.Node) []host.Prepared {
	k, _ := h.inner(n)
	if k.Prepare == nil {
		return nil
	}
	return k.Prepare(h.logits(n, h.shape(n).most()))
}

// prepareBeside is prepare for a kernel that also reads the weight as it lies.
func (h headLoss) prepareBeside(n *graph.Node) []host.Prepared {
	all := h.prepare(n)
	for i := range all {
		all[i].Sole = false
	}
	return all
}

// multiply returns the loops that make the logits of rows lo to hi.
func (h headLoss) multiply(c *host.Call, lo, hi int, logits, scratch []byte) []host.Loop {
	call := *c
	call.Node = h.logits(c.Node, hi-lo)
	x := tensor.Tensor{Type: call.Node.In[0].Type(), Data: rowBytes(c.In[0], lo, hi)}
	call.In = append([]tensor.Tensor{x}, c.In[1:h.product.Arity]...)
	call.Out = []tensor.Tensor{{Type: call.Node.Out[0], Data: logits}}
	call.Scratch = scratch
	k, _ := h.table.Pick(call.Node)
	return k.Bind(&call)
}

// rowBytes is the memory of rows lo to hi of a matrix of f32.
func rowBytes(t tensor.Tensor, lo, hi int) []byte {
	return t.Data[4*lo*t.Shape[1] : 4*hi*t.Shape[1]]
}

// blockBytes is the memory of the largest block of logits.
func (s headShape) blockBytes() int { return roundUp(4*s.most()*s.v, 64) }

func (h headLoss) forward() host.Kernel {
	return host.Kernel{
		Supports: h.fits,
		Prepare:  h.prepare,
		Scratch: func(n *graph.Node) int {
			_, inner := h.inner(n)
			return h.shape(n).blockBytes() + inner
		},
		Bind: func(c *host.Call) []host.Loop {
			s := h.shape(c.Node)
			targets, z := c.In[h.product.Arity].I32(), c.Out[0].F32()
			block, rest := c.Scratch[:s.blockBytes()], c.Scratch[s.blockBytes():]
			all := []host.Loop{checkTargets(c, targets, s.v)}
			for i := range s.blocks {
				lo, hi := s.rows(i)
				logits := block[:4*(hi-lo)*s.v]
				all = append(all, h.multiply(c, lo, hi, logits, rest)...)
				all = append(all, nllRows(z[lo:hi], tensorF32(logits), targets[lo:hi], s.v))
			}
			return all
		},
	}
}

// headGrad is the gradient of one block of rows: dX = dY W^, dW += dY^T x^.
type headGrad struct {
	dx, dw simd.Gemm
	hat    int // bytes of x^, 0 where x itself is multiplied
}

// grad plans the gradient of block i; panels makes those of W^.
func (h headLoss) grad(n *graph.Node, i int, panels simd.PanelSource) headGrad {
	s := h.shape(n)
	lo, hi := s.rows(i)
	g := headGrad{
		dx: simd.Gemm{M: hi - lo, N: s.k, K: s.v, Source: panels, Workers: h.workers, ISA: h.isa},
		dw: simd.Gemm{M: s.v, N: s.k, K: hi - lo, TransA: true, Accumulate: i > 0, Workers: h.workers, ISA: h.isa},
	}
	if n.Attr != nil {
		g.hat = roundUp(4*s.most()*s.k, 64)
	}
	return g
}

// panels makes those of the weight that x was multiplied by.
func (h headLoss) panels(c *host.Call) simd.PanelSource {
	if c.Node.Attr == nil {
		return simd.RowPanels(c.In[1].F32(), c.In[1].Shape[1])
	}
	codes := codesOf(c.Node, 2)
	codes.Codes, codes.Scales = c.In[2].Data, c.In[3].F32()
	return codes.Panels
}

// gradScratch is the memory that a block's gradient needs beside its logits.
func (h headLoss) gradScratch(n *graph.Node) int {
	_, most := h.inner(n)
	none := func([]float32, int, int, int, int) {} // only its presence counts
	hat := 0
	for i := range h.shape(n).blocks {
		g := h.grad(n, i, none)
		most = max(most, g.dx.ScratchBytes(), g.dw.ScratchBytes())
		hat = g.hat
	}
	return hat + most
}

// gradient is the kernel of the pullback, or that of value and pullback.
func (h headLoss) gradient(joint bool) host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool { return h.fits(n) && h.differentiable(n) },
		Prepare:  h.prepareBeside,
		Scratch:  func(n *graph.Node) int { return h.shape(n).blockBytes() + h.gradScratch(n) },
		Bind: func(c *host.Call) []host.Loop {
			s := h.shape(c.Node)
			targets, g := c.In[h.product.Arity].I32(), c.In[h.product.Arity+1].F32()
			block, rest := c.Scratch[:s.blockBytes()], c.Scratch[s.blockBytes():]
			all := []host.Loop{checkTargets(c, targets, s.v)}
			panels := h.panels(c)
			out := c.Out
			if joint {
				out = out[1:]
			}
			for i := range s.blocks {
				lo, hi := s.rows(i)
				logits := block[:4*(hi-lo)*s.v]
				all = append(all, h.multiply(c, lo, hi, logits, rest)...)
				if joint {
					all = append(all, nllRows(c.Out[0].F32()[lo:hi], tensorF32(logits), targets[lo:hi], s.v))
				}
				all = append(all, nllGradRows(tensorF32(logits), tensorF32(logits), targets[lo:hi], g[lo:hi], s.v))
				all = append(all, h.spread(c, i, panels, tensorF32(logits), out, rest)...)
			}
			if c.Node.Attr == nil {
				return all
			}
			dScales := out[2].Data
			return append(all, host.Loop{Items: 1, Do: func(_, _ int) { clear(dScales) }})
		},
	}
}

// differentiable reports whether the gradient reaches w alone, through codes
// that have panels.
func (h headLoss) differentiable(n *graph.Node) bool {
	if n.Attr == nil {
		return n.In[1].Type().DType == tensor.F32
	}
	return hasPanels(n, 2)
}

// spread takes block i's gradient of the logits on to x and w, the first two of
// out.
func (h headLoss) spread(c *host.Call, i int, panels simd.PanelSource, d []float32, out []tensor.Tensor, scratch []byte) []host.Loop {
	g := h.grad(c.Node, i, panels)
	s := h.shape(c.Node)
	lo, hi := s.rows(i)
	x, hat := tensorF32(rowBytes(c.In[0], lo, hi)), tensorF32(scratch[:g.hat])
	scratch = scratch[g.hat:]
	all := loops(g.dx.Phases(d, nil, tensorF32(rowBytes(out[0], lo, hi)), scratch))
	if g.hat > 0 {
		from := x
		all = append(all, loop(hi-lo, 3*s.k, func(lo, hi int) {
			for i := lo; i < hi; i++ {
				simd.FakeQuantRow(hat[i*s.k:(i+1)*s.k], from[i*s.k:(i+1)*s.k])
			}
		}))
		x = hat
	}
	return append(all, loops(g.dw.Phases(d, x, out[1].F32(), scratch))...)
}
