package ggml

import (
	"testing"

	"github.com/ternlm/tern/framework/tensor"
)

// The rates are of codes or weights; a model has billions.
func BenchmarkDecode(b *testing.B) {
	const m, k = 1024, 4096
	for _, typ := range []Type{Q2_0, TQ1_0, TQ2_0} {
		codes, scales := random(m, k, 1, 1)
		data, err := Encode(typ, codes, scales)
		if err != nil {
			b.Fatal(err)
		}
		as, _ := of(typ)
		b.Run(typ.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := as.decode(codes.Data, scales.F32(), data, m*k/as.block); err != nil {
					b.Fatal(err)
				}
			}
			rate(b, m*k)
		})
		b.Run(typ.String()+"/encode", func(b *testing.B) {
			for b.Loop() {
				if _, err := Encode(typ, codes, scales); err != nil {
					b.Fatal(err)
				}
			}
			rate(b, m*k)
		})
		b.Run(typ.String()+"/whole", func(b *testing.B) {
			for b.Loop() {
				if _, _, err := Decode(typ, data, m, k, PerTensor); err != nil {
					b.Fatal(err)
				}
			}
			rate(b, m*k)
		})
	}
	codes, _ := random(m, k, 1, 1)
	b.Run("CheckTernary", func(b *testing.B) {
		for b.Loop() {
			if err := CheckTernary(codes); err != nil {
				b.Fatal(err)
			}
		}
		rate(b, m*k)
	})
}

func rate(b *testing.B, n int) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "Gweights/s")
}

func BenchmarkDecodeCodes(b *testing.B) {
	const m, k = 256, 4096
	for _, typ := range []Type{Q4_0, Q4_1, Q4_K, Q8_0} {
		size, _ := typ.Bytes(tensor.Shape{m, k})
		data := make([]byte, size)
		b.Run(typ.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := DecodeCodes(typ, data, m, k); err != nil {
					b.Fatal(err)
				}
			}
			rate(b, m*k)
		})
	}
}

func BenchmarkDequantize(b *testing.B) {
	dst := make([]float32, 1<<16)
	for _, typ := range goldenTypes {
		data := make([]byte, len(dst)/typ.Block()*typ.BlockBytes())
		b.Run(typ.String(), func(b *testing.B) {
			for b.Loop() {
				if err := typ.Dequantize(dst, data); err != nil {
					b.Fatal(err)
				}
			}
			rate(b, len(dst))
		})
	}
}

func BenchmarkQuantize(b *testing.B) {
	src := make([]float32, 1<<16)
	for i := range src {
		src[i] = float32(i%37-18) / 18
	}
	for _, typ := range []Type{F16, Q8_0, TQ1_0, TQ2_0, Q2_0} {
		dst := make([]byte, len(src)/typ.Block()*typ.BlockBytes())
		b.Run(typ.String(), func(b *testing.B) {
			for b.Loop() {
				if err := typ.Quantize(dst, src); err != nil {
					b.Fatal(err)
				}
			}
			rate(b, len(src))
		})
	}
}
