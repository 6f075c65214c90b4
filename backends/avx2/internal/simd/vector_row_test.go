package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ternlm/tern/framework/tensor"
)

func random(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func wide(x []float32) []float64 {
	w := make([]float64, len(x))
	for i, v := range x {
		w[i] = float64(v)
	}
	return w
}

// checkGradient compares dx with central differences of sum(dy*f(x)) in float64.
func checkGradient(t *testing.T, what string, f func(x []float64) []float64, x, dy, dx []float32) {
	t.Helper()
	at := wide(x)
	value := func() (s float64) {
		for i, v := range f(at) {
			s += v * float64(dy[i])
		}
		return s
	}
	const h = 1e-5
	for i := range at {
		keep := at[i]
		at[i] = keep + h
		hi := value()
		at[i] = keep - h
		lo := value()
		at[i] = keep
		within(t, what, dx[i], (hi-lo)/(2*h), 3e-5*(1+math.Abs(hi-lo)/(2*h)))
	}
}

var rowLengths = []int{1, 7, 8, 40, 63}

func TestSwiGLUAndItsGradient(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(11, 1))
	silu := func(g float64) float64 { return g / (1 + math.Exp(-g)) }
	for _, n := range rowLengths {
		gate, up, dy := random(r, n), random(r, n), random(r, n)
		y, dgate, dup := make([]float32, n), make([]float32, n), make([]float32, n)
		SwiGLU(y, gate, up)
		SwiGLUGrad(dgate, dup, gate, up, dy)
		for i := range y {
			within(t, "swiglu", y[i], silu(float64(gate[i]))*float64(up[i]), 1e-6)
			within(t, "dup", dup[i], silu(float64(gate[i]))*float64(dy[i]), 1e-6)
		}
		checkGradient(t, "dgate", func(g []float64) []float64 {
			out := make([]float64, n)
			for i, v := range g {
				out[i] = silu(v) * float64(up[i])
			}
			return out
		}, gate, dy, dgate)
	}
}

func TestRMSNormAndItsGradients(t *testing.T) {
	needVectors(t)
	const eps = 1e-6
	r := rand.New(rand.NewPCG(12, 1))
	for _, n := range rowLengths {
		x, w, dy, ones := random(r, n), random(r, n), random(r, n), make([]float32, n)
		for i := range ones {
			ones[i] = 1
		}
		for _, gain := range [][]float32{w, nil} {
			g := gain
			if g == nil {
				g = ones
			}
			norm := func(x []float64) []float64 {
				var ss float64
				for _, v := range x {
					ss += v * v
				}
				out := make([]float64, n)
				for i, v := range x {
					out[i] = v / math.Sqrt(ss/float64(n)+eps) * float64(g[i])
				}
				return out
			}
			y, dx := make([]float32, n), make([]float32, n)
			rstd := RMSNormRow(y, x, gain, eps)
			for i, v := range norm(wide(x)) {
				within(t, "rmsnorm", y[i], v, 1e-6*(1+math.Abs(v)))
			}
			if got := RMSNormGradRow(dx, x, gain, dy, eps); got != rstd {
				t.Errorf("gradient's rstd is %g, forward's %g", got, rstd)
			}
			checkGradient(t, "rmsnorm dx", norm, x, dy, dx)
		}
		rstd := RMSNormRow(make([]float32, n), x, w, eps)
		dw := append([]float32(nil), ones...)
		RMSNormGainGradRow(dw, x, dy, rstd)
		for i := range dw {
			within(t, "rmsnorm dw", dw[i], 1+float64(rstd)*float64(dy[i])*float64(x[i]), 1e-5)
		}
	}
}

