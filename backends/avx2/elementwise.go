package avx2

import (
	"github.com/ternlm/tern/backends/avx2/internal/simd"
	"github.com/ternlm/tern/backends/internal/host"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func addElementwise(t host.Table) {
	for op, f := range map[string]func(dst, x []float32){
		"neg": simd.Neg, "abs": simd.Abs, "sqrt": simd.Sqrt, "round": simd.Round,
	} {
		t.Add(op, unary(f, large))
	}
	// Those that the reference rounds otherwise are taken at any size: the bits
	// of a row must not depend on how many rows there are.
	for op, f := range map[string]func(dst, x []float32){
		"rsqrt": simd.Rsqrt, "exp": simd.Exp, "log": simd.Log, "sigmoid": simd.Sigmoid,
	} {
		t.Add(op, unary(f, nil))
	}
	t.Add("scale", scale())
	t.Add("cast", cast())
	t.Add("swiglu", swiGLU())
	t.Add("swiglu.vjp", swiGLUVJP())
	t.Add("adamw", adamW())
	for op, f := range map[string]forms{
		"add": {simd.Add, simd.AddS, simd.AddS},
		"sub": {simd.Sub, simd.SubS, simd.RSubS},
		"mul": {simd.Mul, simd.MulS, simd.MulS},
		"div": {simd.Div, simd.DivS, simd.RDivS},
		"max": {simd.Max, simd.MaxS, simd.MaxS},
		"min": {simd.Min, simd.MinS, simd.MinS},
	} {
		t.Add(op, binary(f))
	}
}

// large reports whether the result of n is worth vectors.
func large(n *graph.Node) bool { return n.Out[0].Shape.Numel() >= 32 }

func unary(f func(dst, x []float32), supports func(n *graph.Node) bool) host.Kernel {
	return host.Kernel{Supports: supports, Bind: func(c *host.Call) []host.Loop {
		x, z := c.In[0].F32(), c.Out[0].F32()
		return []host.Loop{loop(len(z), 4, func(lo, hi int) { f(z[lo:hi], x[lo:hi]) })}
	}}
}

func scale() host.Kernel {
	return host.Kernel{Supports: large, Bind: func(c *host.Call) []host.Loop {
		x, z, s := c.In[0].F32(), c.Out[0].F32(), float32(c.Node.Attr.(graph.ConstAttr).Value)
		return []host.Loop{loop(len(z), 1, func(lo, hi int) { simd.MulS(z[lo:hi], x[lo:hi], s) })}
	}}
}

// cast converts between f32 and f16.
func cast() host.Kernel {
	return host.Kernel{
		Supports: func(n *graph.Node) bool {
			return large(n) && (n.In[0].Type().DType == tensor.F16 || n.Out[0].DType == tensor.F16)
		},
		Bind: func(c *host.Call) []host.Loop {
			if c.Out[0].DType == tensor.F16 {
				x, z := c.In[0].F32(), c.Out[0].U16()
				return []host.Loop{loop(len(z), 1, func(lo, hi int) { simd.F32ToF16(z[lo:hi], x[lo:hi]) })}
			}
			x, z := c.In[0].U16(), c.Out[0].F32()
			return []host.Loop{loop(len(z), 1, func(lo, hi int) { simd.F16ToF32(z[lo:hi], x[lo:hi]) })}
		},
	}
}

func swiGLU() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		gate, up, z := c.In[0].F32(), c.In[1].F32(), c.Out[0].F32()
		return []host.Loop{loop(len(z), 6, func(lo, hi int) { simd.SwiGLU(z[lo:hi], gate[lo:hi], up[lo:hi]) })}
	}}
}

func swiGLUVJP() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		gate, up, g, dgate, dup := c.In[0].F32(), c.In[1].F32(), c.In[2].F32(), c.Out[0].F32(), c.Out[1].F32()
		return []host.Loop{loop(len(g), 8, func(lo, hi int) {
			simd.SwiGLUGrad(dgate[lo:hi], dup[lo:hi], gate[lo:hi], up[lo:hi], g[lo:hi])
		})}
	}}
}

func adamW() host.Kernel {
	return host.Kernel{Bind: func(c *host.Call) []host.Loop {
		a := c.Node.Attr.(graph.AdamAttr)
		p, g, m, v := c.In[0].F32(), c.In[1].F32(), c.In[2].F32(), c.In[3].F32()
		lr, c1, c2 := c.In[4].F32(), c.In[5].F32(), c.In[6].F32()
		p2, m2, v2 := c.Out[0].F32(), c.Out[1].F32(), c.Out[2].F32()
		return []host.Loop{loop(len(p), 4, func(lo, hi int) {
			simd.AdamW(p2[lo:hi], m2[lo:hi], v2[lo:hi], p[lo:hi], m[lo:hi], v[lo:hi], g[lo:hi],
				lr[0], float32(a.Beta1), float32(a.Beta2), float32(a.Eps), float32(a.Decay), c1[0], c2[0])
		})}
	}}
}
