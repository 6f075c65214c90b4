package compile_test

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ternlm/tern/framework/compile"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// memory is a shadow of what a run would hold: for each cell the value that
// was written there last. It knows nothing of lifetimes.
type memory struct {
	plan  *compile.Plan
	cells map[cell]graph.Value
}

// cell is a byte of the arena, or a whole state or input.
type cell struct {
	offset int
	leaf   *graph.Node
}

func (m *memory) of(v graph.Value) []cell {
	s := m.plan.Slots[v]
	switch {
	case s.State != nil:
		return []cell{{leaf: s.State}}
	case s.Input != nil:
		return []cell{{leaf: s.Input}}
	}
	var cs []cell
	for i := range s.Bytes {
		cs = append(cs, cell{offset: s.Offset + i})
	}
	return cs
}

// holds fails unless v's memory still has what was written as v.
func (m *memory) holds(v graph.Value, reader string) error {
	root := compile.Root(v)
	for _, c := range m.of(v) {
		if got, ok := m.cells[c]; got != root {
			if !ok {
				return fmt.Errorf("%s reads %v at %d, which nobody wrote", reader, v, c.offset)
			}
			return fmt.Errorf("%s reads %v at %d, where %v is", reader, v, c.offset, got)
		}
	}
	return nil
}

// play writes and reads the memory of a plan as a run would.
func play(p *compile.Plan) error {
	m := &memory{plan: p, cells: map[cell]graph.Value{}}
	for _, n := range slices.Concat(p.Graph.Inputs, p.Graph.States) {
		m.cells[cell{leaf: n}] = graph.Value{N: n}
	}
	for _, n := range p.Graph.Nodes {
		v := graph.Value{N: n}
		switch {
		case n.IsInput(), n.IsState():
			continue
		case n.Op.View:
			if m.plan.Slots[v].Offset != m.plan.Slots[n.In[0]].Offset {
				return fmt.Errorf("view %v is elsewhere than its operand", v)
			}
			continue
		}
		if err := m.run(n); err != nil {
			return err
		}
	}
	for _, o := range p.Graph.Outputs {
		if err := m.holds(o.Value, "output "+o.Name); err != nil {
			return err
		}
	}
	for _, u := range p.Graph.Updates {
		if err := m.holds(u.Value, "update of "+u.State.Name()); err != nil {
			return err
		}
	}
	return nil
}

// run reads n's operands and writes its results, which may lie over each other
// as the op declares and in no other way.
func (m *memory) run(n *graph.Node) error {
	idle := n.Idle()
	operand := map[cell][]int{}
	for k, v := range n.In {
		if idle[k] {
			continue
		}
		if err := m.holds(v, fmt.Sprintf("%s %%%d", n.Op.Name, n.ID)); err != nil {
			return err
		}
		for _, c := range m.of(v) {
			operand[c] = append(operand[c], k)
		}
	}
	written := map[cell]bool{}
	for i, t := range n.Out {
		v := graph.Value{N: n, I: i}
		if m.plan.Slots[v].Bytes < t.Bytes() || m.plan.Slots[v].Offset+m.plan.Slots[v].Bytes > m.plan.Arena && m.plan.Slots[v].State == nil {
			return fmt.Errorf("%v has %+v of an arena of %d", v, m.plan.Slots[v], m.plan.Arena)
		}
		for _, c := range m.of(v) {
			if written[c] {
				return fmt.Errorf("two results of %s lie at %d", n.Op.Name, c.offset)
			}
			written[c] = true
			if err := m.mayTake(n, i, operand[c]); err != nil {
				return err
			}
			m.cells[c] = v
		}
	}
	return nil
}

// mayTake checks that one of the operands that lie where result i does is
// declared as its alias, in the same place, and that the others are of its type.
func (m *memory) mayTake(n *graph.Node, i int, operands []int) error {
	if len(operands) == 0 {
		return nil
	}
	declared := false
	for _, k := range operands {
		declared = declared || i < len(n.Op.Alias) && slices.Contains(n.Op.Alias[i], k)
		if m.plan.Slots[n.In[k]].Offset != m.plan.Slots[graph.Value{N: n, I: i}].Offset {
			return fmt.Errorf("result %d of %s lies askew over operand %d", i, n.Op.Name, k)
		}
		if !n.In[k].Type().Equal(n.In[operands[0]].Type()) {
			return fmt.Errorf("result %d of %s lies over %v and %v", i, n.Op.Name, n.In[operands[0]].Type(), n.In[k].Type())
		}
	}
	if !declared {
		return fmt.Errorf("result %d of %s lies over operands %v, declared are %v", i, n.Op.Name, operands, n.Op.Alias)
	}
	return nil
}

// maker draws a random graph: a pool of values of one size in several shapes.
type maker struct {
	b    *B
	r    *rapid.T
	pool map[string][]graph.Value // by type
}