func softmax64(x []float64) ([]float64, float64) {
	m := math.Inf(-1)
	for _, v := range x {
		m = max(m, v)
	}
	p, sum := make([]float64, len(x)), 0.0
	for i, v := range x {
		p[i] = math.Exp(v - m)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p, m + math.Log(sum)
}

func TestSoftmaxCrossEntropyAndTheirGradients(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(13, 1))
	for _, n := range append([]int{50257}, rowLengths...) {
		x, dy := random(r, n), random(r, n)
		MulS(x, x, 5)
		p, lse := softmax64(wide(x))
		y := make([]float32, n)
		SoftmaxRow(y, x)
		for i := range y {
			within(t, "softmax", y[i], p[i], 1e-5*p[i]+1e-10)
		}
		within(t, "logsumexp", LogSumExpRow(x), lse, 1e-5)
		target := n / 2
		CrossEntropyGradRow(y, x, LogSumExpRow(x), target, 0.25)
		p[target]--
		for i := range y {
			within(t, "cross-entropy", y[i], 0.25*p[i], 1e-5*math.Abs(p[i])+1e-7)
		}
		if n > 100 {
			continue
		}
		SoftmaxRow(y, x)
		dx := append([]float32(nil), dy...)
		SoftmaxGradRow(dx, y, dx)
		checkGradient(t, "softmax dx", func(x []float64) []float64 { p, _ := softmax64(x); return p }, x, dy, dx)
	}
}

func TestRowsAtTheEdges(t *testing.T) {
	needVectors(t)
	inf := float32(math.Inf(1))
	if got := LogSumExpRow([]float32{-inf, -inf}); got != -inf {
		t.Errorf("logsumexp of -Inf is %g", got)
	}
	if got := LogSumExpRow([]float32{1, float32(math.NaN()), 2}); got == got {
		t.Errorf("logsumexp with a NaN is %g", got)
	}
	y := []float32{0, 0, 0}
	SoftmaxRow(y, []float32{-inf, 1000, 1000})
	compare(t, "masked softmax", [][]float32{y}, [][]float32{{0, 0.5, 0.5}})
	CrossEntropyGradRow(y, []float32{0, 0, 0}, 0, -1, 2)
	compare(t, "ignored target", [][]float32{y}, [][]float32{{2, 2, 2}})
}

func TestRoPEEqualsItsReferenceLoopAndTurnsBack(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(14, 1))
	for half := range 35 {
		n := 2 * half
		x, out := newFenced(n, half%3), newFenced(n, half%5)
		fill(r, x.x, false)
		cos, sin, want := make([]float32, half), make([]float32, half), make([]float32, n)
		for i := range cos {
			s, c := math.Sincos(r.Float64() * 7)
			cos[i], sin[i] = float32(c), float32(s)
		}
		ropeRef(want, x.x, cos, sin)
		RoPERow(out.x, x.x, cos, sin)
		compare(t, "rope", [][]float32{out.x}, [][]float32{want})
		for i := range cos {
			within(t, "rope", out.x[2*i], float64(x.x[2*i])*float64(cos[i])-float64(x.x[2*i+1])*float64(sin[i]), 1e-5)
			within(t, "rope", out.x[2*i+1], float64(x.x[2*i])*float64(sin[i])+float64(x.x[2*i+1])*float64(cos[i]), 1e-5)
		}
		ropeInverseRef(want, out.x, cos, sin)
		RoPEInverseRow(out.x, out.x, cos, sin)
		compare(t, "inverse rope", [][]float32{out.x}, [][]float32{want})
		for i := range out.x {
			within(t, "there and back", out.x[i], float64(x.x[i]), 2e-5)
		}
		x.check(t, "rope")
		out.check(t, "rope")
	}
}

