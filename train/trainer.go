package train

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime/debug"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/formats/checkpoint"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/memory"
	"github.com/ternlm/tern/model"
)

// ErrDiverged is returned when a loss or gradient is no finite number.
var ErrDiverged = errors.New("training diverged")

// Trainer holds a model in training: the compiled graphs and their state.
type Trainer struct {
	Model  *model.Model
	Recipe Recipe

	backend    framework.Backend
	store      framework.Store
	params     []model.Parameter
	accumulate framework.Executable
	apply      framework.Executable
	pack       framework.Executable
	step       int // optimizer steps done
	batchIn    []*tensor.Tensor
	lossOut    []*tensor.Tensor
	applyIn    []*tensor.Tensor
	normOut    []*tensor.Tensor
}

// Metrics is what one optimizer step reports.
type Metrics struct {
	Step     int     `json:"step"` // counted from 1
	Loss     float64 `json:"loss"` // nats a token, mean over the step
	GradNorm float64 `json:"grad_norm"`
	Factor   float64 `json:"lr_factor"`
}

// New compiles the training graphs of m for r. The weights are not yet set:
// call Initialize or Restore.
func New(ctx context.Context, be framework.Backend, m *model.Model, r Recipe) (*Trainer, error) {
	if err := r.Validate(m.Config); err != nil {
		return nil, err
	}
	params, err := m.Parameters()
	if err != nil {
		return nil, errors.Wrap(err, "list parameters")
	}
	t := &Trainer{Model: m, Recipe: r, backend: be, params: params}
	if err := t.compile(ctx); err != nil {
		return nil, err
	}
	if t.store, err = be.NewStore(); err != nil {
		return nil, err
	}
	scalar := func() *tensor.Tensor { return tensor.New(tensor.T(tensor.F32)) }
	t.batchIn = []*tensor.Tensor{
		tensor.New(tensor.T(tensor.I32, r.Batch, r.Window)), tensor.New(tensor.T(tensor.I32, r.Batch*r.Window)),
	}
	t.lossOut, t.normOut = []*tensor.Tensor{scalar()}, []*tensor.Tensor{scalar()}
	t.applyIn = []*tensor.Tensor{scalar(), scalar(), scalar()}
	return t, nil
}

func (t *Trainer) compile(ctx context.Context) error {
	lower := fmt.Sprintf("lower batch (now %d; raise accum to keep the step's size) or window (now %d)", t.Recipe.Batch, t.Recipe.Window)
	g, err := t.Model.Accumulate(t.Recipe.Batch, t.Recipe.Window, t.Recipe.Accum)
	if err != nil {
		return memory.Untraceable(err, "training", lower)
	}
	if err := memory.Check(t.backend, memory.Load{What: "training", Graph: g, Extra: moments(g), Lower: lower}); err != nil {
		return err
	}
	if t.accumulate, err = t.backend.Compile(ctx, g); err != nil {
		return errors.Wrap(err, "compile training step")
	}
	if g, err = Apply(t.Model, t.Recipe); err != nil {
		return errors.Wrap(err, "trace optimizer step")
	}
	if t.apply, err = t.backend.Compile(ctx, g); err != nil {
		return errors.Wrap(err, "compile optimizer step")
	}
	if g, err = t.Model.Pack(); err != nil {
		return errors.Wrap(err, "trace packing")
	}
	t.pack, err = t.backend.Compile(ctx, g)
	return errors.Wrap(err, "compile packing")
}

// Initialize draws the first weights: each parameter from its own stream of
// the seed, so the order of parameters does not matter.
func (t *Trainer) Initialize(ctx context.Context) error {
	for _, p := range t.params {
		w := tensor.New(tensor.T(tensor.F32, p.Shape...))
		v := w.F32()
		switch {
		case len(p.Init.Values) > 0:
			for i := range v {
				v[i] = float32(p.Init.Values[i%len(p.Init.Values)])
			}
		default:
			rng.NewKey(t.Recipe.Seed, p.Name).FillNormal(v, p.Init.Mean, p.Init.Std)
		}
		if err := t.store.Put(ctx, p.Name, w); err != nil {
			return errors.Wrapf(err, "initialize %s", p.Name)
		}
	}
	debug.FreeOSMemory() // the tensors drawn are garbage of the size of the model
	t.step = 0
	if err := t.clear(ctx); err != nil {
		return err
	}
	return errors.Wrap(t.pack.Run(ctx, t.store, nil, nil), "pack weights")
}

// clear zeroes what an earlier step may have left: gradients and moments.
func (t *Trainer) clear(ctx context.Context) error {
	for _, name := range t.store.Names() {
		if !strings.HasPrefix(name, model.GradPrefix) && !strings.HasPrefix(name, "adam.") && !strings.HasPrefix(name, "muon.") {
			continue
		}
		v, err := t.store.Get(ctx, name)
		if err == nil {
			clear(v.Data)
			err = t.store.Put(ctx, name, v)
		}
		if err != nil {
			return errors.Wrapf(err, "clear %s", name)
		}
	}
	return nil
}

// Done returns the number of optimizer steps done.
func (t *Trainer) Done() int { return t.step }

// Store returns the state of the training, which holds the packed weights too.
func (t *Trainer) Store() framework.Store { return t.store }

// Parameters lists the model's parameters.
func (t *Trainer) Parameters() []model.Parameter { return t.params }

// Source gives training windows; *data.Batches is one.
type Source interface {
	// Next fills tokens and targets [B*T].
	Next(tokens, targets []int32) error
}

