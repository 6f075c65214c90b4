package fragment_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins/internal/fragment"
)

// add wants s and y f32 [4,8] to give s of that type.
func add(change func(*fragment.Want)) fragment.Want {
	t := tensor.T(tensor.F32, 4, 8)
	w := fragment.Want{Inputs: []fragment.Port{{Name: "s", Type: t}, {Name: "y", Type: t}}, Outputs: []fragment.Port{{Name: "s", Type: t}}, Params: true, Reserved: []string{"norm.weight"}}
	if change != nil {
		change(&w)
	}
	return w
}

const (
	inS   = "%0 = input() {\"Name\":\"s\",\"Type\":\"f32[4,8]\"} : f32[4,8]\n"
	inY   = "%1 = input() {\"Name\":\"y\",\"Type\":\"f32[4,8]\"} : f32[4,8]\n"
	sum   = "%2 = add(%0 %1) : f32[4,8]\n"
	out   = "output s %2\n"
	whole = inS + inY + sum + out
)

func param(name string) string {
	return fmt.Sprintf("%%2 = param() {\"Name\":%q,\"Type\":\"f32[4,8]\",\"Init\":{}} : f32[4,8]\n", name)
}

func TestWhatIsTakenAndWhatIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		change func(*fragment.Want)
		err    string // "" is taken
	}{
		"a sum":                       {text: whole},
		"a parameter":                 {text: inS + inY + param("gain") + out},
		"a parameter in a scope":      {text: strings.Replace(inS+inY+param("mine.gain")+out, "[4,8]\noutput", "[4,8] @mine\noutput", 1)},
		"any output":                  {text: whole, change: func(w *fragment.Want) { w.Outputs[0].Type = tensor.Type{} }},
		"an input as output":          {text: inS + inY + "output s %0\n"},
		"nothing":                     {err: "empty"},
		"too long":                    {text: whole + strings.Repeat("\x00", fragment.MaxText), err: "bytes"},
		"too many lines":              {text: whole + strings.Repeat("\n", fragment.MaxNodes+10), err: "lines"},
		"a line without end":          {text: whole + strings.Repeat("x", 1<<20), err: "token too long"},
		"a missing operand":           {text: inS + inY + "%2 = add(%0 %9) : f32[4,8]\n" + out, err: "bad reference"},
		"a node of later":             {text: inS + "%1 = add(%0 %2) : f32[4,8]\n" + out, err: "bad reference"},
		"wrong arity":                 {text: inS + inY + "%2 = add(%0) : f32[4,8]\n" + out, err: "operands"},
		"a claimed shape":             {text: inS + inY + "%2 = add(%0 %1) : f32[8,4]\n" + out, err: "the text says"},
		"an unknown op":               {text: inS + inY + "%2 = frobnicate(%0 %1) : f32[4,8]\n" + out, err: "frobnicate"},
		"an op of the optimizer":      {text: inS + inY + "%2 = adamw(%0 %1) : f32[4,8]\n" + out, err: "adamw"},
		"a buffer":                    {text: inS + inY + "%2 = buffer() {\"Name\":\"b\",\"Type\":\"f32[4,8]\"} : f32[4,8]\n" + out, err: "buffer"},
		"a pullback":                  {text: inS + inY + "%2 = swiglu.vjp(%0 %1 %0) : f32[4,8] f32[4,8]\n" + out, err: "swiglu.vjp"},
		"an op with white space":      {text: inS + inY + "%2 = buffer (%0 %1) : f32[4,8]\n" + out, err: "not allowed"},
		"an update":                   {text: inS + inY + param("gain") + out + "update %2 %0\n", err: "updates a state"},
		"an update behind a space":    {text: inS + inY + param("gain") + out + " update %2 %0\n", err: "updates a state"},
		"another input":               {text: strings.Replace(whole, `"s"`, `"secret"`, 1), err: "input 0 is secret"},
		"an input more":               {text: inS + inY + "%2 = input() {\"Name\":\"z\",\"Type\":\"f32[4,8]\"} : f32[4,8]\n" + out, err: "3 inputs"},
		"an input less":               {text: inS + "output s %0\n", err: "1 inputs"},
		"inputs in another order":     {text: strings.NewReplacer(`"s"`, `"y"`, `"y"`, `"s"`).Replace(whole), err: "input 0 is y"},
		"another type of input":       {text: strings.ReplaceAll(whole, "[4,8]", "[8,8]"), err: "input 0"},
		"another output":              {text: inS + inY + sum + "output t %2\n", err: `called "t"`},
		"an output more":              {text: whole + "output t %2\n", err: "2 outputs"},
		"no output":                   {text: inS + inY + sum, err: "0 outputs"},
		"another type of output":      {text: whole, change: func(w *fragment.Want) { w.Outputs[0].Type.Shape = tensor.Shape{8, 4} }, err: "asked for was f32[8,4]"},
		"a dtype of any output":       {text: inS + inY + "%2 = cast(%0) {\"To\":\"f16\"} : f16[4,8]\n" + out, change: func(w *fragment.Want) { w.Outputs[0].Type = tensor.Type{} }, err: "wants f32"},
		"a parameter where none may":  {text: inS + inY + param("gain") + out, change: func(w *fragment.Want) { w.Params = false }, err: "may not"},
		"a reserved name":             {text: inS + inY + param("norm.weight") + out, err: "model's own"},
		"a name of path":              {text: inS + inY + param("../x") + out, err: "names are"},
		"a name that ends in a dot":   {text: inS + inY + param("x.") + out, err: "names are"},
		"a name in capitals":          {text: inS + inY + param("Weight") + out, err: "names are"},
		"a name too long":             {text: inS + inY + param(strings.Repeat("x", 65)) + out, err: "names are"},
		"a scope of control bytes":    {text: inS + inY + "%2 = add(%0 %1) : f32[4,8] @a\x1b[31m\n" + out, err: "bad name"},
		"NaN in an attribute":         {text: inS + inY + "%2 = scale(%0) {\"Value\":NaN} : f32[4,8]\n" + out, err: "attribute"},
		"an attribute too large":      {text: inS + inY + "%2 = scale(%0) {\"Value\":1e999} : f32[4,8]\n" + out, err: "attribute"},
		"an unknown attribute":        {text: inS + inY + "%2 = scale(%0) {\"Exec\":\"rm\"} : f32[4,8]\n" + out, err: "attribute"},
		"a value of a billion":        {text: inS + inY + sum + "%3 = const() {\"Value\":0,\"Type\":\"f32[1000000000]\"} : f32[1000000000]\n" + out, err: "more than 64 times"},
		"a product of dimensions":     {text: inS + inY + sum + "%3 = const() {\"Value\":0,\"Type\":\"f32[4294967296,4294967296]\"} : f32[4294967296,4294967296]\n" + out, err: "elements"},
		"many values, large together": {text: many(), err: "values have more than"},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := fragment.Read(c.text, add(c.change))
			switch {
			case c.err == "" && err != nil:
				t.Fatal(err)
			case c.err == "":
				if g.String() != c.text {
					t.Errorf("it reads as\n%s", g)
				}
			case !errors.Is(err, fragment.ErrInvalid) || !strings.Contains(err.Error(), c.err):
				t.Errorf("%v, want ErrInvalid with %q", err, c.err)
			}
		})
	}
}

