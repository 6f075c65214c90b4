package multi

import (
	_ "embed"
	"encoding/binary"
	"slices"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cu"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

//go:embed multi.cu
var code string

var source = cu.Source("multi.cu", code)

// Sources lists what the kernels are compiled from.
func Sources() []driver.Source { return []driver.Source{source} }

// Add puts the kernels into t.
func Add(t engine.Table) { t[opAdamW] = append(t[opAdamW], engine.Kernel{Bind: bind}) }

// maxSteps is how many steps a node has at most.
const maxSteps = 512

// attr is the attribute of a node of several steps. Its operands are p, g, m and v of
// each, then the learning rate and the two corrections, and where gradients are
// clipped what they are multiplied by. Its results are p, m and v of each.
type attr struct {
	graph.AdamAttr
	Steps   int
	Clipped bool
}

// opAdamW is not registered: only Join makes nodes of it.
var opAdamW = &graph.Op{
	Name: "multi.adamw", Attr: attr{}, Arity: -1, Results: 3 * maxSteps, Alias: aliases(),
	Infer: func(n *graph.Node) (out []tensor.Type) {
		for i := range n.Attr.(attr).Steps {
			t := n.In[4*i].Type()
			out = append(out, t, t, t)
		}
		return out
	},
}

// aliases says that results may lie over p, m and v.
func aliases() (all [][]int) {
	for i := range maxSteps {
		all = append(all, []int{4 * i}, []int{4*i + 2}, []int{4*i + 3})
	}
	return all
}

// What multi.cu has too: the elements and threads of a block.
const (
	pieceSize = 1024
	threads   = 256
)

func bind(c *engine.Call) error {
	a := c.Node.Attr.(attr)
	rest := c.In[4*a.Steps:]
	clip := driver.Pointer(0)
	if a.Clipped {
		clip = rest[3]
	}
	table, blocks := pieces(c, a.Steps)
	at, err := c.Constant(table)
	if err != nil {
		return err
	}
	f, err := c.Device.Function(source, "multi_adamw")
	if err != nil {
		return err
	}
	c.Launch(f, driver.Dim{X: blocks}, driver.Dim{X: threads}, 0, at, clip, rest[0], rest[1], rest[2],
		float32(a.Beta1), float32(1-a.Beta1), float32(a.Beta2), float32(1-a.Beta2), float32(a.Eps), float32(a.Decay))
	return nil
}

// pieces is the table of the kernel: a struct piece for each block.
func pieces(c *engine.Call, steps int) (table []byte, count int) {
	for i := range steps {
		n := c.Node.In[4*i].Type().Shape.Numel()
		for lo := 0; lo < n; lo += pieceSize {
			for _, p := range slices.Concat(c.In[4*i:4*i+4], c.Out[3*i:3*i+3]) {
				table = binary.LittleEndian.AppendUint64(table, uint64(p)+uint64(4*lo))
			}
			table = binary.LittleEndian.AppendUint64(table, uint64(min(pieceSize, n-lo)))
			count++
		}
	}
	return table, count
}
