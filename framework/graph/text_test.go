package graph_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

func TestEveryOpSurvivesItsText(t *testing.T) {
	var all strings.Builder
	for _, op := range graph.Ops() {
		for _, form := range forms(op) {
			g := sampleOf(t, op, form)
			survives(t, form, g)
			lines := strings.Split(strings.TrimSpace(g.String()), "\n")
			all.WriteString(lines[len(lines)-1-len(g.Outputs)] + "\n")
		}
	}
	golden(t, "ops.txt", all.String())
}

// survives writes and reads g.
func survives(t *testing.T, name string, g *graph.Graph) {
	t.Helper()
	text := g.String()
	back, err := graph.Read(strings.NewReader(text))
	if err != nil {
		t.Errorf("%s: %v in\n%s", name, err, text)
		return
	}
	if back.String() != text || back.Hash() != g.Hash() {
		t.Errorf("%s: wrote\n%sread\n%s", name, text, back)
	}
	for i, n := range g.Nodes {
		m := back.Nodes[i]
		if m.Op != n.Op || !reflect.DeepEqual(m.Attr, n.Attr) || !reflect.DeepEqual(m.Out, n.Out) || len(m.In) != len(n.In) {
			t.Errorf("%s: node %d is %v, was %v", name, i, m, n)
		}
	}
}