func (m *maker) add(vs ...graph.Value) {
	for _, v := range vs {
		m.pool[v.Type().String()] = append(m.pool[v.Type().String()], v)
	}
}

func (m *maker) pick(t tensor.Type) graph.Value {
	vs := m.pool[t.String()]
	return vs[rapid.IntRange(0, len(vs)-1).Draw(m.r, "value")]
}

var square, stack, scalar = f32(4, 4), f32(1, 4, 4), f32()

func (m *maker) grow() {
	b := m.b
	x, y := m.pick(square), m.pick(square)
	switch rapid.IntRange(0, 13).Draw(m.r, "op") {
	case 0:
		m.add(b.Add(x, y))
	case 1:
		m.add(b.Exp(x))
	case 2:
		m.add(b.Where(b.Less(x, y), x, m.pick(square)))
	case 3:
		m.add(b.MatMul(x, y, false, true))
	case 4:
		m.add(b.Reshape(x, 1, 4, 4))
	case 5:
		m.add(b.Reshape(m.pick(stack), 4, 4))
	case 6:
		m.add(b.StreamWrite(m.pick(stack), b.Slice(x, 0, 1, 2), y, b.Reshape(b.Slice(y, 0, 0, 1), 4)))
	case 7:
		m.add(b.Apply(graph.Lookup("swiglu").Pullback(), nil, x, y, m.pick(square))...)
	case 8:
		m.add(b.Reshape(b.Sum(b.Reshape(x, 16), 0)))
	case 9:
		m.add(b.Mul(x, m.pick(scalar)))
	case 10:
		s := m.pick(scalar)
		p, mo, v := b.AdamW(x, y, m.pick(square), m.pick(square), s, s, m.pick(scalar), graph.AdamAttr{Beta1: 0.9})
		m.add(p, mo, v)
	case 11:
		m.add(b.Transpose(b.Through(x, y), 1, 0))
	case 12:
		m.add(b.RMSNorm(x, b.Reshape(b.Slice(y, 0, 0, 1), 4), 1))
	case 13:
		codes := b.Encode(x, tensor.U2, []int8{-1, 0, 1})
		m.add(b.BitLinear(y, m.pick(square), codes, b.Slice(x, 1, 0, 1), graph.LinearAttr{Levels: []int8{-1, 0, 1}, ActBits: 8}))
	}
}

func randomGraph(r *rapid.T) func(b *B) {
	return func(b *B) {
		m := &maker{b: b, r: r, pool: map[string][]graph.Value{}}
		var states []graph.Value
		for i := range 3 {
			states = append(states, b.Buffer(fmt.Sprint("s", i), square))
		}
		x := in(b, "x", 4, 4)
		m.add(states...)
		m.add(x, b.Reshape(x, 1, 4, 4), in(b, "c"))
		for range rapid.IntRange(1, 25).Draw(r, "nodes") {
			m.grow()
		}
		for i, s := range states {
			if rapid.Bool().Draw(r, "update") {
				b.Update(s, m.pick(square))
			}
			b.Output(fmt.Sprint("out", i), m.pick([]tensor.Type{square, stack, scalar}[i]))
		}
	}
}

func TestNoValueIsOverwrittenWhileItLives(t *testing.T) {
	shared, inPlace := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		g, err := graph.Trace(randomGraph(r))
		if err != nil {
			r.Fatal(err)
		}
		for _, native := range []func(*graph.Node) bool{everything, primitives} {
			low, err := compile.Lower(g, native)
			if err != nil {
				r.Fatal(err)
			}
			p, apart := compile.Place(low, 64, nil), compile.PlaceApart(low, 64, nil)
			if err := play(p); err != nil {
				r.Fatalf("%v in\n%s", err, low)
			}
			if err := play(apart); err != nil {
				r.Fatalf("apart: %v in\n%s", err, low)
			}
			if p.Arena > p.Naive || p.Naive > apart.Arena {
				r.Fatalf("arena %d, naive %d, apart %d", p.Arena, p.Naive, apart.Arena)
			}
			if p.Arena < p.Naive {
				shared++
			}
			inPlace += p.InPlace
		}
	})
	if shared == 0 || inPlace == 0 {
		t.Errorf("memory was shared in %d graphs, %d results were written in place: the test shows nothing", shared, inPlace)
	}
}

// The shadow itself is worth nothing unless it sees an overlap.
func TestTheShadowSeesAnOverlap(t *testing.T) {
	g := trace(t, func(b *B) {
		x := in(b, "x", 4)
		y, z := b.Exp(x), b.Neg(x)
		b.Output("sum", b.Add(y, z))
	})
	p := compile.PlaceApart(g, 64, nil)
	if err := play(p); err != nil {
		t.Fatal(err)
	}
	for v, s := range p.Slots {
		s.Offset = 0
		p.Slots[v] = s
	}
	if play(p) == nil {
		t.Error("two live values at one offset go unseen")
	}
}

