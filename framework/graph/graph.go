package graph

import (
	"crypto/sha256"
	"fmt"

	"github.com/ternlm/tern/framework/tensor"
)

// Value is one result of one node. The zero Value refers to nothing.
type Value struct {
	N *Node
	I int
}

// Type returns the static type of v.
func (v Value) Type() tensor.Type {
	if v.N == nil {
		failf("value is missing")
	}
	return v.N.Out[v.I]
}

// Shape returns the static shape of v.
func (v Value) Shape() tensor.Shape { return v.Type().Shape }

// Dim returns dimension i, counting from the end when i is negative.
func (v Value) Dim(i int) int {
	s := v.Shape()
	if i < 0 {
		i += len(s)
	}
	if i < 0 || i >= len(s) {
		failf("%v has no dimension %d", v.Type(), i)
	}
	return s[i]
}

// Ok reports whether v refers to a node.
func (v Value) Ok() bool { return v.N != nil }

// Node applies Op to In.
type Node struct {
	ID    int // index in Graph.Nodes
	Op    *Op
	In    []Value
	Out   []tensor.Type
	Attr  any    // a value of the type of Op.Attr, or nil
	Scope string // dotted path of Builder.In names, for people
}

// Name returns the name of an input, parameter or buffer, and "" for others.
func (n *Node) Name() string {
	switch a := n.Attr.(type) {
	case LeafAttr:
		return a.Name
	case ParamAttr:
		return a.Name
	}
	return ""
}

// IsState reports whether n is a parameter or a buffer.
func (n *Node) IsState() bool { return n.Op == opParam || n.Op == opBuffer }

// IsParam reports whether n is a parameter.
func (n *Node) IsParam() bool { return n.Op == opParam }

// IsInput reports whether n is an input.
func (n *Node) IsInput() bool { return n.Op == opInput }

// Output is a named result of a graph.
type Output struct {
	Name  string
	Value Value
}

// Update says that after a run the state holds the value.
type Update struct {
	State *Node
	Value Value
}

// Graph is a traced program. Nodes are in execution order.
type Graph struct {
	Nodes   []*Node
	Inputs  []*Node // in order of declaration
	States  []*Node // parameters and buffers, in order of declaration
	Outputs []Output
	Updates []Update
}

// Params returns the parameters among the states.
func (g *Graph) Params() []*Node {
	var ps []*Node
	for _, n := range g.States {
		if n.IsParam() {
			ps = append(ps, n)
		}
	}
	return ps
}

// Hash is the SHA-256 of the text form. Equal graphs have equal hashes.
func (g *Graph) Hash() [32]byte { return sha256.Sum256([]byte(g.String())) }

// Error is a misuse of the builder: shapes or types that do not fit.
type Error struct {
	Msg string
	Err error // what code that builds a fragment gave to FailWith, or nil
}

func (e *Error) Error() string { return "graph: " + e.Msg }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

func failf(format string, args ...any) { panic(&Error{Msg: fmt.Sprintf(format, args...)}) }

// Fail reports a misuse of the builder from code that builds fragments, such
// as a quantizer or a residual; Trace returns it as an error.
func Fail(format string, args ...any) { failf(format, args...) }

// FailWith is Fail for an error that is no misuse: the error of Trace wraps it.
func FailWith(err error) { panic(&Error{Msg: err.Error(), Err: err}) }

// Builder appends nodes to a graph. Its methods panic with *Error on misuse;
// Trace turns the panic into an error.
type Builder struct {
	g       *Graph
	scope   string
	states  map[string]*Node
	owner   any            // of the states that are declared now: see InlineAs
	owners  map[string]any // of states that have one
	bound   map[*Node]Value
	inputs  map[string]bool
	outputs map[string]bool
	updated map[*Node]bool
}

func newBuilder() *Builder {
	return &Builder{g: &Graph{}, states: map[string]*Node{}, owners: map[string]any{}, bound: map[*Node]Value{}, inputs: map[string]bool{}, outputs: map[string]bool{}, updated: map[*Node]bool{}}
}

// Trace runs fn on a fresh builder and returns the graph that it built.
func Trace(fn func(*Builder)) (g *Graph, err error) {
	b := newBuilder()
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *Error:
			if b.scope != "" {
				e = &Error{e.Msg + " (in " + b.scope + ")", e.Err}
			}
			g, err = nil, e
		default:
			panic(e)
		}
	}()
	fn(b)
	return b.g, nil
}

