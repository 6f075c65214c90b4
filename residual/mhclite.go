package residual

import (
	"fmt"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

func init() {
	framework.Residuals.Register("mhclite", openMHCLite)
}

// MHCLite carries several residual streams mixed by a doubly stochastic matrix
// (static mHC-lite, arXiv 2601.05732). The matrix is a convex combination of
// all permutations, so it is doubly stochastic by construction (Birkhoff and
// von Neumann) and any product of such matrices has gain 1:
//
//	read:  x   = sum_i pre_i s_i,                pre  = sigmoid(pre_logits + pre_bias)
//	write: s_i = sum_j H_ij s_j + post_i F(x),   post = 2 sigmoid(post_logits + post_bias)
//	H = sum_k a_k P_k,                           a    = softmax(res_logits)
//
// For two streams the softmax over two permutations is written with one
// parameter, a = sigmoid(alpha_logit), as in the report that tern starts from:
// 9 parameters a sub-layer. Four streams have 24 + 16.
type MHCLite struct {
	Streams int  // 2 or 4
	Report  bool // the report's init, under which the streams never diverge
}

func openMHCLite(o framework.Options) (framework.Residual, error) {
	n, err := streamsOption(o, 2, 4)
	if err != nil {
		return nil, err
	}
	init, err := o.Choice("init", "paper", "report")
	if err != nil {
		return nil, err
	}
	mode, err := o.Choice("mode", "static", "dynamic")
	if err != nil {
		return nil, err
	}
	if mode == "static" {
		return MHCLite{Streams: n, Report: init == "report"}, nil
	}
	if init == "report" {
		return nil, errors.WithHint(errors.Wrap(framework.ErrOption, "init=report with mode=dynamic"), "the report's init is one of static coefficients: leave out init or mode")
	}
	return constrained{birkhoff{n}, false}, nil
}

// Spec returns "mhclite:streams=2,init=paper".
func (r MHCLite) Spec() string {
	init := "paper"
	if r.Report {
		init = "report"
	}
	return fmt.Sprintf("mhclite:streams=%d,init=%s", r.Streams, init)
}

// Expand copies x to every stream.
func (r MHCLite) Expand(b *graph.Builder, x graph.Value) graph.Value {
	return expand(b, x, r.Streams)
}

// Read is the sum of the streams weighted by pre.
func (r MHCLite) Read(b *graph.Builder, l int, s graph.Value) graph.Value {
	return b.StreamRead(s, b.Sigmoid(r.logits(b, "pre", l)))
}

// Write mixes the streams by H and adds y to each, weighted by post.
func (r MHCLite) Write(b *graph.Builder, l int, s, y graph.Value) graph.Value {
	post := b.Scale(b.Sigmoid(r.logits(b, "post", l)), 2)
	return b.StreamWrite(s, y, r.Mixing(b, l, s), post)
}

// Collapse is the mean of the streams.
func (r MHCLite) Collapse(b *graph.Builder, s graph.Value) graph.Value {
	return collapse(b, s)
}

// Width returns the number of streams.
func (r MHCLite) Width() int { return r.Streams }

// DoublyStochastic is true by construction.
func (r MHCLite) DoublyStochastic() bool { return true }

// Mixing is the matrix H [S,S].
func (r MHCLite) Mixing(b *graph.Builder, _ int, _ graph.Value) (h graph.Value) {
	b.In("mhc", func() {
		if r.Streams == 2 {
			a := b.Sigmoid(b.Param("alpha_logit", graph.ConstInit(r.identityLogit()), 1))
			swap := b.Sub(b.Like(a, 1), a)
			h = b.Reshape(b.Concat(0, a, swap, swap, a), 2, 2)
			return
		}
		perms := permutations(r.Streams)
		logits := make([]float64, len(perms))
		logits[0] = r.identityLogit()
		a := b.Softmax(b.Reshape(b.Param("res_logits", graph.ListInit(logits...), len(perms)), 1, len(perms)))
		n := r.Streams
		h = b.Reshape(b.MatMul(a, b.ConstList(indicator(perms), len(perms), n*n), false, false), n, n)
	})
	return h
}

// identityLogit is the logit of the identity against the swap: 5 in the
// report, 8 where the paper has 0 for the identity and -8 for the rest.
func (r MHCLite) identityLogit() float64 {
	if r.Report {
		return 5
	}
	return 8
}

// logits is the parameter pair name_logits + name_bias [S]. The paper's init
// gives each sub-layer a home stream, which breaks the symmetry of the streams.
func (r MHCLite) logits(b *graph.Builder, name string, l int) (sum graph.Value) {
	bias := home(r.Streams, l, 1, -1)
	if r.Report {
		bias = slices.Repeat([]float64{0.5}, r.Streams)
	}
	b.In("mhc", func() {
		sum = b.Add(b.Param(name+"_logits", graph.ConstInit(0), r.Streams),
			b.Param(name+"_bias", graph.ListInit(bias...), r.Streams))
	})
	return sum
}
