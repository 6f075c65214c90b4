package fragment

import (
	"regexp"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// ErrInvalid is returned for a fragment that is not taken.
var ErrInvalid = errors.New("the plugin's graph fragment is refused")

// Limits on a fragment. Elements are counted beside those of what goes in and
// what must come out, in f32 or codes: a value may hold at most Spread times as
// many, all together Total times.
const (
	MaxText   = 4 << 20 // bytes
	MaxNodes  = 20_000
	MaxParams = 64
	Slack     = 1 << 16 // elements that even a fragment of small operands may have
	Spread    = 64
	Total     = 4096
)

// Port is an input or output.
type Port struct {
	Name string
	Type tensor.Type
}

// Want is what was asked for.
type Want struct {
	Inputs []Port // the only inputs, in order
	// Outputs are the outputs, in order. One without a type is any f32 value of
	// one to four dimensions.
	Outputs []Port
	// Params allows parameters, but of the Reserved names.
	Params   bool
	Reserved []string
}

// allowed are the ops that compute values from values and have a gradient or
// need none. There is no op that reads or writes a state, none of the
// optimizer and no pullback.
var allowed = strings.Fields(`
	abs add amax broadcast cast concat const cos decode div encode equal exp gather iota less log matmul max min mul
	neg pad reshape rmsnorm round rsqrt scale scatteradd sigmoid sin slice softmax sqrt streamread streamwrite sub sum
	swiglu through transpose where`)

// Ops lists the ops that a fragment may hold, beside input and param.
func Ops() []string { return slices.Clone(allowed) }

var validName = regexp.MustCompile(`^[a-z0-9_]+([.-][a-z0-9_]+)*$`)

// Read verifies the text of a fragment and returns the graph.
func Read(text string, w Want) (*graph.Graph, error) {
	bad := func(format string, args ...any) error { return errors.Wrapf(ErrInvalid, format, args...) }
	switch lines := strings.Count(text, "\n"); {
	case text == "":
		return nil, bad("it is empty")
	case len(text) > MaxText:
		return nil, bad("its text has %d bytes, at most %d are allowed", len(text), MaxText)
	case lines > MaxNodes+2*len(w.Outputs):
		return nil, bad("it has %d lines, at most %d nodes are allowed", lines, MaxNodes)
	}
	if err := screen(text); err != nil {
		return nil, err
	}
	g, err := graph.Read(strings.NewReader(text))
	if err != nil {
		return nil, bad("%v", err)
	}
	for _, check := range []func(*graph.Graph, Want) error{ops, inputs, params, outputs, size} {
		if err := check(g, w); err != nil {
			return nil, invalid{err}
		}
	}
	return g, nil
}

// invalid is an ErrInvalid with its own words.
type invalid struct{ error }

func (invalid) Is(target error) bool { return target == ErrInvalid }

func (e invalid) Unwrap() error { return e.error }

// screen looks at the op of each line before attributes are parsed and shapes
// inferred.
func screen(text string) error {
	for line := range strings.Lines(text) {
		_, rest, node := strings.Cut(line, " = ")
		op, _, call := strings.Cut(rest, "(")
		switch {
		case strings.HasPrefix(line, "update "):
			return errors.Wrap(ErrInvalid, "it updates a state, which a fragment may not")
		case node && call && op != "input" && op != "param" && !slices.Contains(allowed, op):
			return errors.WithHint(errors.Wrapf(ErrInvalid, "op %.40q is not allowed in a fragment", op), "allowed are "+strings.Join(allowed, ", "))
		}
	}
	return nil
}

func ops(g *graph.Graph, _ Want) error {
	if len(g.Updates) > 0 {
		return errors.New("it updates a state, which a fragment may not")
	}
	if len(g.Nodes) > MaxNodes {
		return errors.Newf("it has %d nodes, at most %d are allowed", len(g.Nodes), MaxNodes)
	}
	for _, n := range g.Nodes {
		if !n.IsInput() && !n.IsParam() && !slices.Contains(allowed, n.Op.Name) {
			return errors.Newf("op %s is not allowed", n.Op.Name)
		}
		if n.Scope != "" && !validName.MatchString(n.Scope) {
			return errors.Newf("scope %.80q: names are of lower-case letters, digits and underscores, joined by dots", n.Scope)
		}
	}
	return nil
}

func inputs(g *graph.Graph, w Want) error {
	if len(g.Inputs) != len(w.Inputs) {
		return errors.Newf("it has %d inputs, asked for were %d", len(g.Inputs), len(w.Inputs))
	}
	for i, n := range g.Inputs {
		if p := w.Inputs[i]; n.Name() != p.Name || !n.Out[0].Equal(p.Type) {
			return errors.Newf("input %d is %s %v, asked for was %s %v", i, n.Name(), n.Out[0], p.Name, p.Type)
		}
	}
	return nil
}

func params(g *graph.Graph, w Want) error {
	if len(g.States) > 0 && !w.Params {
		return errors.WithHint(errors.Newf("it declares the parameter %q, which it may not here", g.States[0].Name()), "parameters of a quantizer are declared by Surrogate; Pack may only read them")
	}
	if len(g.States) > MaxParams {
		return errors.Newf("it declares %d parameters, at most %d are allowed", len(g.States), MaxParams)
	}
	for _, n := range g.States {
		name := n.Name()
		switch {
		case !validName.MatchString(name) || len(name) > 64:
			return errors.Newf("parameter %.80q: names are of at most 64 lower-case letters, digits and underscores, joined by dots", name)
		case slices.Contains(w.Reserved, name):
			return errors.WithHint(errors.Newf("parameter %q is one of the model's own", name), "choose another name, such as one that begins with the plugin's")
		}
	}
	return nil
}

func outputs(g *graph.Graph, w Want) error {
	if len(g.Outputs) != len(w.Outputs) {
		return errors.Newf("it has %d outputs, asked for were %d", len(g.Outputs), len(w.Outputs))
	}
	for i, o := range g.Outputs {
		p, t := w.Outputs[i], o.Value.Type()
		switch {
		case o.Name != p.Name:
			return errors.Newf("output %d is called %q, asked for was %q", i, o.Name, p.Name)
		case p.Type.DType == tensor.Invalid:
			if t.DType != tensor.F32 || len(t.Shape) < 1 || len(t.Shape) > 4 {
				return errors.Newf("output %s is %v, wants f32 of one to four dimensions", o.Name, t)
			}
		case !t.Equal(p.Type):
			return errors.Newf("output %s is %v, asked for was %v", o.Name, t, p.Type)
		}
	}
	return nil
}

// size bounds the memory that running the fragment can take.
func size(g *graph.Graph, w Want) error {
	base := Slack
	for _, p := range append(slices.Clone(w.Inputs), w.Outputs...) {
		base += p.Type.Shape.Numel()
	}
	total := 0
	for _, n := range g.Nodes {
		for _, t := range n.Out {
			e := t.Shape.Numel()
			if e > Spread*base {
				return errors.Newf("%%%d = %s is %v, more than %d times what goes in and out", n.ID, n.Op.Name, t, Spread)
			}
			if total += e; total > Total*base {
				return errors.Newf("its values have more than %d times the elements of what goes in and out", Total)
			}
		}
	}
	return nil
}
