package graph

import (
	"cmp"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/ternlm/tern/framework/tensor"
)

// Op is the definition of an operation. A primitive has a VJP; a composite has
// an Expand, from which its gradient is derived.
type Op struct {
	Name    string
	Attr    any // zero value of the attribute's type, nil if the op has none
	Arity   int // number of operands; -1 means one or more
	Results int // number of results; 0 means one
	Infer   func(n *Node) []tensor.Type
	VJP     func(b *Builder, n *Node, ct []Value) []Value  // one cotangent per operand, zero Value for none
	Expand  func(b *Builder, attr any, in []Value) []Value // the meaning, in simpler ops

	// Alias[i] lists the operands whose memory result i may take when they
	// die at this node, best first. A kernel must compute the same results
	// whether or not it is asked to.
	Alias    [][]int
	AliasVJP [][]int // the same for the derived pullback
	View     bool    // the result is operand 0's bytes
	NoGrad   bool    // a composite that is never differentiated
	Cheap    bool    // computing it again costs less than keeping it
	Together bool    // a composite that is better computed together with its pullback: see Joint

	pullback *Op // the X.vjp of composite X
	joint    *Op // the X.joint of composite X
	primal   *Op // the X of X.vjp and X.joint
}

var (
	byName = map[string]*Op{}
	idle   sync.Map // "op|attribute|operand types" -> []bool
)

// Define registers op, and for a differentiable composite its pullback, and
// returns it. It panics when the name is taken.
func Define(op Op) *Op {
	if byName[op.Name] != nil {
		panic("graph: op defined twice: " + op.Name)
	}
	p := &op
	if p.Results == 0 {
		p.Results = 1
	}
	byName[op.Name] = p
	if p.Expand != nil && !p.NoGrad {
		p.pullback = definePullback(p)
	}
	if p.Together {
		p.joint = defineJoint(p)
	}
	return p
}

// Lookup returns the named op, or nil.
func Lookup(name string) *Op { return byName[name] }

// Ops returns every op, sorted by name.
func Ops() []*Op {
	all := make([]*Op, 0, len(byName))
	for _, o := range byName {
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b *Op) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Composite reports whether op has an expansion.
func (op *Op) Composite() bool { return op.Expand != nil }

// Pullback returns the op that computes the vector-Jacobian product of
// composite op, or nil. Its operands are op's operands followed by one
// cotangent per result; its results are one cotangent per f32 operand.
func (op *Op) Pullback() *Op { return op.pullback }

// Joint returns the op that computes composite op and its pullback at once,
// where a kernel can make both of what neither keeps (a block of logits), or
// nil. Its operands are those of the pullback, its results op's followed by the
// pullback's. Lowering joins the two where the cotangents depend neither on op's
// results nor on those of another joint op.
func (op *Op) Joint() *Op { return op.joint }

// Primal returns the composite whose pullback or joint op is, or nil.
func (op *Op) Primal() *Op { return op.primal }

// check verifies what every op needs before its Infer may look at n.
func (op *Op) check(n *Node) {
	if op.Arity >= 0 && len(n.In) != op.Arity {
		failf("%s: %d operands, wants %d", op.Name, len(n.In), op.Arity)
	}
	if op.Arity < 0 && len(n.In) == 0 {
		failf("%s: no operands", op.Name)
	}
	for i, v := range n.In {
		if !v.Ok() {
			failf("%s: operand %d is missing", op.Name, i)
		}
	}
	if reflect.TypeOf(n.Attr) != reflect.TypeOf(op.Attr) {
		failf("%s: attribute is %T, wants %T", op.Name, n.Attr, op.Attr)
	}
	switch a := n.Attr.(type) {
	case ConstAttr:
		finite(op.Name, a.Value)
		finite(op.Name, a.Values...)
	case NormAttr:
		finite(op.Name, a.Eps)
	case RoPEAttr:
		finite(op.Name, append(slices.Clone(a.Factors), a.Theta)...)
	case AdamAttr:
		finite(op.Name, a.Beta1, a.Beta2, a.Eps, a.Decay)
	case ParamAttr:
		finite(op.Name, append(slices.Clone(a.Init.Values), a.Init.Mean, a.Init.Std)...)
	}
}

// finite refuses constants that the text form cannot carry.
func finite(op string, vs ...float64) {
	for _, v := range vs {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			failf("%s: constant %v is not finite", op, v)
		}
	}
}

