package main

import (
	"fmt"

	"github.com/mmcloughlin/avo/attr"
	b "github.com/mmcloughlin/avo/build"
	op "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// streams writes the mixing routines of residual streams for two and four
// streams of len(...)/n columns each.
func streams() {
	for _, n := range []int{2, 4} {
		mix(n, true)
		mix(n, false)
		read(n)
		dots(n)
	}
}

// streamPointers returns the address of each stream and the columns of one.
func streamPointers(name string, n int) (ptr []reg.GPVirtual, columns reg.GPVirtual) {
	first := base(name)
	columns = b.Load(b.Param(name).Len(), b.GP64()).(reg.GPVirtual)
	b.SHRQ(op.U8(uint8(n/2)), columns)
	ptr = []reg.GPVirtual{first}
	for len(ptr) < n {
		p := b.GP64()
		b.LEAQ(op.Mem{Base: ptr[len(ptr)-1], Index: columns, Scale: 4}, p)
		ptr = append(ptr, p)
	}
	return ptr, columns
}

func load(m op.Mem, mask *vec) vec {
	v := b.YMM()
	if mask == nil {
		b.VMOVUPS(m, v)
	} else {
		b.VMASKMOVPS(m, *mask, v)
	}
	return v
}

func store(v vec, m op.Mem, mask *vec) {
	if mask == nil {
		b.VMOVUPS(v, m)
	} else {
		b.VMASKMOVPS(v, *mask, m)
	}
}

func mix(n int, branch bool) {
	name, sig := fmt.Sprintf("streamMix%d", n), "func(dst, s, h []float32)"
	doc := "sets dst_i = h_ii*s_i, then fused + h_ij*s_j for j = i+1.., round to i-1: all streams are read before any is written."
	if branch {
		name, sig = fmt.Sprintf("streamWrite%d", n), "func(dst, s, h, y, post []float32)"
		doc = "sets dst_i = post_i*y, then fused + h_ij*s_j for j = i.., round to i-1: all streams are read before any is written."
	}
	b.TEXT(name, attr.NOSPLIT, sig)
	b.Pragma("noescape")
	document(name + " " + doc)
	s, columns := streamPointers("s", n)
	dst, _ := streamPointers("dst", n)
	h := base("h")
	var y, post reg.GPVirtual
	if branch {
		y, post = base("y"), base("post")
	}
	i := b.GP64()
	b.XORQ(i, i)
	step := func(disp int, mask *vec) {
		at := func(p reg.Register) op.Mem { return op.Mem{Base: p, Index: i, Scale: 4, Disp: disp} }
		var x, out []vec
		for j := range n {
			x = append(x, load(at(s[j]), mask))
		}
		if branch {
			x = append(x, load(at(y), mask))
		}
		for k := range n {
			acc, c := b.YMM(), b.YMM()
			first := 0
			if branch {
				b.VBROADCASTSS(op.Mem{Base: post, Disp: 4 * k}, c)
				b.VMULPS(c, x[n], acc)
			} else {
				b.VBROADCASTSS(op.Mem{Base: h, Disp: 4 * (n*k + k)}, c)
				b.VMULPS(c, x[k], acc)
				first = 1
			}
			for t := first; t < n; t++ {
				j := (k + t) % n
				b.VBROADCASTSS(op.Mem{Base: h, Disp: 4 * (n*k + j)}, c)
				b.VFMADD231PS(c, x[j], acc)
			}
			out = append(out, acc)
		}
		for k, v := range out {
			store(v, at(dst[k]), mask)
		}
	}
	loops(columns, i, 1, step)
	b.VZEROUPPER()
	b.RET()
}

func read(n int) {
	name := fmt.Sprintf("streamRead%d", n)
	b.TEXT(name, attr.NOSPLIT, "func(dst, s, pre []float32)")
	b.Pragma("noescape")
	document(name + " sets dst = pre_0*s_0, then fused + pre_j*s_j for j = 1...")
	s, columns := streamPointers("s", n)
	dst, pre := base("dst"), base("pre")
	c := make([]vec, n)
	for j := range c {
		c[j] = b.YMM()
		b.VBROADCASTSS(op.Mem{Base: pre, Disp: 4 * j}, c[j])
	}
	i := b.GP64()
	b.XORQ(i, i)
	loops(columns, i, 2, func(disp int, mask *vec) {
		at := func(p reg.Register) op.Mem { return op.Mem{Base: p, Index: i, Scale: 4, Disp: disp} }
		acc := load(at(s[0]), mask)
		b.VMULPS(c[0], acc, acc)
		for j := 1; j < n; j++ {
			x := load(at(s[j]), mask)
			b.VFMADD231PS(c[j], x, acc)
		}
		store(acc, at(dst), mask)
	})
	b.VZEROUPPER()
	b.RET()
}

// dots writes the products of two rows with n streams and a branch. Their
// 2(n+1) sums are independent, so none needs more than one accumulator.
func dots(n int) {
	name := fmt.Sprintf("streamDots%d", n)
	b.TEXT(name, attr.NOSPLIT, "func(dst, d, s, y []float32)")
	b.Pragma("noescape")
	document(name + " sets dst_ij = sum(d_i*s_j), and sum(d_i*y) for the last j, fused, for the two rows d.")
	d, columns := streamPointers("d", 2)
	s, _ := streamPointers("s", n)
	x := append(s, base("y"))
	var acc []vec
	for range 2 * len(x) {
		v := b.YMM()
		b.VXORPS(v, v, v)
		acc = append(acc, v)
	}
	i := b.GP64()
	b.XORQ(i, i)
	loops(columns, i, 1, func(disp int, mask *vec) {
		at := func(p reg.Register) op.Mem { return op.Mem{Base: p, Index: i, Scale: 4, Disp: disp} }
		rows := []vec{load(at(d[0]), mask), load(at(d[1]), mask)}
		for j, p := range x {
			v := load(at(p), mask)
			for k, row := range rows {
				b.VFMADD231PS(row, v, acc[k*len(x)+j])
			}
		}
	})
	dst, t := base("dst"), b.YMM()
	for k, v := range acc {
		foldLanes(func(y, x, z reg.VecVirtual) { b.VADDPS(y, x, z) }, v, t)
		b.VMOVSS(v.AsX(), op.Mem{Base: dst, Disp: 4 * k})
	}
	b.VZEROUPPER()
	b.RET()
}
