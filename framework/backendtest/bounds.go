package backendtest

import (
	"strings"

	"github.com/ternlm/tern/framework/graph"
)

// Bound is how far the results of an op may be from float64 arithmetic:
// sum (x-ref)^2 / sum ref^2 over a result, whose root mean square is taken as
// 0.01 at least.
type Bound struct {
	Op   string
	NMSE float64
	Why  string
}

// DefaultBound holds for an op that is in no class below.
const DefaultBound = 1e-7

// classes lists the bounds below the default. A float32 result that is off by
// one unit in the last place has an NMSE of about 1e-14.
var classes = []struct {
	nmse float64
	why  string
	ops  string
}{
	{0, "moves, compares or rounds values: exact", "input param buffer const iota through cut reshape transpose broadcast slice pad concat " +
		"gather neg abs max min amax less equal where round cast encode decode updateat"},
	{1e-13, "one rounding an element", "add sub mul div sqrt scale"},
	{1e-12, "a polynomial or a table an element", "exp log rsqrt sin cos sigmoid"},
	{1e-11, "a float32 sum of any order", "sum scatteradd matmul codebookmatmul bitlinear streamread streamwrite int8 " +
		"codebookmatmul.vjp bitlinear.vjp int8.vjp"},
	{1e-10, "a row of exponentials or roots, or products of such", "rmsnorm normlinear softmax swiglu attention adamw crossentropy " +
		"linearcrossentropy bitlinearcrossentropy codebookcrossentropy " +
		"rmsnorm.vjp normlinear.vjp softmax.vjp swiglu.vjp attention.vjp"},
	{1e-10, "float32 sums over channels, and over all rows, that cancel", "streamread.vjp streamwrite.vjp"},
	{1e-9, "a probability less one, of logits up to a thousand", "crossentropy.vjp linearcrossentropy.vjp " +
		"bitlinearcrossentropy.vjp codebookcrossentropy.vjp"},
	{1e-9, "angles of some hundred radians in float32", "rope rope.vjp"},
}

// Bounds returns the bound of every op, sorted by op.
func Bounds() []Bound {
	var all []Bound
	for _, op := range graph.Ops() {
		b := Bound{op.Name, DefaultBound, "default"}
		for _, c := range classes {
			for name := range strings.FieldsSeq(c.ops) {
				if name == op.Name {
					b.NMSE, b.Why = c.nmse, c.why
				}
			}
		}
		all = append(all, b)
	}
	return all
}

// bound is the error allowed for the named op in this test.
func (t *tester) bound(op string) float64 {
	e := DefaultBound
	for _, b := range Bounds() {
		if b.Op == op {
			e = b.NMSE
		}
	}
	return max(e, t.o.Bounds[op])
}