// Scope returns the current scope.
func (b *Builder) Scope() string { return b.scope }

// In runs fn with name appended to the scope, which prefixes the names of
// parameters and buffers and labels nodes.
func (b *Builder) In(name string, fn func()) {
	old := b.scope
	b.scope = join(old, name)
	fn()
	b.scope = old
}

func join(scope, name string) string {
	if scope == "" || name == "" {
		return scope + name
	}
	return scope + "." + name
}

// apply appends a node. It is the only place where nodes are made.
func (b *Builder) apply(op *Op, attr any, in ...Value) *Node {
	n := &Node{ID: len(b.g.Nodes), Op: op, In: in, Attr: attr, Scope: b.scope}
	op.check(n)
	for i, v := range in {
		if v.N.ID >= len(b.g.Nodes) || b.g.Nodes[v.N.ID] != v.N {
			failf("%s: operand %d is of another graph", op.Name, i)
		}
	}
	n.Out = op.Infer(n)
	for _, t := range n.Out {
		if err := t.Check(); err != nil {
			failf("%s: result: %v", op.Name, err)
		}
	}
	b.g.Nodes = append(b.g.Nodes, n)
	return n
}

func (b *Builder) one(op *Op, attr any, in ...Value) Value {
	return Value{b.apply(op, attr, in...), 0}
}

// Apply appends a node of any op and returns its results. The typed methods
// (Add, MatMul, RMSNorm, ...) are the usual way.
func (b *Builder) Apply(op *Op, attr any, in ...Value) []Value {
	n := b.apply(op, attr, in...)
	out := make([]Value, len(n.Out))
	for i := range out {
		out[i] = Value{n, i}
	}
	return out
}

// Input declares a tensor that each run is given.
func (b *Builder) Input(name string, d tensor.DType, dims ...int) Value {
	checkName(name)
	if b.inputs[name] {
		failf("input %q is declared twice", name)
	}
	b.inputs[name] = true
	n := b.apply(opInput, LeafAttr{name, tensor.T(d, dims...).String()})
	b.g.Inputs = append(b.g.Inputs, n)
	return Value{n, 0}
}

// Param declares, or returns again, an f32 parameter named under the current
// scope. It must be in the store when the graph runs; init says how a trainer
// makes its first value.
func (b *Builder) Param(name string, init Init, dims ...int) Value {
	return b.state(opParam, ParamAttr{join(b.scope, name), tensor.T(tensor.F32, dims...).String(), init})
}

// Buffer declares, or returns again, a tensor that persists between runs,
// named under the current scope. It is zero at first use.
func (b *Builder) Buffer(name string, t tensor.Type) Value {
	return b.state(opBuffer, LeafAttr{join(b.scope, name), t.String()})
}

// GlobalParam is Param with a name that ignores the scope.
func (b *Builder) GlobalParam(name string, init Init, dims ...int) Value {
	return b.state(opParam, ParamAttr{name, tensor.T(tensor.F32, dims...).String(), init})
}

// GlobalBuffer is Buffer with a name that ignores the scope.
func (b *Builder) GlobalBuffer(name string, t tensor.Type) Value {
	return b.state(opBuffer, LeafAttr{name, t.String()})
}

func (b *Builder) state(op *Op, attr any) Value {
	probe := &Node{Op: op, Attr: attr}
	name := probe.Name()
	checkName(name)
	if n := b.states[name]; n != nil {
		if t := op.Infer(probe)[0]; n.Op != op || !n.Out[0].Equal(t) {
			failf("%s %q: declared before as %s %v, now as %v", op.Name, name, n.Op.Name, n.Out[0], t)
		}
		if b.owners[name] != b.owner {
			failf("%s %q belongs to another part of the model", op.Name, name)
		}
		if v, ok := b.bound[n]; ok {
			return v
		}
		return Value{n, 0}
	}
	n := b.apply(op, attr)
	b.states[name] = n
	if b.owner != nil {
		b.owners[name] = b.owner
	}
	b.g.States = append(b.g.States, n)
	return Value{n, 0}
}

