package rows

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
)

func addNorms(t engine.Table) {
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