func TestStreamsEqualTheirReferenceLoops(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(15, 1))
	for _, n := range []int{1, 2, 3, 4, 8} {
		for c := range 140 {
			if c > 35 && c < 120 { // blocks of columns end at 128
				continue
			}
			s, y, h, post := random(r, n*c), random(r, c), random(r, n*n), random(r, n)
			out, want := newFenced(n*c, c%3), make([]float32, n*c)
			streamWriteRef(want, s, h, y, post, n)
			StreamWrite(out.x, s, y, h, post, n)
			compare(t, "write", [][]float32{out.x}, [][]float32{want})
			StreamRead(out.x[:c], s, post, n)
			streamReadRef(want[:c], s, post, n)
			compare(t, "read", [][]float32{out.x[:c]}, [][]float32{want[:c]})
			copy(out.x, s)
			StreamWrite(out.x, out.x, y, h, post, n)
			streamWriteRef(want, s, h, y, post, n)
			compare(t, "write in place", [][]float32{out.x}, [][]float32{want})
			copy(out.x, s)
			streamMixTransposed(out.x, out.x, h, n)
			streamMixRef(want, s, transposed(h, n), n)
			compare(t, "mix in place", [][]float32{out.x}, [][]float32{want})
			out.check(t, "streams")
		}
	}
}

func transposed(h []float32, n int) []float32 {
	t := make([]float32, len(h))
	for i, v := range h {
		t[i%n*n+i/n] = v
	}
	return t
}

func TestStreamProductsEqualTheirReferenceLoops(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(18, 1))
	for n, f := range map[int]func(dst, d, s, y []float32){2: streamDots2, 4: streamDots4} {
		for c := range 67 {
			d, s, y := newFenced(2*c, c%3), newFenced(n*c, c%5), newFenced(c, c%7)
			out, want := newFenced(2*(n+1), c%2), make([]float32, 2*(n+1))
			fill(r, d.x, c%4 == 3)
			fill(r, s.x, false)
			fill(r, y.x, false)
			f(out.x, d.x, s.x, y.x)
			streamDotsRef(want, d.x, s.x, y.x, n)
			compare(t, fmt.Sprintf("%d streams of %d", n, c), [][]float32{out.x}, [][]float32{want})
			out.check(t, "stream products")
		}
	}
}

func TestStreamGradients(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(16, 1))
	const c = 9
	for _, n := range []int{1, 2, 3, 4, 8} {
		s, y, h, post, d := random(r, n*c), random(r, c), random(r, n*n), random(r, n), random(r, n*c)
		write := func(s, y, h, post []float64) []float64 {
			out := make([]float64, n*c)
			for i := range n {
				for k := range c {
					out[i*c+k] = post[i] * y[k]
					for j := range n {
						out[i*c+k] += h[i*n+j] * s[j*c+k]
					}
				}
			}
			return out
		}
		s64, y64, h64, post64 := wide(s), wide(y), wide(h), wide(post)
		ds, dy, dh, dpost := make([]float32, n*c), make([]float32, c), make([]float32, n*n), make([]float32, n)
		StreamWriteGrad(ds, dy, dh, dpost, d, s, y, h, post, n)
		checkGradient(t, "ds", func(x []float64) []float64 { return write(x, y64, h64, post64) }, s, d, ds)
		checkGradient(t, "dy", func(x []float64) []float64 { return write(s64, x, h64, post64) }, y, d, dy)
		checkGradient(t, "dh", func(x []float64) []float64 { return write(s64, y64, x, post64) }, h, d, dh)
		checkGradient(t, "dpost", func(x []float64) []float64 { return write(s64, y64, h64, x) }, post, d, dpost)

		read := func(s, pre []float64) []float64 {
			out := make([]float64, c)
			for i := range n {
				for k := range c {
					out[k] += pre[i] * s[i*c+k]
				}
			}
			return out
		}
		dpre := make([]float32, n)
		StreamReadGrad(ds, dpre, d[:c], s, post, n)
		checkGradient(t, "read ds", func(x []float64) []float64 { return read(x, post64) }, s, d[:c], ds)
		checkGradient(t, "dpre", func(x []float64) []float64 { return read(s64, x) }, post, d[:c], dpre)
	}
}

