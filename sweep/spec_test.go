package sweep

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
)

func TestSpecsAreExpandedInTheOrderOfTheFile(t *testing.T) {
	for name, c := range map[string]struct {
		spec string
		want []string
	}{
		"the last axis is the fastest": {
			"grid:\n  residual: [a, b]\n  quant: [x, y]\n",
			[]string{"residual=a quant=x", "residual=a quant=y", "residual=b quant=x", "residual=b quant=y"},
		},
		"axes of the file, not of the alphabet": {
			"grid: {quant: [x, y], dim: [64, 32]}\n",
			[]string{"quant=x dim=64", "quant=x dim=32", "quant=y dim=64", "quant=y dim=32"},
		},
		"zip goes together, and multiplies the grid": {
			"zip:\n  dim: [16, 32]\n  matrix-lr: [0.1, 0.2]\ngrid:\n  quant: [x, y]\n",
			[]string{
				"dim=16 matrix_lr=0.1 quant=x", "dim=16 matrix_lr=0.1 quant=y",
				"dim=32 matrix_lr=0.2 quant=x", "dim=32 matrix_lr=0.2 quant=y",
			},
		},
		"several groups of zip": {
			"zip:\n- {dim: [16, 32], quant: [x, y]}\n- {residual: [a, b], matrix_lr: [1, 2]}\n",
			[]string{
				"dim=16 quant=x residual=a matrix_lr=1", "dim=16 quant=x residual=b matrix_lr=2",
				"dim=32 quant=y residual=a matrix_lr=1", "dim=32 quant=y residual=b matrix_lr=2",
			},
		},
		"exclude drops what has all its values": {
			"grid:\n  residual: [a, b]\n  quant: [x, y]\nexclude:\n- {residual: a, quant: y}\n",
			[]string{"residual=a quant=x", "residual=b quant=x", "residual=b quant=y"},
		},
		"include adds cells, whose other axes are as the settings are": {
			"grid:\n  residual: [a, b]\n  quant: [x, y]\ninclude:\n- {residual: c}\n",
			[]string{"residual=a quant=x", "residual=a quant=y", "residual=b quant=x", "residual=b quant=y", "residual=c quant=ternary"},
		},
		"include extends the cells that it fits": {
			"grid:\n  residual: [a, b]\ninclude:\n- {residual: b, dim: 64}\n",
			[]string{"residual=a dim=32", "residual=b dim=64"},
		},
		"include of a part of a cell is one more": {
			"grid:\n  residual: [a, b]\n  quant: [x]\ninclude:\n- {residual: a}\n",
			[]string{"residual=a quant=x", "residual=b quant=x", "residual=a quant=ternary"},
		},
		"include alone": {
			"include:\n- {residual: a}\n- {residual: b, dim: 64}\n",
			[]string{"residual=a dim=32", "residual=b dim=64"},
		},
		"exclude comes before include": {
			"grid:\n  residual: [a, b]\nexclude: [{residual: b}]\ninclude: [{residual: b, dim: 16}]\n",
			[]string{"residual=a dim=32", "residual=b dim=16"},
		},
		"seeds alone": {"seeds: [5, 3]\n", []string{"base", "base"}},
		"values are text as it is written": {
			"grid: {matrix_lr: [0.10, 1e-3, \"0.1\"], residual: ['mhclite:streams=4,init=report']}\n",
			[]string{
				"matrix_lr=0.10 residual=mhclite:streams=4,init=report", "matrix_lr=1e-3 residual=mhclite:streams=4,init=report",
				"matrix_lr=0.1 residual=mhclite:streams=4,init=report",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, trial := range mustPlan(t, c.spec).Trials {
				got = append(got, trial.Cell)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestSeedsAreTheOuterLoop(t *testing.T) {
	var got []string
	p := mustPlan(t, "base: {dim: 16}\ngrid: {residual: [a, b]}\nseeds: 2\nbaseline: {residual: b}\n")
	for _, trial := range p.Trials {
		got = append(got, fmt.Sprintf("%s %d %s", trial.Axes["residual"], trial.Seed, trial.Settings["seed"]+trial.Settings["dim"]))
	}
	if d := cmp.Diff([]string{"a 1 116", "b 1 116", "a 2 216", "b 2 216"}, got); d != "" {
		t.Error(d)
	}
	if p.Baseline != "residual=b" || !cmp.Equal(p.Axes, []string{"residual"}) {
		t.Errorf("baseline %q, axes %v", p.Baseline, p.Axes)
	}
	if p := mustPlan(t, "base: {seed: 7}\ngrid: {residual: [a, b]}\n"); p.Trials[0].Seed != 7 || p.Baseline != "residual=a" {
		t.Errorf("seed %d, baseline %q", p.Trials[0].Seed, p.Baseline)
	}
}

// bomb is an alias bomb: 10^9 strings in 400 bytes.
func bomb() string {
	var b strings.Builder
	b.WriteString("a: &a [x, x, x, x, x, x, x, x, x, x]\n")
	for c := 'b'; c < 'j'; c++ {
		fmt.Fprintf(&b, "%c: &%c [*%c", c, c, c-1)
		b.WriteString(strings.Repeat(fmt.Sprintf(", *%c", c-1), 9) + "]\n")
	}
	return b.String()
}

// huge is a grid of 10^9 cells.
func huge() string {
	var b strings.Builder
	b.WriteString("grid:\n")
	for _, k := range []string{"residual", "quant", "dim"} {
		var values []string
		for i := range 1000 {
			values = append(values, fmt.Sprint(i))
		}
		fmt.Fprintf(&b, "  %s: [%s]\n", k, strings.Join(values, ", "))
	}
	return b.String()
}

func TestBadSpecsAreRefusedWithTheirPlace(t *testing.T) {
	for name, c := range map[string]struct{ spec, want, hint string }{
		"empty":               {"", "nothing", "grid"},
		"only a comment":      {"# x\n", "s.yaml:1: the spec is empty", "grid"},
		"no mapping":          {"- a\n", "s.yaml:1: the spec is no mapping", "key: value"},
		"no YAML":             {"grid: [\n", "s.yaml: yaml:", "docs/sweep.md"},
		"no UTF-8":            {"name: \xff\n", "s.yaml: yaml:", ""},
		"NUL":                 {"name: a\x00b\n", "s.yaml: yaml:", ""},
		"two documents":       {"seeds: 2\n---\nseeds: 3\n", "second document", "one spec"},
		"unknown key":         {"seeds: 2\ngird: {dim: [1]}\n", `s.yaml:2: unknown key "gird"`, `did you mean "grid"?`},
		"unknown axis":        {"grid:\n  dim: [1, 2]\n  residul: [a]\n", `s.yaml:3: tern train has no setting "residul"`, `did you mean "residual"?`},
		"unknown setting":     {"base: {dimm: 3}\nseeds: 2\n", `s.yaml:1: tern train has no setting "dimm"`, `did you mean "dim"?`},
		"refused setting":     {"base:\n  out: x\n", "s.yaml:2: out is no setting of a sweep", "each trial has its own"},
		"refused axis":        {"grid: {out: [x, y]}\n", "s.yaml:1: out is no setting of a sweep", "each trial"},
		"key twice":           {"seeds: 2\nseeds: 3\n", `"seeds" is there already in line 1`, ""},
		"axis twice":          {"grid: {dim: [1], dim: [2]}\n", `"dim" is there already in line 1`, ""},
		"axis in two parts":   {"grid: {dim: [1, 2]}\nzip: {dim: [3, 4]}\n", "s.yaml:2: dim is set in line 1 already", "one place"},
		"axis set in base":    {"base:\n  dim: 3\ngrid:\n  dim: [1, 2]\n", "s.yaml:4: dim is set in line 1 already", "one place"},
		"empty grid":          {"grid: {}\n", "s.yaml:1: grid is empty", "leave it out"},
		"empty axis":          {"grid:\n  dim: []\n", "s.yaml:2: dim has no list of values", "dim: [value, value]"},
		"axis without a list": {"grid:\n  dim: 3\n", "s.yaml:2: dim has no list of values", "dim: [value, value]"},
		"null":                {"grid:\n  dim: [1, null]\n", "s.yaml:2: dim has no plain value", ""},
		"nothing at all":      {"grid:\n", "s.yaml:1: grid is no mapping", ""},
		"a list as a value":   {"grid:\n  dim: [[1, 2]]\n", "s.yaml:2: dim has no plain value", ""},
		"NaN":                 {"grid: {matrix_lr: [.nan]}\n", `".nan" is no finite number`, ""},
		"NaN as text":         {"grid: {matrix_lr: ['NaN']}\n", `"NaN" is no finite number`, ""},
		"infinity":            {"base: {matrix_lr: -.inf}\nseeds: 2\n", `"-.inf" is no finite number`, ""},
		"beyond floats":       {"grid: {matrix_lr: [1e999]}\n", `"1e999" is no finite number`, ""},
		"control characters":  {"grid: {residual: [\"a\\e[31m\"]}\n", "does not print (U+001B)", ""},
		"newline":             {"grid:\n  data: [\"a\\nb\"]\n", "does not print (U+000A)", ""},
		"name with a path":    {"name: ../../etc/x\nseeds: 2\n", "s.yaml:1: name \"../../etc/x\"", "letters"},
		"name with two dots":  {"name: a..b\nseeds: 2\n", "two in a row", "letters"},
		"name with a newline": {"name: \"a\\nb\"\nseeds: 2\n", "does not print", ""},
		"hidden name":         {"name: .a\nseeds: 2\n", "must not begin with a dot", ""},
		"long name":           {"name: " + strings.Repeat("a", 101) + "\nseeds: 2\n", "1 to 100 bytes", ""},
		"unequal zip":         {"zip:\n  dim: [1, 2]\n  quant: [a]\n", "s.yaml:3: quant has 1 values, dim has 2", "equally many"},
		"empty zip":           {"zip: []\n", "s.yaml:1: zip is empty", ""},
		"seed as an axis":     {"grid: {seed: [1, 2]}\n", "seed is no axis", "seeds: [1, 2, 3]"},
		"seed in include":     {"grid: {dim: [1]}\ninclude: [{seed: 3}]\n", "seed is no axis", "seeds"},
		"seed and seeds":      {"base: {seed: 3}\nseeds: 2\ngrid: {dim: [1, 2]}\n", "seed is set beside seeds (line 2)", "leave it out"},
		"no seeds":            {"seeds: 0\n", `seeds "0"`, "seeds: 5"},
		"seed that is none":   {"seeds: [1, x]\n", `seed "x"`, "seeds: 5"},
		"negative seed":       {"seeds: [-1]\n", `seed "-1"`, "seeds: 5"},
		"seed twice":          {"seeds: [3, 3]\n", "seed 3 is there twice", ""},
		"a billion seeds":     {"seeds: 1000000000\n", "1000000000 seeds are more than 10000 trials", "fewer"},
		"nothing varies":      {"base: {dim: 3}\n", "nothing varies", "grid"},
		"exclude of no axis":  {"grid: {dim: [1, 2]}\nexclude: [{quant: a}]\n", "exclude names quant, which does not vary", "dim"},
		"baseline of no axis": {"grid: {dim: [1, 2]}\nbaseline: {quant: a}\n", "baseline names quant, which does not vary", "dim"},
		"exclude is no list":  {"grid: {dim: [1, 2]}\nexclude: {dim: 1}\n", "exclude is no list", "- {key"},
		"empty entry":         {"grid: {dim: [1, 2]}\ninclude: [{}]\n", "an entry of include is empty", ""},
		"aliases":             {"base: &b {dim: 3}\ninclude: [*b]\n", "s.yaml:1: anchors and aliases are not used", "write the values out"},
		"alias bomb":          {bomb(), "anchors and aliases are not used", ""},
		"merge key":           {"base: {<<: {dim: 3}}\n", `tern train has no setting "<<"`, ""},
		"a billion cells":     {huge(), "1000 x 1000 x 1000 = 1000000000 cells", "zip"},
		"too many by seeds":   {"grid: {dim: [1, 2]}\nseeds: 5001\n", "2 = 2 cells, with 5001 seeds and 0 included cells 10002 trials", ""},
		"large":               {"# " + strings.Repeat("x", maxSpec), "larger than 1048576 bytes", ""},
		"deep":                {strings.Repeat("[", 100_000), "s.yaml: yaml:", ""},
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			_, err := ParseSpec("s.yaml", []byte(c.spec), testKeys)
			if !errors.Is(err, ErrSpec) {
				t.Fatalf("error %v", err)
			}
			if name != "empty" && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
			if hints := errors.FlattenHints(err); !strings.Contains(hints, c.hint) {
				t.Errorf("hints %q, want %s", hints, c.hint)
			}
			if d := time.Since(begin); d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

func TestSpecsThatCannotBeExpandedAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ spec, want string }{
		"exclude that drops nothing": {"grid: {dim: [1, 2]}\nexclude: [{dim: 3}]\n", "exclude dim=3 drops no cell"},
		"exclude that drops all":     {"grid: {dim: [1]}\nexclude: [{dim: 1}]\n", "exclude drops all cells"},
		"a value twice":              {"grid: {dim: [1, 1]}\n", `cells "dim=1" and "dim=1" compute the same (seed 1)`},
		"cells that resolve alike":   {"grid: {residual: [a, b]}\ninclude: [{residual: c}, {residual: c, dim: 32}]\n", `"residual=c dim=32" compute the same`},
		"baseline that is no cell":   {"grid: {dim: [1, 2]}\nbaseline: {dim: 3}\n", "baseline dim=3 is no cell"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := ParseSpec("s.yaml", []byte(c.spec), testKeys)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = New(s, resolveAll); !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

func TestWhatAResolverRefusesNamesTheCell(t *testing.T) {
	s, err := ParseSpec("s.yaml", []byte("grid: {dim: [1, 2]}\n"), testKeys)
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(s, func(given map[string]string) (Resolved, error) {
		if given["dim"] == "2" {
			return Resolved{}, errors.New("too wide")
		}
		return resolveAll(given)
	})
	if err == nil || err.Error() != "cell dim=2: too wide" {
		t.Errorf("error %v", err)
	}
}

func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{
		"", "seeds: 3\n", "grid: {dim: [1, 2]}\nseeds: [1, 7]\n", "zip: [{dim: [1, 2], quant: [a, b]}]\nexclude: [{dim: 1}]\n",
		"include: [{dim: 1}, {residual: x}]\nbaseline: {dim: 1}\n", bomb(), "base: {<<: 1}\n", "? [a]\n: b\n", "grid: {dim: !!binary x}\n",
		"grid:\n  residual: [a, b]\ninclude:\n- {residual: b, dim: 64}\n", "name: ../x\n", "a: *b\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSpec("f", text, testKeys)
		if err != nil {
			if !errors.Is(err, ErrSpec) {
				t.Fatalf("error %v is no ErrSpec", err)
			}
			return
		}
		p, err := New(s, resolveAll)
		if err != nil {
			return
		}
		if p.Name == "" {
			p.Name = "test"
		}
		if err := p.check(); err != nil {
			t.Fatalf("a plan that was made is refused: %v", err)
		}
	})
}
