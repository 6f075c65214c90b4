package quanttest

import (
	"context"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/internal/eval"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/tensor"
)

// Report is what the suite found.
type Report = suite.Report

// Case is one line of a Report.
type Case = suite.Case

// Options says what is tested, and on what.
type Options struct {
	// Open opens the quantizer under test.
	Open func() (framework.Quantizer, error)
	// Parse opens a quantizer by spec; framework.Quantizers.Open when nil.
	Parse func(spec string) (framework.Quantizer, error)
	// Backend opens the backend that runs the fragments; an interpreter in
	// float32 when nil. Give one to see that its kernels keep the rules too.
	Backend func() (framework.Backend, error)
	// Skip gives the reason for not running a case, by name.
	Skip map[string]string
}

// tester holds what the cases share.
type tester struct {
	q     framework.Quantizer
	f     framework.Format
	parse func(spec string) (framework.Quantizer, error)
	be    framework.Backend
	wide  bool              // f32 values come out of be as f64
	exact framework.Backend // computes in float64, for gradients
}

// Check runs the suite.
func Check(ctx context.Context, o Options) Report {
	s, err := open(ctx, o)
	if err != nil {
		return Report{Cases: []Case{{Name: "open", Rule: "the quantizer opens", Err: err, Detail: err.Error(), Fix: "Open"}}}
	}
	defer s.close()
	return suite.Check(ctx, s.entries(), o.Skip)
}

func open(ctx context.Context, o Options) (*tester, error) {
	q, err := o.Open()
	if err != nil {
		return nil, err
	}
	s := &tester{q: q, f: q.Format(), parse: o.Parse, be: &eval.Backend{Single: true}, exact: eval.New()}
	if s.parse == nil {
		s.parse = framework.Quantizers.Open
	}
	if o.Backend != nil {
		if s.be, err = o.Backend(); err != nil {
			return nil, errors.Wrap(err, "backend")
		}
	}
	s.wide, err = wide(ctx, s.be)
	if err != nil {
		s.close()
		return nil, errors.Wrap(err, "backend")
	}
	return s, nil
}

// wide reports whether f32 values come out of be as f64.
func wide(ctx context.Context, be framework.Backend) (bool, error) {
	st, err := be.NewStore()
	if err != nil {
		return false, err
	}
	defer func() { _ = st.Close() }()
	if err := st.Put(ctx, "probe", tensor.FromF32([]float32{1}, 1)); err != nil {
		return false, err
	}
	x, err := st.Get(ctx, "probe")
	return err == nil && x.DType == tensor.F64, err
}

func (s *tester) close() { _ = s.be.Close() }
