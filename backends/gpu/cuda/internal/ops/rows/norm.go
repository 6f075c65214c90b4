package rows

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/quantized"
	"github.com/ternlm/tern/framework/graph"
)

func addNorms(t engine.Table) {
	t[quantized.Norm] = []engine.Kernel{rmsNormInt8()}
	t[quantized.Gate] = []engine.Kernel{swiGLUInt8()}
	add(t, "rmsnorm", rmsNorm())
	add(t, "rmsnorm.vjp", rmsNormVJP())
	add(t, "int8", int8Rows())
	add(t, "int8.vjp", int8VJP())
}

func rmsNorm() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{true, false}, []bool{true}),
		Bind: bind(norms, func(l *launcher) {
			rows, width := split(l.Node.In[0].Shape())
			v, suffix := vector(width)
			block := rowBlock(width / v)
			l.launch("rmsnorm"+suffix, blocks(rows, block.Y), block,
				l.In[0], l.In[1], l.Out[0], uint64(rows), width, epsilon(l.Node), l.Narrow())
		}),
	}
}

// quantizes makes the kernel of an op that leaves rows as int8, from those of its
// operands that may be bf16. rest are its arguments behind their sizes.
func quantizes(name string, in []bool, rest func(n *graph.Node) []any) engine.Kernel {
	return engine.Kernel{
		Narrow: narrows(in, []bool{false, false}),
		Bind: bind(norms, func(l *launcher) {
			rows, width := split(l.Node.In[0].Shape())
			v, suffix := vector(width)
			block := rowBlock(width / v)
			args := append([]any{l.In[0], l.In[1], l.Out[0], l.Out[1], uint64(rows), width, l.Node.Out[0].Shape[1]}, rest(l.Node)...)
			l.launch(name+suffix, blocks(rows, block.Y), block, append(args, l.Narrow())...)
		}),
	}
}

// rmsNormInt8 has the threads of rmsNorm, and so the bits of its norm.
func rmsNormInt8() engine.Kernel {
	return quantizes("rmsnorm_int8", []bool{true, false}, func(n *graph.Node) []any { return []any{epsilon(n)} })
}

func swiGLUInt8() engine.Kernel {
	return quantizes("swiglu_int8", []bool{true, true}, func(*graph.Node) []any { return nil })
}

func epsilon(n *graph.Node) float32 { return float32(n.Attr.(graph.NormAttr).Eps) }

// normParts cuts the rows of an rmsnorm.vjp.
func normParts(n *graph.Node) (span, parts int) {
	rows, width := split(n.In[0].Shape())
	v, _ := vector(width)
	return partition(rows, rowBlock(width/v).Y)
}

func rmsNormVJP() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{true, false, true}, []bool{true, false}),
		Scratch: func(n *graph.Node) int {
			_, parts := normParts(n)
			return 4 * parts * n.In[1].Shape().Numel()
		},
		Bind: bind(norms, func(l *launcher) {
			rows, width := split(l.Node.In[0].Shape())
			v, suffix := vector(width)
			span, parts := normParts(l.Node)
			part := l.Scratch
			if parts == 1 {
				part = l.Out[1]
			}
			l.launch("rmsnorm_vjp"+suffix, driver.Dim{X: parts}, rowBlock(width/v),
				l.In[0], l.In[1], l.In[2], l.Out[0], part, uint64(rows), width, span, epsilon(l.Node), l.Narrow())
			if parts > 1 {
				l.fold("rmsnorm_fold", part, l.Out[1], parts, width)
			}
		}),
	}
}

func int8Rows() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{true}, []bool{true}),
		Bind: bind(norms, func(l *launcher) {
			rows, width := split(l.Node.In[0].Shape())
			v, suffix := vector(width)
			block := rowBlock(width / v)
			l.launch("int8_rows"+suffix, blocks(rows, block.Y), block, l.In[0], l.Out[0], uint64(rows), width, l.Narrow())
		}),
	}
}

// int8VJP passes the cotangent on; its operand 0 is idle.
func int8VJP() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{true, true}, []bool{true}),
		Bind: bind(elementwise, func(l *launcher) {
			from, to := l.Node.In[1].Type(), l.Node.Out[0]
			if from.DType == to.DType {
				l.Copy(l.Out[0], l.In[1], to.Bytes())
				return
			}
			l.each("rewiden", to.Shape.Numel(), l.In[1], l.Out[0], uint64(to.Shape.Numel()), flags(from, to))
		}),
	}
}