// many has values within the limit of one, and not of all.
func many() string {
	s := inS + inY + sum
	for i := range 100 {
		s += fmt.Sprintf("%%%d = const() {\"Value\":0,\"Type\":\"f32[4000000]\"} : f32[4000000]\n", i+3)
	}
	return s + out
}

// What may be in a fragment is what the framework has; every op of the list
// exists and holds no state.
func TestAllowedOpsExist(t *testing.T) {
	for _, name := range fragment.Ops() {
		op := graph.Lookup(name)
		if op == nil {
			t.Errorf("op %q is unknown", name)
			continue
		}
		switch op.Attr.(type) {
		case graph.ParamAttr, graph.LeafAttr, graph.AdamAttr:
			t.Errorf("op %q has to do with states", name)
		}
		if op.Primal() != nil {
			t.Errorf("op %q is a pullback", name)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(whole)
	f.Add(inS + inY + param("gain") + out)
	f.Add(strings.Replace(whole, "%2", "%1", 1))
	f.Add(inS + inY + "%2 = const() {\"Value\":1,\"Values\":[1,2],\"Type\":\"f32[2]\"} : f32[2]\n")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := fragment.Read(text, add(nil))
		if err != nil {
			if !errors.Is(err, fragment.ErrInvalid) {
				t.Errorf("%v is no ErrInvalid", err)
			}
			return
		}
		_, err = graph.Trace(func(b *graph.Builder) {
			b.InlineAs(t, g, b.Input("p", tensor.F32, 4, 8), b.Input("q", tensor.F32, 4, 8))
		})
		if err != nil {
			t.Errorf("taken, but not inlined: %v", err)
		}
	})
}
