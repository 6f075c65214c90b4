package cuda

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/roofline"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/train"
)

// task is a graph whose nodes are counted and timed.
type task struct {
	Name   string `json:"name"`
	Tokens int    `json:"tokens"` // that one run of it takes
	graph  *graph.Graph
}

// cached is the tokens before the one that is decoded: half of what is generated
// where decoding is measured.
const cached = 128

// steps is how many of the tasks are parts of a training step: they come first.
const steps = 2

// tasks are what a training step and decoding run.
func tasks(t *testing.T, m *model.Model, r train.Recipe, streams int) []task {
	t.Helper()
	var all []task
	add := func(name string, tokens int, g *graph.Graph, err error) {
		must(t, err)
		all = append(all, task{name, tokens, g})
	}
	g, err := m.Accumulate(r.Batch, r.Window, r.Accum)
	add(fmt.Sprintf("Training, %d windows of %d", r.Batch, r.Window), r.Batch*r.Window, g, err)
	g, err = train.Apply(m, r)
	add("The optimizer", r.TokensPerStep(), g, err)
	rows := min(cached, m.Context)
	g, err = m.Step(1, 1, rows, modelfile.Pass)
	add("Decoding, one stream", 1, g, err)
	g, err = m.Choose(streams, rows, modelfile.Pass)
	add(fmt.Sprintf("Decoding, %d streams", streams), streams, g, err)
	return all
}

// nano is the report's model and a step of it.
func nano(t *testing.T) (*model.Model, train.Recipe) {
	t.Helper()
	c, err := model.Preset("nano-125m")
	must(t, err)
	m, err := model.New(c)
	must(t, err)
	r, err := train.LookupRecipe("default")
	must(t, err)
	r.Batch, r.Accum, r.Window = 64, 1, 256
	return m, r
}

// count is the work of all nodes of one op.
type count struct {
	Op    string `json:"op"`
	Nodes int    `json:"nodes"`
	roofline.Work
	Floor time.Duration `json:"floor_ns"` // the sum of the nodes'
	Took  time.Duration `json:"took_ns"`  // likewise; 0 where nothing was timed
}

// operations are those of products, in whatever type.
func (c count) operations() int64 { return c.Int8 + c.BF16 + c.TF32 + c.F32 }

// table counts nodes by op.
type table map[string]*count

// add adds a node of a planned graph. m is the machine of the floor.
func (t table) add(n *graph.Node, m roofline.Machine, took time.Duration) {
	name := nameOf(n)
	c := t[name]
	if c == nil {
		c = &count{Op: name}
		t[name] = c
	}
	w := roofline.Of(n, true)
	c.Nodes++
	c.Add(w)
	c.Floor += w.Floor(m)
	c.Took += took
}

// sorted lists the ops that take longest first, and their total.
func (t table) sorted() (rows []count, total count) {
	total.Op = "all"
	for _, name := range slices.Sorted(maps.Keys(t)) {
		c := *t[name]
		rows = append(rows, c)
		total.Nodes += c.Nodes
		total.Add(c.Work)
		total.Floor += c.Floor
		total.Took += c.Took
	}
	slices.SortStableFunc(rows, func(a, b count) int {
		return cmp.Or(cmp.Compare(b.Took, a.Took), cmp.Compare(b.Floor, a.Floor))
	})
	return rows, total
}

// nameOf is the op's name, and for a chain of elementwise work that name alone.
func nameOf(n *graph.Node) string { return n.Op.Name }

// computes reports whether a node of a planned graph is work of the device.
func computes(n *graph.Node) bool { return !n.IsInput() && !n.IsState() && !n.Op.View }

// floors counts the nodes of a task as b plans it.
func floors(t *testing.T, b *engine.Backend, k task, m roofline.Machine) table {
	t.Helper()
	p, err := b.Plan(k.graph)
	must(t, err)
	all := table{}
	for _, n := range p.Graph.Nodes {
		if computes(n) {
			all.add(n, m, 0)
		}
	}
	return all
}

// micros are microseconds with three digits or none behind the point.
func micros(d time.Duration) string {
	switch us := float64(d.Nanoseconds()) / 1e3; {
	case d == 0:
		return ""
	case us < 0.01:
		return "< 0.01"
	case us < 10:
		return fmt.Sprintf("%.2f", us)
	case us < 100:
		return fmt.Sprintf("%.1f", us)
	default:
		return grouped(int64(us + 0.5))
	}
}

// grouped is a number with commas between its thousands.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// inUnits is a count in units of a million, or of a billion.
func inUnits(n int64, unit float64) string {
	v := float64(n) / unit
	switch {
	case n == 0:
		return ""
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	default:
		return grouped(int64(v + 0.5))
	}
}

// markdown is a table of a task. Where nothing was timed, its last two columns are
// for what a device takes.
func (t table) markdown(k task) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s:\n\n| op | nodes | MB | Gop | floor, µs | on a device, µs | times the floor |\n|---|---|---|---|---|---|---|\n", k.Name)
	rows, total := t.sorted()
	for _, c := range append(rows, total) {
		took, times := "not run yet", ""
		if total.Took > 0 {
			took, times = micros(c.Took), fmt.Sprintf("%.1f", float64(c.Took)/float64(max(c.Floor, 1)))
		}
		fmt.Fprintf(&s, "| %s | %d | %s | %s | %s | %s | %s |\n", c.Op, c.Nodes, inUnits(c.Bytes, 1e6), inUnits(c.operations(), 1e9), micros(c.Floor), took, times)
	}
	return s.String()
}
