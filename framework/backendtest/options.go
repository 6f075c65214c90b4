package backendtest

import (
	"context"
	"fmt"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/internal/eval"
	"github.com/ternlm/tern/framework/internal/suite"
)

// Report is what the suite found.
type Report = suite.Report

// Case is one line of a Report.
type Case = suite.Case

// Modes lists the parts of the suite in the order in which they run.
func Modes() []string {
	return []string{"ops", "special", "rows", "grad", "store", "errors", "prepared", "random", "train", "workers"}
}

// Options says what is tested, and against what.
type Options struct {
	// Open opens the backend under test. It is called several times.
	Open func() (framework.Backend, error)
	// OpenThreads opens it with n workers. When nil, bits are not compared
	// across numbers of workers.
	OpenThreads func(n int) (framework.Backend, error)
	// Reference, when set, opens another backend that results are compared
	// with, beside the interpreter.
	Reference func() (framework.Backend, error)
	// Reference64 opens a backend that computes in float64, on which the
	// gradients of the graph are checked. The interpreter when nil.
	Reference64 func() framework.Backend
	// Modes limits the suite to some of Modes(). All when empty.
	Modes []string
	// Skip gives the reason for not running a case, by id ("ops/matmul"),
	// name or mode.
	Skip map[string]string
	// Bounds raises the error allowed for an op above the one of Bounds(),
	// for a device whose arithmetic is coarser by design.
	Bounds map[string]float64
}

// tester holds what the cases share.
type tester struct {
	o    Options
	be   *target   // under test
	refs []*target // to compare with
}

// Check runs the suite.
func Check(ctx context.Context, o Options) Report {
	t, err := newTester(ctx, o)
	if err != nil {
		return Report{Cases: []Case{{Mode: "open", Name: "open", Rule: "the backend opens", Err: err, Detail: err.Error(), Fix: "Open"}}}
	}
	defer t.close()
	return suite.Check(ctx, t.entries(), o.Skip)
}

func newTester(ctx context.Context, o Options) (*tester, error) {
	for _, m := range o.Modes {
		if !slices.Contains(Modes(), m) {
			return nil, errors.WithHint(errors.Newf("mode %q is unknown", m), framework.Suggest(m, Modes()))
		}
	}
	t := &tester{o: o}
	be, err := o.Open()
	if err != nil {
		return nil, err
	}
	if t.be, err = newTarget(ctx, be); err != nil {
		return nil, errors.CombineErrors(err, be.Close())
	}
	oracle, err := newTarget(ctx, eval.New())
	if err != nil {
		return nil, err
	}
	t.refs = append(t.refs, oracle)
	if o.Reference != nil {
		be, err := o.Reference()
		if err != nil {
			t.close()
			return nil, errors.Wrap(err, "reference")
		}
		ref, err := newTarget(ctx, be)
		if err != nil {
			t.close()
			return nil, errors.Wrap(err, "reference")
		}
		t.refs = append(t.refs, ref)
	}
	return t, nil
}

// close gives the devices back; their errors have no bearing on the cases.
func (t *tester) close() {
	_ = t.be.Close()
	for _, r := range t.refs {
		_ = r.Close()
	}
}

func (t *tester) entries() []suite.Entry {
	parts := map[string]func() []suite.Entry{
		"ops": t.opEntries, "special": t.specialEntries, "rows": t.rowEntries,
		"grad":  func() []suite.Entry { return gradEntries(t.open64) },
		"store": t.storeEntries, "errors": t.errorEntries, "prepared": t.preparedEntries,
		"random": t.randomEntries, "train": t.trainEntries, "workers": t.workerEntries,
	}
	var all []suite.Entry
	for _, m := range Modes() {
		if len(t.o.Modes) > 0 && !slices.Contains(t.o.Modes, m) {
			continue
		}
		for _, e := range parts[m]() {
			e.Mode = m
			all = append(all, e)
		}
	}
	return all
}

func (t *tester) open64() framework.Backend {
	if t.o.Reference64 == nil {
		return eval.New()
	}
	return t.o.Reference64()
}

// check is an entry without its mode.
func check(name, rule, fix string, run func(ctx context.Context) (string, error)) suite.Entry {
	return suite.Entry{Name: name, Rule: rule, Fix: fix, Run: run}
}

// worst formats the largest error that a case saw.
func worst(e float64, bound float64) string { return fmt.Sprintf("worst NMSE %.1e of %.0e", e, bound) }
