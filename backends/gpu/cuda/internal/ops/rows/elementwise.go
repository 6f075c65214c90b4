package rows

import (
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
)

func addElementwise(t engine.Table) {
	add(t, "swiglu", swiGLU())
	add(t, "swiglu.vjp", swiGLUVJP())
	add(t, "adamw", adamW())
}

// each launches a kernel of elementwise.cu: a thread for each chunk of 4.
func (l *launcher) each(name string, n int, args ...any) {
	l.launch(name, blocks(ceil(n, 4), 256), driver.Dim{X: 256}, args...)
}

func swiGLU() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{true, true}, []bool{true}),
		Bind: bind(elementwise, func(l *launcher) {
			n := l.Node.Out[0].Shape.Numel()
			l.each("swiglu", n, l.In[0], l.In[1], l.Out[0], uint64(n), l.Narrow())
		}),
	}
}

func swiGLUVJP() engine.Kernel {
	return engine.Kernel{
		Narrow: narrows([]bool{true, true, true}, []bool{true, true}),
		Bind: bind(elementwise, func(l *launcher) {
			n := l.Node.Out[0].Shape.Numel()
			l.each("swiglu_vjp", n, l.In[0], l.In[1], l.In[2], l.Out[0], l.Out[1], uint64(n), l.Narrow())
		}),
	}
}

func adamW() engine.Kernel {
	return engine.Kernel{Bind: bind(elementwise, func(l *launcher) {
		n, a := l.Node.Out[0].Shape.Numel(), l.Node.Attr.(graph.AdamAttr)
		var args []any
		for _, p := range append(append([]driver.Pointer{}, l.In...), l.Out...) {
			args = append(args, p)
		}
		l.each("adamw", n, append(args, uint64(n), float32(a.Beta1), float32(1-a.Beta1), float32(a.Beta2), float32(1-a.Beta2),
			float32(a.Eps), float32(a.Decay))...)
	})}
}
