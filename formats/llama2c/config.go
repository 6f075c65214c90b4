package llama2c

import (
	"fmt"
	"slices"

	"github.com/ternlm/tern/framework/tensor"
)

// headerBytes is the length of the header: seven i32.
const headerBytes = 7 * 4

// Config is the header of a checkpoint.
type Config struct {
	Dim     int  // width of the stream
	Hidden  int  // width of the feed-forward layer
	Layers  int  // blocks
	Heads   int  // query heads; Dim/Heads is the size of a head
	KVHeads int  // key and value heads, a divisor of Heads
	Vocab   int  // tokens
	SeqLen  int  // longest text, in tokens
	Shared  bool // output.weight is token_embd.weight
}

// limits are what no model comes near, and small enough that no size computed
// from them overflows 63 bits.
var limits = [7]int{1 << 20, 1 << 22, 1 << 16, 1 << 16, 1 << 16, 1 << 24, 1 << 24}

// numbers lists the header's fields in file order, Vocab without its sign.
func (c Config) numbers() [7]int {
	return [7]int{c.Dim, c.Hidden, c.Layers, c.Heads, c.KVHeads, c.Vocab, c.SeqLen}
}

// check returns what is wrong with c, or "".
func (c Config) check() string {
	names := [7]string{"dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len"}
	for i, n := range c.numbers() {
		if n < 1 || n > limits[i] {
			return fmt.Sprintf("%s is %d, not in 1..%d", names[i], n, limits[i])
		}
	}
	switch {
	case c.Dim%c.Heads != 0:
		return fmt.Sprintf("dim %d is no multiple of n_heads %d", c.Dim, c.Heads)
	case c.Heads%c.KVHeads != 0:
		return fmt.Sprintf("n_heads %d is no multiple of n_kv_heads %d", c.Heads, c.KVHeads)
	case c.headSize()%2 != 0:
		return fmt.Sprintf("heads of %d numbers: rotary positions need an even count", c.headSize())
	}
	return ""
}

func (c Config) headSize() int { return c.Dim / c.Heads }

// group is what the file holds in one piece: a tensor, or one of every layer.
// A name without a "%d" is one tensor; an empty name is skipped by readers.
type group struct {
	name  string
	shape tensor.Shape
	count int
}

func (g group) tensorName(layer int) string {
	if g.count == 1 && !g.layered() {
		return g.name
	}
	return fmt.Sprintf(g.name, layer)
}

func (g group) layered() bool { return len(g.name) > 4 && g.name[:4] == "blk." }

// bytes is the size of one of the group's tensors.
func (g group) bytes() int64 { return 4 * int64(g.shape.Numel()) }

// groups lists what follows the header, in file order.
func (c Config) groups() []group {
	kv := c.KVHeads * c.headSize()
	layer := func(name string, dims ...int) group { return group{"blk.%d." + name + ".weight", dims, c.Layers} }
	table := group{"", tensor.Shape{c.SeqLen, c.headSize() / 2}, 1}
	all := []group{
		{"token_embd.weight", tensor.Shape{c.Vocab, c.Dim}, 1},
		layer("attn_norm", c.Dim),
		layer("attn_q", c.Dim, c.Dim),
		layer("attn_k", kv, c.Dim),
		layer("attn_v", kv, c.Dim),
		layer("attn_output", c.Dim, c.Dim),
		layer("ffn_norm", c.Dim),
		layer("ffn_gate", c.Hidden, c.Dim),
		layer("ffn_down", c.Dim, c.Hidden),
		layer("ffn_up", c.Hidden, c.Dim),
		{"output_norm.weight", tensor.Shape{c.Dim}, 1},
		table, table, // cosines, sines
	}
	if !c.Shared {
		all = append(all, group{"output.weight", tensor.Shape{c.Vocab, c.Dim}, 1})
	}
	return all
}

// size is the length of the file in bytes.
func (c Config) size() int64 {
	n := int64(headerBytes)
	for _, g := range c.groups() {
		n += g.bytes() * int64(g.count)
	}
	return n
}

// Names lists the tensors of a model of this configuration, layer by layer.
func (c Config) Names() []string {
	var first, last []string
	layers := make([][]string, c.Layers)
	for _, g := range c.groups() {
		switch {
		case g.name == "":
		case g.layered():
			for l := range layers {
				layers[l] = append(layers[l], g.tensorName(l))
			}
		case len(layers[0]) == 0:
			first = append(first, g.name)
		default:
			last = append(last, g.name)
		}
	}
	return slices.Concat(first, slices.Concat(layers...), last)
}
