package residualtest

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
	// Open opens the residual under test.
	Open func() (framework.Residual, error)
	// Parse opens a residual by spec; framework.Residuals.Open when nil.
	Parse func(spec string) (framework.Residual, error)
	// Backend64 opens a backend that computes in float64; an interpreter when
	// nil.
	Backend64 func() (framework.Backend, error)
	// Parameters gives how many parameters a sub-layer has at width C. They are
	// not counted when nil.
	Parameters func(C int) int
	// Skip gives the reason for not running a case, by name.
	Skip map[string]string
}

// tester holds what the cases share.
type tester struct {
	r     framework.Residual
	mixer framework.Mixer // nil when r is none
	parse func(spec string) (framework.Residual, error)
	count func(C int) int
	be    framework.Backend
}

// Check runs the suite.
func Check(ctx context.Context, o Options) Report {
	s, err := open(ctx, o)
	if err != nil {
		return Report{Cases: []Case{{Name: "open", Rule: "the residual opens", Err: err, Detail: err.Error(), Fix: "Open"}}}
	}
	defer s.close()
	return suite.Check(ctx, s.entries(), o.Skip)
}

func open(ctx context.Context, o Options) (*tester, error) {
	r, err := o.Open()
	if err != nil {
		return nil, err
	}
	s := &tester{r: r, parse: o.Parse, count: o.Parameters, be: eval.New()}
	s.mixer, _ = r.(framework.Mixer)
	if s.parse == nil {
		s.parse = framework.Residuals.Open
	}
	if o.Backend64 == nil {
		return s, nil
	}
	if s.be, err = o.Backend64(); err != nil {
		return nil, errors.Wrap(err, "backend")
	}
	if err := s.probe(ctx); err != nil {
		s.close()
		return nil, errors.Wrap(err, "backend")
	}
	return s, nil
}

// probe fails unless the backend carries f32 values as f64.
func (s *tester) probe(ctx context.Context) error {
	st, err := s.be.NewStore()
	if err != nil {
		return err
	}
	defer func() { _ = st.Close() }()
	if err := st.Put(ctx, "probe", tensor.FromF32([]float32{1}, 1)); err != nil {
		return err
	}
	x, err := st.Get(ctx, "probe")
	if err == nil && x.DType != tensor.F64 {
		err = errors.Newf("backend %s does not compute in float64", s.be.Name())
	}
	return err
}

func (s *tester) close() { _ = s.be.Close() }
