package simd

import "github.com/ternlm/tern/framework/tensor"

// streamMixRef is, for n streams, dst_i = h_ii*s_i + .. + h_ij*s_j + .., the first product rounded and the rest fused.
// The sum of stream i begins with its own and goes round: streams that are equal, mixed by a matrix that treats them
// alike, stay equal to the last bit.
func streamMixRef(dst, s, h []float32, n int) {
	columns := len(s) / n
	var in [maxStreams]float32
	for c := range columns {
		for j := range n {
			in[j] = s[j*columns+c]
		}
		for i := range n {
			acc := h[i*n+i] * in[i]
			for t := 1; t < n; t++ {
				j := (i + t) % n
				acc = fma32(h[i*n+j], in[j], acc)
			}
			dst[i*columns+c] = acc
		}
	}
}

// streamWriteRef is, for n streams, dst_i = post_i*y + h_ii*s_i + .. + h_ij*s_j + .., the first product rounded and the
// rest fused, in the order of streamMixRef.
func streamWriteRef(dst, s, h, y, post []float32, n int) {
	columns := len(s) / n
	var in [maxStreams]float32
	for c := range columns {
		for j := range n {
			in[j] = s[j*columns+c]
		}
		branch := y[c]
		for i := range n {
			acc := post[i] * branch
			for t := range n {
				j := (i + t) % n
				acc = fma32(h[i*n+j], in[j], acc)
			}
			dst[i*columns+c] = acc
		}
	}
}

// streamReadRef is dst = pre_0*s_0 + pre_1*s_1 + .., the first product rounded and the rest fused.
func streamReadRef(dst, s, pre []float32, n int) {
	columns := len(s) / n
	for c := range columns {
		acc := pre[0] * s[c]
		for j := 1; j < n; j++ {
			acc = fma32(pre[j], s[j*columns+c], acc)
		}
		dst[c] = acc
	}
}

// streamDotsRef is, for n streams s, a branch y and two rows d, dst_ij = sum(d_i*s_j), and sum(d_i*y) for j = n: term k
// is fused into lane k%8, then lanes 4, 2 and 1 apart are added.
func streamDotsRef(dst, d, s, y []float32, n int) {
	columns := len(y)
	for i := range 2 {
		for j := range n + 1 {
			x := y
			if j < n {
				x = s[j*columns : (j+1)*columns]
			}
			var lanes [8]float32
			for k, v := range d[i*columns : (i+1)*columns] {
				lanes[k%8] = fma32(v, x[k], lanes[k%8])
			}
			for apart := 4; apart > 0; apart /= 2 {
				for l := range apart {
					lanes[l] += lanes[l+apart]
				}
			}
			dst[i*(n+1)+j] = lanes[0]
		}
	}
}

func f16ToF32Ref(dst []float32, x []uint16) {
	for i := range dst {
		dst[i] = tensor.F16ToF32(x[i])
	}
}

func f32ToF16Ref(dst []uint16, x []float32) {
	for i := range dst {
		dst[i] = tensor.F32ToF16(x[i])
	}
}