// program has everything that a graph may hold.
func program(t *testing.T) *graph.Graph {
	t.Helper()
	g, err := graph.Trace(func(b *B) {
		x := b.Input("x", tensor.F32, 2, 4)
		var h graph.Value
		b.In("block", func() {
			b.In("norm", func() { h = b.RMSNorm(x, b.Param("w", graph.ConstInit(1), 4), 1e-5) })
			h = b.MatMul(h, b.Param("w", graph.NormalInit(0.02), 4, 4), false, true)
			h = b.Add(h, b.GlobalParam("bias", graph.ListInit(1, 2, 3, 4), 4))
		})
		count := b.Buffer("count", f32())
		loss := b.SumAll(h)
		grads := b.Gradients(loss, b.Params())
		for i, p := range b.Params() {
			b.Update(p, b.Sub(p, b.Scale(grads[i], 0.1)))
		}
		b.Update(count, b.Add(count, b.Const(1, f32())))
		b.Output("loss", loss)
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestAProgramHasItsGoldenText(t *testing.T) {
	g := program(t)
	golden(t, "program.txt", g.String())
	back, err := graph.Read(strings.NewReader(g.String()))
	if err != nil {
		t.Fatal(err)
	}
	if back.String() != g.String() {
		t.Errorf("read back:\n%s", back)
	}
	if len(back.States) != len(g.States) || len(back.Params()) != 3 || len(back.Inputs) != 1 || len(back.Updates) != 4 {
		t.Errorf("read back %d states, %d params, %d inputs, %d updates", len(back.States), len(back.Params()), len(back.Inputs), len(back.Updates))
	}
	other := strings.Replace(g.String(), "0.1", "0.2", 1)
	changed, err := graph.Read(strings.NewReader(other))
	if err != nil {
		t.Fatal(err)
	}
	if changed.Hash() == g.Hash() {
		t.Error("a graph with another constant has the same hash")
	}
}

func TestReadRefusesWhatIsNotAGraph(t *testing.T) {
	const x = `%0 = input() {"Name":"x","Type":"f32[2,3]"} : f32[2,3]` + "\n"
	for _, c := range []struct{ name, text, want string }{
		{"noise", "hello", `line 1: graph: malformed node "hello"`},
		{"no id", "neg(%0) : f32[2]", `line 1: graph: malformed node "neg(%0) : f32[2]"`},
		{"no operands", x + "%1 = neg : f32[2,3]", `line 2: graph: malformed node "%1 = neg : f32[2,3]"`},
		{"no types", x + "%1 = neg(%0)", `line 2: graph: malformed node "%1 = neg(%0)"`},
		{"id out of order", x + "%2 = neg(%0) : f32[2,3]", `line 2: graph: malformed node "%2 = neg(%0) : f32[2,3]"`},
		{"unknown op", x + "%1 = frobnicate(%0) : f32[2,3]", `line 2: graph: unknown op "frobnicate"`},
		{"forward reference", x + "%1 = neg(%1) : f32[2,3]", `line 2: graph: bad reference "%1"`},
		{"negative reference", x + "%1 = neg(%-1) : f32[2,3]", `line 2: graph: bad reference "%-1"`},
		{"reference without a number", x + "%1 = neg(%) : f32[2,3]", `line 2: graph: bad reference "%"`},
		{"second result of one", x + "%1 = neg(%0.1) : f32[2,3]", `line 2: graph: bad reference "%0.1"`},
		{"huge reference", x + "%1 = neg(%99999999999999999999) : f32[2,3]", `line 2: graph: bad reference "%99999999999999999999"`},
		{"wrong type", x + "%1 = neg(%0) : f32[3,2]", "line 2: graph: neg gives f32[2,3], the text says f32[3,2]"},
		{"too many types", x + "%1 = neg(%0) : f32[2,3] f32[2,3]", "line 2: graph: neg gives f32[2,3], the text says f32[2,3] f32[2,3]"},
		{"too many operands", x + "%1 = neg(%0 %0) : f32[2,3]", "line 2: graph: neg: 2 operands, wants 1"},
		{"operands of a leaf", x + `%1 = input(%0) {"Name":"y","Type":"f32[2]"} : f32[2]`, "line 2: graph: input: 1 operands, wants 0"},
		{"attribute where there is none", x + `%1 = neg(%0) {"Axis":1} : f32[2,3]`, "line 2: graph: neg takes no attribute"},
		{"attribute missing", x + "%1 = sum(%0) : f32[2,1]", "line 2: graph: sum: attribute: EOF"},
		{"attribute of another op", x + `%1 = sum(%0) {"N":1} : f32[2,1]`, `line 2: graph: sum: attribute: json: unknown field "N"`},
		{
			"attribute of another type", x + `%1 = sum(%0) {"Axis":"1"} : f32[2,1]`,
			"line 2: graph: sum: attribute: json: cannot unmarshal string into Go struct field AxisAttr.Axis of type int",
		},
		{"text after the attribute", x + `%1 = sum(%0) {"Axis":1} {} : f32[2,1]`, "line 2: graph: sum: text after the attribute"},
		{"axis out of range", x + `%1 = sum(%0) {"Axis":2} : f32[2,1]`, "line 2: graph: sum: f32[2,3] has no axis 2"},
		{"bad type", `%0 = input() {"Name":"x","Type":"f32[0]"} : f32[0]`, "line 1: graph: tensor: dimension 0 of f32[0] is not positive"},
		{"unknown dtype", `%0 = input() {"Name":"x","Type":"f99[2]"} : f99[2]`, `line 1: graph: tensor: unknown dtype "f99"`},
		{
			"huge type", `%0 = iota() {"N":9000000000000000} : f32[9000000000000000]`,
			"line 1: graph: iota: result: tensor: f32[9000000000000000] has more than 1099511627776 elements",
		},
		{"param that is not f32", `%0 = param() {"Name":"w","Type":"i32[2]","Init":{}} : i32[2]`, `line 1: graph: param "w" is i32[2], wants f32`},
		{"empty name", `%0 = input() {"Name":"","Type":"f32[2]"} : f32[2]`, `line 1: graph: bad name "": wants 1 to 256 bytes of text without white space or quotes`},
		{"name with a space", `%0 = input() {"Name":"a b","Type":"f32[2]"} : f32[2]`, `line 1: graph: bad name "a b": wants 1 to 256 bytes of text without white space or quotes`},
		{"input twice", x + `%1 = input() {"Name":"x","Type":"f32[2,3]"} : f32[2,3]`, `line 2: graph: input "x" is declared twice`},
		{
			"state twice", `%0 = buffer() {"Name":"x","Type":"f32[2]"} : f32[2]` + "\n" + `%1 = buffer() {"Name":"x","Type":"f32[2]"} : f32[2]`,
			`line 2: graph: state "x" is declared twice`,
		},
		{"update of no state", x + "update %0 %0", "line 2: graph: update of input, which is no state"},
		{
			"update with another type", `%0 = buffer() {"Name":"b","Type":"f32[2]"} : f32[2]` + "\n%1 = iota() {\"N\":3} : f32[3]\nupdate %0 %1",
			"line 3: graph: update of b f32[2] with f32[3]",
		},
		{"two updates", `%0 = buffer() {"Name":"b","Type":"f32[2]"} : f32[2]` + "\nupdate %0 %0\nupdate %0 %0", `line 3: graph: state "b" is updated twice`},
		{"output of nothing", "output y %0", `line 1: graph: bad reference "%0"`},
		{
			"code book too large", `%0 = input() {"Name":"x","Type":"u1[8]"} : u1[8]` + "\n" + `%1 = decode(%0) {"Levels":[1,2,3]} : f32[8]`,
			"line 2: graph: decode: 3 levels in 1-bit codes",
		},
		{"line too long", strings.Repeat("x", 1<<17), "line 1: bufio.Scanner: token too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := graph.Read(strings.NewReader(c.text))
			if err == nil {
				t.Fatalf("read\n%s", g)
			}
			if err.Error() != c.want {
				t.Errorf("got  %s\nwant %s", err, c.want)
			}
		})
	}
}

func TestReadReturnsTheErrorOfItsReader(t *testing.T) {
	bad := errors.New("no more")
	if _, err := graph.Read(failing{bad}); !errors.Is(err, bad) {
		t.Errorf("got %v, want %v", err, bad)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzRead holds Read to its word: an error or a graph whose text reads back
// as itself, whatever the input.
func FuzzRead(f *testing.F) {
	for _, name := range []string{"ops.txt", "program.txt"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add(`%0 = input() {"Name":"x","Type":"f32[2,3]"} : f32[2,3] @a.b` + "\n" + `%1 = sum(%0) {"Axis":1} : f32[2,1]` + "\noutput y %1\n")
	f.Add(`%0 = buffer() {"Name":"x","Type":"u2[2,3]"} : u2[2,3]` + "\n" + `%1 = decode(%0) {"Levels":[-1,0,1]} : f32[2,3]` + "\nupdate %0 %0\n")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := graph.Read(strings.NewReader(text))
		if err != nil {
			return
		}
		again, err := graph.Read(strings.NewReader(g.String()))
		if err != nil {
			t.Fatalf("%v in\n%s", err, g)
		}
		if again.String() != g.String() {
			t.Fatalf("wrote\n%sread\n%s", g, again)
		}
	})
}
