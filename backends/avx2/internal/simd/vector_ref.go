package simd

import "math"

// The reference loops: what the assembly computes, bit for bit. Explicit float32 conversions keep a compiler from
// fusing what the assembly rounds twice; fma32 fuses what it rounds once.

func mapRef(dst, x []float32, f func(x float32) float32) {
	for i := range dst {
		dst[i] = f(x[i])
	}
}

func zipRef(dst, x, y []float32, f func(x, y float32) float32) {
	for i := range dst {
		dst[i] = f(x[i], y[i])
	}
}

func addRef(dst, x, y []float32) {
	zipRef(dst, x, y, func(x, y float32) float32 { return x + y })
}

func subRef(dst, x, y []float32) {
	zipRef(dst, x, y, func(x, y float32) float32 { return x - y })
}

func mulRef(dst, x, y []float32) {
	zipRef(dst, x, y, func(x, y float32) float32 { return x * y })
}

func divRef(dst, x, y []float32) {
	zipRef(dst, x, y, func(x, y float32) float32 { return x / y })
}

func maxRef(dst, x, y []float32) {
	zipRef(dst, x, y, func(x, y float32) float32 { return max(x, y) })
}

func minRef(dst, x, y []float32) {
	zipRef(dst, x, y, func(x, y float32) float32 { return min(x, y) })
}

func negRef(dst, x []float32) { mapRef(dst, x, func(x float32) float32 { return -x }) }

func absRef(dst, x []float32) {
	mapRef(dst, x, func(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) })
}

func sqrtRef(dst, x []float32) { mapRef(dst, x, sqrt32) }

func rsqrtRef(dst, x []float32) { mapRef(dst, x, func(x float32) float32 { return 1 / sqrt32(x) }) }

func roundRef(dst, x []float32) { mapRef(dst, x, round32) }

func addSRef(dst, x []float32, c float32) {
	mapRef(dst, x, func(x float32) float32 { return x + c })
}

func mulSRef(dst, x []float32, c float32) {
	mapRef(dst, x, func(x float32) float32 { return x * c })
}

func divSRef(dst, x []float32, c float32) {
	mapRef(dst, x, func(x float32) float32 { return x / c })
}

func rsubSRef(dst, x []float32, c float32) {
	mapRef(dst, x, func(x float32) float32 { return c - x })
}

func rdivSRef(dst, x []float32, c float32) {
	mapRef(dst, x, func(x float32) float32 { return c / x })
}

func maxSRef(dst, x []float32, c float32) {
	mapRef(dst, x, func(x float32) float32 { return max(x, c) })
}

func minSRef(dst, x []float32, c float32) {
	mapRef(dst, x, func(x float32) float32 { return min(x, c) })
}

func axpyRef(dst, x []float32, c float32) {
	zipRef(dst, dst, x, func(d, x float32) float32 { return fma32(c, x, d) })
}

func mulAddRef(dst, x, y, z []float32) {
	for i := range dst {
		dst[i] = fma32(x[i], y[i], z[i])
	}
}

func expVecRef(dst, x []float32) { mapRef(dst, x, refExp) }

func expScaleRef(dst, x []float32, s, c float32) {
	mapRef(dst, x, func(x float32) float32 { return c * refExp(x-s) })
}

func logVecRef(dst, x []float32) { mapRef(dst, x, refLog) }

func sigmoidVecRef(dst, x []float32) { mapRef(dst, x, refSigmoid) }

func swigluRef(dst, gate, up []float32) {
	zipRef(dst, gate, up, func(g, u float32) float32 { return float32(g*refSigmoid(g)) * u })
}

func swigluGradRef(dgate, dup, gate, up, dy []float32) {
	for i := range dgate {
		s := refSigmoid(gate[i])
		a := gate[i] * s
		g := float32(dy[i]*up[i]) * fma32(a, 1-s, s)
		dup[i] = dy[i] * a
		dgate[i] = g
	}
}

func rmsScaleRef(dst, x, w []float32, rstd float32) {
	zipRef(dst, x, w, func(x, w float32) float32 { return float32(x*rstd) * w })
}

func rmsGradRef(dx, x, w, dy []float32, rstd, c float32) {
	for i := range dx {
		dx[i] = fma32(-c, x[i], rstd*float32(dy[i]*w[i]))
	}
}

func rmsGradOnesRef(dx, x, dy []float32, rstd, c float32) {
	zipRef(dx, x, dy, func(x, dy float32) float32 { return fma32(-c, x, rstd*dy) })
}

func gainGradRef(dw, x, dy []float32, rstd float32) {
	for i := range dw {
		dw[i] = fma32(rstd*dy[i], x[i], dw[i])
	}
}

func adamWRef(pOut, mOut, vOut, p, m, v, g []float32, lr, b1, o1, b2, o2, eps, decay, c1, c2 float32) {
	for i := range pOut {
		mi := float32(b1*m[i]) + float32(o1*g[i])
		vi := float32(b2*v[i]) + float32(float32(o2*g[i])*g[i])
		step := mi/c1/(sqrt32(vi/c2)+eps) + float32(decay*p[i])
		pOut[i], mOut[i], vOut[i] = p[i]-float32(lr*step), mi, vi
	}
}

func ropeRef(dst, x, cos, sin []float32) {
	for i := range cos {
		a, b := x[2*i], x[2*i+1]
		dst[2*i], dst[2*i+1] = fma32(a, cos[i], -(b*sin[i])), fma32(b, cos[i], a*sin[i])
	}
}

func ropeInverseRef(dst, x, cos, sin []float32) {
	for i := range cos {
		a, b := x[2*i], x[2*i+1]
		dst[2*i], dst[2*i+1] = fma32(a, cos[i], b*sin[i]), fma32(b, cos[i], -(a*sin[i]))
	}
}

func fakeQuantRef(dst, x []float32, scale float32) {
	mapRef(dst, x, func(x float32) float32 { return round32(max(-127, min(127, x/scale))) * scale })
}

func quantizeRef(q []int8, x []float32, scale float32) {
	for i := range q {
		q[i] = refQuantize(x[i], scale)
	}
}

func blockOffsetsRef(dst []int32, q []int8, block int) {
	for i := range dst {
		var sum int32
		for _, v := range q[i*block : (i+1)*block] {
			sum += int32(v)
		}
		dst[i] = int32(uint16(-sum))
	}
}

// quantizeTokenRef is QuantizeRow and blockOffsetsRef for blocks of 128 columns.
func quantizeTokenRef(q []int8, offsets []int32, x []float32) float32 {
	scale := float32(max(absMaxRef(x), 1e-8) * (1.0 / 127)) // rounded here: the check below must not be fused with it
	if scale-scale != 0 {
		return 0
	}
	quantizeRef(q, x, scale)
	blockOffsetsRef(offsets, q, 128)
	return scale
}