func TestHalfConversionsEqualTensors(t *testing.T) {
	needVectors(t)
	all, f := make([]uint16, 1<<16), make([]float32, 1<<16)
	for i := range all {
		all[i] = uint16(i)
	}
	F16ToF32(f, all)
	for i, h := range all {
		if got, want := math.Float32bits(f[i]), math.Float32bits(tensor.F16ToF32(h)); got != want {
			t.Fatalf("half %04x widens to %08x, want %08x", h, got, want)
		}
	}
	whole, halves := make([]float32, 1<<16), make([]uint16, 1<<16)
	f16ToF32Ref(whole, all)
	f32ToF16Ref(halves, whole)
	F32ToF16(all, f)
	for i, h := range all {
		if math.Float32bits(whole[i]) != math.Float32bits(f[i]) || halves[i] != h {
			t.Fatalf("half %04x: %08x and %04x, want %08x and %04x", i, whole[i], halves[i], f[i], h)
		}
	}
	// Every half, its neighbors, the points half way between, and specials.
	r := rand.New(rand.NewPCG(17, 1))
	for n := range 40 {
		x, out := make([]float32, n+3), make([]uint16, n+5)
		for trial := range 400 {
			for i := range x {
				b := math.Float32bits(tensor.F16ToF32(uint16(r.Uint32())))
				switch trial % 3 {
				case 0:
					b += 0x0fff + r.Uint32N(3)
				case 1:
					b = r.Uint32()
				}
				x[i] = math.Float32frombits(b)
			}
			out[n+1] = 0xbeef
			F32ToF16(out[1:n+1], x[2:n+2])
			for i := range n {
				if want := tensor.F32ToF16(x[i+2]); out[i+1] != want {
					t.Fatalf("%08x rounds to %04x, want %04x", math.Float32bits(x[i+2]), out[i+1], want)
				}
			}
			if out[n+1] != 0xbeef {
				t.Fatalf("%d halves: wrote past the end", n)
			}
			F16ToF32(x[1:n+1], out[1:n+1])
			for i := range n {
				if want := tensor.F16ToF32(out[i+1]); !same(x[i+1], want) {
					t.Fatalf("%04x widens to %g, want %g", out[i+1], x[i+1], want)
				}
			}
		}
	}
}

func TestQuantizeRow(t *testing.T) {
	needVectors(t)
	r := rand.New(rand.NewPCG(18, 1))
	for n := range 140 {
		for trial := range 6 {
			x := make([]float32, n)
			fill(r, x, trial == 5)
			if trial == 4 { // many exact halves: scale 1, absmax 127
				for i := range x {
					x[i] = float32(r.IntN(509)-254) / 2
				}
				if n > 0 {
					x[r.IntN(n)] = -127
				}
			}
			q, fake := make([]int8, n+2), newFenced(n, trial)
			q[0], q[n+1] = 99, 99
			scale, fakeScale := QuantizeRow(q[1:n+1], x), FakeQuantRow(fake.x, x)
			absmax := float32(1e-8)
			for _, v := range x {
				absmax = max(absmax, v, -v)
			}
			want := float32(absmax * float32(1.0/127)) // rounded: want-want must not be fused with the product
			if !same(fakeScale, want) {
				t.Fatalf("fake scale %g, want %g", fakeScale, want)
			}
			finite := want-want == 0
			if !finite {
				want = float32(math.NaN())
			}
			if !same(scale, want) {
				t.Fatalf("scale %g, want %g", scale, want)
			}
			for i, v := range x {
				level := float32(math.RoundToEven(float64(v / scale)))
				if got := float32(q[i+1]); finite && got != level || !finite && got != 0 {
					t.Fatalf("%d elements: %g/%g gives %g, want %g", n, v, scale, got, level)
				}
				if w := level * fakeScale; fake.x[i] != w && !math.IsNaN(float64(w)) {
					t.Fatalf("fake value %g, want %g", fake.x[i], w)
				}
				if !finite && fake.x[i] == fake.x[i] {
					t.Fatalf("fake value %g of a row that is not finite", fake.x[i])
				}
			}
			fake.check(t, "fake quantization")
			if q[0] != 99 || q[n+1] != 99 {
				t.Fatalf("%d elements: wrote outside", n)
			}
		}
	}
}
