package scalar_test

import (
	"fmt"
	"testing"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

func BenchmarkMatMul(b *testing.B) {
	for _, s := range [][3]int{{1, 1024, 1024}, {256, 256, 256}, {64, 1024, 512}} {
		for _, y := range []tensor.DType{tensor.F32, tensor.F16} {
			for _, transY := range []bool{false, true} {
				m, n, k := s[0], s[1], s[2]
				b.Run(fmt.Sprintf("%v/%v/transY=%v", s, y, transY), func(b *testing.B) {
					x, yy := tensor.New(tensor.T(tensor.F32, m, k)), tensor.New(tensor.T(y, k, n))
					if transY {
						yy = tensor.New(tensor.T(y, n, k))
					}
					g, err := graph.Trace(func(gb *graph.Builder) {
						gb.Output("z", gb.MatMul(gb.Input("a", tensor.F32, m, k), gb.Buffer("b", yy.Type), false, transY))
					})
					if err != nil {
						b.Fatal(err)
					}
					r := newRunner(b, backend32(scalar.Kernels[float32](), one), g)
					if err := r.st.Put(b.Context(), "b", yy); err != nil {
						b.Fatal(err)
					}
					in := map[string]*tensor.Tensor{"a": x}
					for b.Loop() {
						if err := r.run(in); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(m*n*k), "ns/product")
				})
			}
		}
	}
}