// Params returns the parameters declared so far.
func (b *Builder) Params() []Value {
	var ps []Value
	for _, n := range b.g.Params() {
		ps = append(ps, Value{n, 0})
	}
	return ps
}

// Output marks v as a result of the run.
func (b *Builder) Output(name string, v Value) {
	checkName(name)
	if !v.Ok() {
		failf("output %q: value is missing", name)
	}
	if b.outputs[name] {
		failf("output %q is declared twice", name)
	}
	b.outputs[name] = true
	b.g.Outputs = append(b.g.Outputs, Output{name, v})
}

// Update makes state hold v after the run.
func (b *Builder) Update(state, v Value) {
	if !state.Ok() || !v.Ok() {
		failf("update: operand is missing")
	}
	if !state.N.IsState() {
		failf("update of %s, which is no state", state.N.Op.Name)
	}
	if !state.Type().Equal(v.Type()) {
		failf("update of %s %v with %v", state.N.Name(), state.Type(), v.Type())
	}
	if b.updated[state.N] {
		failf("state %q is updated twice", state.N.Name())
	}
	b.updated[state.N] = true
	b.g.Updates = append(b.g.Updates, Update{state.N, v})
}

// Bind has whoever declares state from now on get v: what a run updates is
// read as it will be, by code that knows nothing of the update.
func (b *Builder) Bind(state, v Value) {
	if !state.Ok() || !v.Ok() || !state.N.IsState() || !state.Type().Equal(v.Type()) {
		failf("bind: wants a state and a value of its type")
	}
	b.bound[state.N] = v
}

// Copy appends a copy of n, a node of another graph, with new operands.
func (b *Builder) Copy(n *Node, in []Value) *Node {
	old := b.scope
	defer func() { b.scope = old }()
	b.scope = n.Scope
	switch n.Op {
	case opParam, opBuffer:
		return b.state(n.Op, n.Attr).N
	case opInput:
		return b.Input(n.Name(), n.Out[0].DType, n.Out[0].Shape...).N
	}
	return b.apply(n.Op, n.Attr, in...)
}

// Inline splices f into b. The arguments bind f's inputs in order; f's states
// take names under the current scope, as its scopes do: the nodes are those
// that the code which f was traced from would have added. It returns the values
// of f's outputs.
func (b *Builder) Inline(f *Graph, args ...Value) []Value { return b.InlineAs(nil, f, args...) }

// InlineAs is Inline of a fragment whose states belong to owner: it fails when
// one of their names was declared by anyone else, as does a later declaration
// by anyone else.
func (b *Builder) InlineAs(owner any, f *Graph, args ...Value) []Value {
	if len(args) != len(f.Inputs) {
		failf("inline: %d arguments for %d inputs", len(args), len(f.Inputs))
	}
	if len(f.Updates) > 0 {
		failf("inline: a fragment may not update state")
	}
	env := map[Value]Value{}
	for i, n := range f.Inputs {
		if !args[i].Type().Equal(n.Out[0]) {
			failf("inline: input %s is %v, argument is %v", n.Name(), n.Out[0], args[i].Type())
		}
		env[Value{n, 0}] = args[i]
	}
	outer, scope := b.owner, b.scope
	b.owner = owner
	for _, n := range f.Nodes {
		b.scope = join(scope, n.Scope)
		b.inlineNode(n, scope, env)
	}
	b.owner, b.scope = outer, scope
	out := make([]Value, len(f.Outputs))
	for i, o := range f.Outputs {
		out[i] = env[o.Value]
	}
	return out
}

// inlineNode adds a copy of n, whose states have names under scope.
func (b *Builder) inlineNode(n *Node, scope string, env map[Value]Value) {
	switch a := n.Attr.(type) {
	case ParamAttr:
		a.Name = join(scope, a.Name)
		env[Value{n, 0}] = b.state(opParam, a)
		return
	case LeafAttr:
		if n.Op == opBuffer {
			a.Name = join(scope, a.Name)
			env[Value{n, 0}] = b.state(opBuffer, a)
		}
		return
	}
	in := make([]Value, len(n.In))
	for i, v := range n.In {
		in[i] = env[v]
	}
	m := b.apply(n.Op, n.Attr, in...)
	for i := range n.Out {
		env[Value{n, i}] = Value{m, i}
	}
}
