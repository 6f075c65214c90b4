package infer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
)

// randomWeights are weights of the preset's shapes, ternary codes included.
func randomWeights(b *testing.B, c model.Config) *modelfile.Weights {
	b.Helper()
	m := must(model.New(c))
	w := &modelfile.Weights{Model: m, Tensors: map[string]*tensor.Tensor{}}
	g := must(graph.Trace(func(g *graph.Builder) {
		m.Forward(g, g.Input("tokens", tensor.I32, 1, 1), modelfile.Pass)
	}))
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range g.States {
		t := tensor.New(n.Out[0])
		switch t.DType {
		case tensor.U2:
			for i := range t.Data {
				v := r.Uint32()
				t.Data[i] = byte(v%3 | (v>>8)%3<<2 | (v>>16)%3<<4 | (v>>24)%3<<6)
			}
		case tensor.F16:
			for i := range t.U16() {
				t.U16()[i] = tensor.F32ToF16(float32(r.NormFloat64()) * 0.02)
			}
		default:
			for i := range t.F32() {
				t.F32()[i] = 0.02 + 0.01*r.Float32()
			}
		}
		w.Tensors[n.Name()] = t
	}
	return w
}

// BenchmarkDecode measures a token of the reference model, at positions 64 on.
func BenchmarkDecode(b *testing.B) {
	for _, head := range []string{"ternary", "f16"} {
		c := must(model.Preset("nano-125m"))
		c.Head, c.Tied = head, head == "f16"
		w := randomWeights(b, c)
		for _, threads := range []int{1, 2} {
			b.Run(fmt.Sprintf("head=%s/threads=%d", head, threads), func(b *testing.B) {
				be, err := framework.Backends.Open(fmt.Sprintf("avx2:threads=%d", threads))
				if err != nil {
					b.Skip(err)
				}
				defer be.Close()
				ctx := context.Background()
				m := must(infer.Load(ctx, be, w))
				defer m.Close()
				s := must(m.NewSession())
				defer s.Close()
				prompt := sequence(64, c.Vocab)
				must(s.Feed(ctx, prompt))
				must(s.Feed(ctx, prompt[:1]))
				best := time.Hour // what the machine does while nothing else runs on it
				for b.Loop() {
					if s.Len() >= 192 {
						s.Reset()
						b.StopTimer()
						must(s.Feed(ctx, prompt))
						b.StartTimer()
					}
					begin := time.Now()
					must(s.Feed(ctx, prompt[:1]))
					best = min(best, time.Since(begin))
				}
				b.ReportMetric(1/b.Elapsed().Seconds()*float64(b.N), "tok/s")
				b.ReportMetric(1/best.Seconds(), "best-tok/s")
			})
		}
	}
}

// BenchmarkPrefill measures a prompt of 512 tokens.
func BenchmarkPrefill(b *testing.B) {
	c := must(model.Preset("nano-125m"))
	w := randomWeights(b, c)
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			be, err := framework.Backends.Open(fmt.Sprintf("avx2:threads=%d", threads))
			if err != nil {
				b.Skip(err)
			}
			defer be.Close()
			ctx := context.Background()
			m := must(infer.Load(ctx, be, w))
			defer m.Close()
			s := must(m.NewSession())
			defer s.Close()
			prompt := sequence(512, c.Vocab)
			must(s.Feed(ctx, prompt))
			best := time.Hour
			for b.Loop() {
				s.Reset()
				begin := time.Now()
				must(s.Feed(ctx, prompt))
				best = min(best, time.Since(begin))
			}
			b.ReportMetric(512/b.Elapsed().Seconds()*float64(b.N), "tok/s")
			b.ReportMetric(512/best.Seconds(), "best-tok/s")
		})
	}
}
