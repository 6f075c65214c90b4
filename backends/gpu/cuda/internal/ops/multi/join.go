package multi

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
)

// small is up to how many elements a parameter is joined with others: a step of more
// takes longer than a launch, and has blocks enough of its own.
const small = 64 << 10

var (
	single    = graph.Lookup("adamw")
	opMul     = graph.Lookup("mul")
	opReshape = graph.Lookup("reshape")
)

// Join replaces small steps of AdamW that have the same constants by one node, with
// the clipping of their gradients. It is a pass of engine.Config.
func Join(g *graph.Graph) (*graph.Graph, error) {
	j := &joining{g: g, of: map[*graph.Node]*group{}, clipped: map[*graph.Node]bool{}}
	j.find()
	if len(j.of) == 0 {
		return g, nil
	}
	out, err := graph.Trace(j.rebuild)
	return out, errors.Wrap(err, "join steps of an optimizer")
}

// kind is what the steps of a group have in common.
type kind struct {
	attr   graph.AdamAttr
	in     [3]graph.Value // learning rate and corrections
	factor graph.Value    // what gradients are multiplied by; none if they are not
}

// group is the steps that become one node.
type group struct {
	kind
	steps []*graph.Node
	grads []graph.Value // before they are clipped
}

// joining is the state of Join.
type joining struct {
	g       *graph.Graph
	of      map[*graph.Node]*group
	clipped map[*graph.Node]bool // products that the joined nodes make themselves
	b       *graph.Builder
	env     map[graph.Value]graph.Value
}

// find makes the groups. No step is in one that depends on any other.
func (j *joining) find() {
	uses := make([]int, len(j.g.Nodes))
	for _, n := range j.g.Nodes {
		for _, v := range n.In {
			uses[v.N.ID]++
		}
	}
	for _, o := range j.g.Outputs {
		uses[o.Value.N.ID]++
	}
	for _, u := range j.g.Updates {
		uses[u.Value.N.ID]++
	}
	behind := make([]bool, len(j.g.Nodes)) // a step that may be in a group
	last := map[kind]*group{}
	for _, n := range j.g.Nodes {
		for _, v := range n.In {
			behind[n.ID] = behind[n.ID] || behind[v.N.ID]
		}
		if n.Op != single || n.Out[0].Shape.Numel() > small || behind[n.ID] {
			continue
		}
		behind[n.ID] = true
		k := kind{n.Attr.(graph.AdamAttr), [3]graph.Value(n.In[4:7]), graph.Value{}}
		grad := n.In[1]
		if uses[grad.N.ID] == 1 {
			grad, k.factor = clip(grad)
		}
		if last[k] == nil || len(last[k].steps) == maxSteps {
			last[k] = &group{kind: k}
		}
		last[k].steps = append(last[k].steps, n)
		last[k].grads = append(last[k].grads, grad)
		j.of[n] = last[k]
	}
	for n, c := range j.of {
		if len(c.steps) == 1 {
			delete(j.of, n)
		} else if c.factor.Ok() {
			j.clipped[n.In[1].N] = true
		}
	}
}

// clip takes a product of a gradient and a number apart; factor is none where v is
// something else.
func clip(v graph.Value) (grad, factor graph.Value) {
	if v.N.Op != opMul || v.N.In[1].Type().Shape.Numel() != 1 || !v.N.In[0].Shape().Equal(v.Shape()) {
		return v, graph.Value{}
	}
	factor = v.N.In[1]
	for factor.N.Op == opReshape {
		factor = factor.N.In[0]
	}
	return v.N.In[0], factor
}

// rebuild copies the graph with each group at the place of its last step, or where one
// of its results is wanted first.
func (j *joining) rebuild(b *graph.Builder) {
	j.b, j.env = b, map[graph.Value]graph.Value{}
	for _, n := range j.g.Inputs { // whose order is that of a run's arguments
		j.node(n)
	}
	for _, n := range j.g.Nodes {
		c := j.of[n]
		if c == nil && !j.clipped[n] || c != nil && c.steps[len(c.steps)-1] == n {
			j.node(n)
		}
	}
	for _, o := range j.g.Outputs {
		b.Output(o.Name, j.value(o.Value))
	}
	for _, u := range j.g.Updates {
		b.Update(j.value(graph.Value{N: u.State}), j.value(u.Value))
	}
}

func (j *joining) value(v graph.Value) graph.Value {
	if _, ok := j.env[v]; !ok {
		j.node(v.N)
	}
	return j.env[v]
}

// node copies n with what it depends on, or makes the node of its group, once.
func (j *joining) node(n *graph.Node) {
	if _, ok := j.env[graph.Value{N: n}]; ok {
		return
	}
	if c := j.of[n]; c != nil {
		j.group(c)
		return
	}
	in := make([]graph.Value, len(n.In))
	for i, v := range n.In {
		in[i] = j.value(v)
	}
	m := j.b.Copy(n, in)
	for i := range n.Out {
		j.env[graph.Value{N: n, I: i}] = graph.Value{N: m, I: i}
	}
}

func (j *joining) group(c *group) {
	var in []graph.Value
	for i, n := range c.steps {
		in = append(in, j.value(n.In[0]), j.value(c.grads[i]), j.value(n.In[2]), j.value(n.In[3]))
	}
	for _, v := range c.in {
		in = append(in, j.value(v))
	}
	if c.factor.Ok() {
		in = append(in, j.value(c.factor))
	}
	out := j.b.Apply(opAdamW, attr{c.attr, len(c.steps), c.factor.Ok()}, in...)
	for i, n := range c.steps {
		for k := range 3 {
			j.env[graph.Value{N: n, I: k}] = out[3*i+k]
		}
	}
}