// Idle reports, for each operand of n, whether n's results depend on its shape
// alone. Such an operand may be gone when n runs: a kernel must not read it.
func (n *Node) Idle() []bool {
	if n.Op.Expand == nil {
		return make([]bool, len(n.In))
	}
	key := n.Op.Name + "|" + attrText(n.Attr)
	for _, v := range n.In {
		key += "|" + v.Type().String()
	}
	if v, ok := idle.Load(key); ok {
		return v.([]bool)
	}
	v := findIdle(n)
	idle.Store(key, v)
	return v
}

// findIdle expands n in a scratch graph and sees which operands its results
// never read. Where the expansion has values that no tensor can hold (a kernel
// of n itself may do without them), every operand counts as read.
func findIdle(n *Node) (idle []bool) {
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *Error:
			idle = make([]bool, len(n.In))
		default:
			panic(e)
		}
	}()
	b := newBuilder()
	in := make([]Value, len(n.In))
	for i, v := range n.In {
		d := v.Type().DType
		if d == tensor.BF16 {
			d = tensor.F32 // a backend may store a value in fewer bits
		}
		in[i] = b.Input(string(rune('a'+i)), d, v.Shape()...)
	}
	seen := map[*Node]bool{}
	var mark func(*Node)
	mark = func(m *Node) {
		if seen[m] {
			return
		}
		seen[m] = true
		if m.Op == opThrough {
			mark(m.In[0].N)
			return
		}
		skip := m.Idle()
		for i, v := range m.In {
			if !skip[i] {
				mark(v.N)
			}
		}
	}
	for _, v := range n.Op.Expand(b, n.Attr, in) {
		mark(v.N)
	}
	out := make([]bool, len(in))
	for i, v := range in {
		out[i] = !seen[v.N]
	}
	return out
}

func checkName(name string) {
	bad := func(r rune) bool { return r == '"' || unicode.IsSpace(r) || unicode.IsControl(r) }
	if name == "" || len(name) > 256 || !utf8.ValidString(name) || strings.ContainsFunc(name, bad) {
		failf("bad name %.80q: wants 1 to 256 bytes of text without white space or quotes", name)
	}
}

func mustType(s string) tensor.Type {
	t, err := tensor.ParseType(s)
	if err != nil {
		failf("%v", err)
	}
	return t
}

func types(t ...tensor.Type) []tensor.Type { return t }

// sameAsFirst infers the type of operand 0.
func sameAsFirst(n *Node) []tensor.Type { return types(n.In[0].Type()) }

// wantF32 fails unless operands idx of n are f32.
func wantF32(n *Node, idx ...int) {
	for _, i := range idx {
		if d := n.In[i].Type().DType; d != tensor.F32 {
			failf("%s: operand %d is %v, wants f32", n.Op.Name, i, n.In[i].Type())
		}
	}
}

// wantShape fails unless operand i of n has dtype d and the given dimensions.
func wantShape(n *Node, i int, d tensor.DType, dims ...int) {
	if want := tensor.T(d, dims...); !n.In[i].Type().Equal(want) {
		failf("%s: operand %d is %v, wants %v", n.Op.Name, i, n.In[i].Type(), want)
	}
}

// wantRank fails unless operand i of n has r dimensions.
func wantRank(n *Node, i, r int) {
	if len(n.In[i].Shape()) != r {
		failf("%s: operand %d is %v, wants %d dimensions", n.Op.Name, i, n.In[i].Type(), r)
	}
}

// wantAxis fails unless axis exists in operand i of n.
func wantAxis(n *Node, i, axis int) {
	if axis < 0 || axis >= len(n.In[i].Shape()) {
		failf("%s: %v has no axis %d", n.Op.Name, n.In[i].Type(), axis)
	}
}