func TestAChainRunsInOnePlace(t *testing.T) {
	g := lower(t, everything, func(b *B) {
		v := in(b, "x", 100)
		for range 10 {
			v = b.Exp(b.Mul(v, v))
		}
		b.Output("y", v)
	})
	p := compile.Place(g, 64, nil)
	if p.Arena != 448 || p.Naive != 20*448 || p.InPlace != 19 {
		t.Errorf("arena %d, naive %d, in place %d; want 448, 8960, 19", p.Arena, p.Naive, p.InPlace)
	}
}

func TestAnInputIsNotWrittenOver(t *testing.T) {
	g := lower(t, everything, func(b *B) { b.Output("y", b.Exp(in(b, "x", 4))) })
	p := compile.Place(g, 64, nil)
	if s := p.Slots[g.Outputs[0].Value]; s.Input != nil || p.InPlace != 0 {
		t.Errorf("result at %+v", s)
	}
}

// A matrix that is a view of the streams it mixes is read after the first of
// them is written.
func TestAnOperandReadOutOfStepIsNotWrittenOver(t *testing.T) {
	g := lower(t, everything, func(b *B) {
		s := b.Exp(in(b, "x", 1, 4, 4))
		b.Output("y", b.StreamWrite(s, in(b, "y", 1, 4), b.Reshape(s, 4, 4), in(b, "post", 4)))
	})
	p := compile.Place(g, 64, nil)
	if p.InPlace != 0 {
		t.Errorf("the streams are written over the matrix")
	}
}

func TestUpdatesAreWrittenInPlaceWhenNobodyLooks(t *testing.T) {
	for _, c := range []struct {
		name    string
		inPlace bool
		build   func(b *B, s, x graph.Value)
	}{
		{"sum", true, func(b *B, s, x graph.Value) { b.Update(s, b.Add(s, x)) }},
		{"either operand", true, func(b *B, s, x graph.Value) { b.Update(s, b.Add(x, s)) }},
		{"read before", true, func(b *B, s, x graph.Value) {
			b.Output("y", b.Exp(s))
			b.Update(s, b.Add(s, b.Exp(s)))
		}},
		{"read twice by its op", false, func(b *B, s, x graph.Value) { b.Update(s, b.Add(s, s)) }},
		{"old value is a result", false, func(b *B, s, x graph.Value) {
			b.Output("y", s)
			b.Update(s, b.Add(s, x))
		}},
		{"old value goes to another state", false, func(b *B, s, x graph.Value) {
			b.Update(b.Buffer("old", s.Type()), s)
			b.Update(s, b.Add(s, x))
		}},
		{"an op that may not", false, func(b *B, s, x graph.Value) { b.Update(s, b.Transpose(s, 1, 0)) }},
		{"never read", true, func(b *B, s, x graph.Value) { b.Update(s, b.Transpose(x, 1, 0)) }},
		{"read, and not made of it", false, func(b *B, s, x graph.Value) {
			b.Output("y", b.Exp(s))
			b.Update(s, b.Exp(x))
		}},
		{"cache", true, func(b *B, s, x graph.Value) {
			b.Update(s, b.UpdateAt(s, b.Slice(x, 1, 0, 1), b.Input("pos", tensor.I32, 4), 1))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := lower(t, everything, func(b *B) { c.build(b, b.Buffer("s", f32(4, 4)), in(b, "x", 4, 4)) })
			p := compile.Place(g, 64, nil)
			if err := play(p); err != nil {
				t.Fatal(err)
			}
			for _, u := range g.Updates {
				if u.State.Name() == "s" && (p.Slots[u.Value].State == u.State) != c.inPlace {
					t.Errorf("in place: %v, want %v in\n%s", !c.inPlace, c.inPlace, g)
				}
			}
		})
	}
}

func TestAnOptimizerStepRunsInPlace(t *testing.T) {
	p := compile.Place(lower(t, everything, step), 64, nil)
	for _, u := range p.Graph.Updates {
		if p.Slots[u.Value].State != u.State {
			t.Errorf("%s is copied", u.State.Name())
		}
	}
}

func TestSizesAreThoseOfTheBackend(t *testing.T) {
	g := lower(t, everything, func(b *B) { b.Output("y", b.Exp(in(b, "x", 100))) })
	p := compile.Place(g, 64, func(t tensor.Type) int { return 2 * t.Bytes() })
	if s := p.Slots[g.Outputs[0].Value]; s.Bytes != 800 || p.Arena != 832 {
		t.Errorf("slot %+v of an arena of %d, want 800 bytes of 832", s, p.Arena)
	}
}