// Step draws the micro-batches of one optimizer step and takes it. When the
// loss or the gradient is no finite number it returns ErrDiverged; in the
// second case the weights are lost. After any error the trainer goes on only
// from a Restore.
func (t *Trainer) Step(ctx context.Context, batches Source) (Metrics, error) {
	m := Metrics{Step: t.step + 1, Factor: t.Recipe.Factor(t.step)}
	for range t.Recipe.Accum {
		if err := batches.Next(t.batchIn[0].I32(), t.batchIn[1].I32()); err != nil {
			return m, errors.Wrap(err, "next batch")
		}
		if err := t.accumulate.Run(ctx, t.store, t.batchIn, t.lossOut); err != nil {
			return m, errors.Wrapf(err, "step %d", m.Step)
		}
		m.Loss += float64(t.lossOut[0].F32()[0]) / float64(t.Recipe.Accum)
	}
	if math.IsNaN(m.Loss) || math.IsInf(m.Loss, 0) {
		return m, t.diverged(ctx, m)
	}
	n := float64(t.step + 1)
	t.applyIn[0].F32()[0] = float32(m.Factor)
	t.applyIn[1].F32()[0] = float32(1 - math.Pow(t.Recipe.Beta1, n))
	t.applyIn[2].F32()[0] = float32(1 - math.Pow(t.Recipe.Beta2, n))
	if err := t.apply.Run(ctx, t.store, t.applyIn, t.normOut); err != nil {
		return m, errors.Wrapf(err, "step %d", m.Step)
	}
	m.GradNorm = float64(t.normOut[0].F32()[0])
	if math.IsNaN(m.GradNorm) || math.IsInf(m.GradNorm, 0) {
		return m, t.diverged(ctx, m)
	}
	t.step++
	return m, nil
}

// Snapshot returns the state from which training goes on as if it had never
// stopped. Gradients and packed weights are left out: they are zero or follow
// from the weights.
func (t *Trainer) Snapshot(ctx context.Context, batches *data.Batches, config json.RawMessage) (checkpoint.Snapshot, error) {
	s := checkpoint.Snapshot{Step: t.step, Config: config, Cursor: batches.Cursor(), Seed: t.Recipe.Seed, Tensors: map[string]*tensor.Tensor{}}
	for name := range t.stateTypes(t.step > 0) {
		v, err := t.store.Get(ctx, name)
		if err != nil {
			return s, errors.Wrapf(err, "save %s", name)
		}
		s.Tensors[name] = v
	}
	return s, nil
}

// stream is Snapshot without the tensors' data: they are read one by one while
// the checkpoint is written. A tensor that holds no finite number ends that
// with ErrDiverged: a checkpoint that pushes out good ones must be good.
func (t *Trainer) stream(ctx context.Context, batches *data.Batches, config json.RawMessage) checkpoint.Snapshot {
	s := checkpoint.Snapshot{Step: t.step, Config: config, Cursor: batches.Cursor(), Seed: t.Recipe.Seed, Tensors: map[string]*tensor.Tensor{}}
	for name, typ := range t.stateTypes(t.step > 0) {
		s.Tensors[name] = &tensor.Tensor{Type: typ}
	}
	s.Read = func(name string, dst *tensor.Tensor) error {
		if err := readState(ctx, t.store, name, dst); err != nil {
			return errors.Wrapf(err, "save %s", name)
		}
		if !finiteTensor(dst) {
			return t.diverged(ctx, Metrics{Step: s.Step})
		}
		return nil
	}
	return s
}

// readState copies a state to dst, whatever the store can do.
func readState(ctx context.Context, s framework.Store, name string, dst *tensor.Tensor) error {
	if r, ok := s.(framework.Reader); ok {
		return r.ReadInto(ctx, name, dst)
	}
	v, err := s.Get(ctx, name)
	if err != nil {
		return err
	}
	if !v.Type.Equal(dst.Type) {
		return errors.Wrapf(framework.ErrMismatch, "state %q is %v, not %v", name, v.Type, dst.Type)
	}
	copy(dst.Data, v.Data)
	return nil
}

// Restore sets the state from a snapshot of the same model and recipe.
func (t *Trainer) Restore(ctx context.Context, batches *data.Batches, s *checkpoint.Snapshot) error {
	if err := s.CheckTensors(t.stateTypes(s.Step > 0)); err != nil {
		return err
	}
	if err := t.clear(ctx); err != nil {
		return err
	}
	for name, v := range s.Tensors {
		if err := t.store.Put(ctx, name, v); err != nil {
			return errors.Wrapf(err, "restore %s", name)
		}
	}
	t.step = s.Step
	batches.Seek(s.Cursor)
	return errors.Wrap(t.pack.Run(ctx, t.store, nil, nil), "pack weights")
}

// stateTypes gives the tensors of a snapshot; before the first step there are
// no moments.
func (t *Trainer) stateTypes(moments bool) map[string]tensor.Type {
	types := map[string]tensor.Type{}
	for _, p := range t.params {
		typ := tensor.T(tensor.F32, p.Shape...)
		types[p.Name] = typ
		if !moments {
			continue
		}
		if t.Recipe.groupOf(p).muon {
			types[momentum+p.Name] = typ
		} else {
			types[firstMoment+p.Name], types[secondMoment+p.Name] = typ, typ
		}
	}
	return types
}

// Close frees graphs and state.
func (t *Trainer) Close() error {
	return errors.CombineErrors(errors.CombineErrors(t.accumulate.Close(), t.apply.Close()),
		errors.CombineErrors(t.pack.Close(), t.store.Close()))
}

// moments is what an optimizer keeps of the parameters of g.
func moments(g *graph.Graph) int64 {
	var bytes int64
	for _, n := range g.States {
		if n.IsParam() {
			bytes += 2 * int64(n.Out[0].Bytes())
		}
	}
	return bytes
}
