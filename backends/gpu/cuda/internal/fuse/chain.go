package fuse

import (
	"encoding/json"
	"strings"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// Chain is the attribute of a fused node: the nodes that it stands for, and the
// program that computes them.
type Chain struct {
	names []string // of the nodes' ops, in order
	in    []tensor.Type
	out   []tensor.Type
	p     *program
}

// Len is the number of primitives that the chain computes.
func (c *Chain) Len() int { return len(c.names) }

// MarshalJSON is for the text of graphs: the ops, in order.
func (c *Chain) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string]string{"Ops": strings.Join(c.names, " ")})
}

// op makes the op of one fused node. It is not registered: its shape is the
// chain's, and no other node's.
func (c *Chain) op() *graph.Op {
	return &graph.Op{
		Name: "fused", Attr: (*Chain)(nil), Arity: len(c.in), Results: len(c.out), Alias: c.p.alias,
		Infer: func(*graph.Node) []tensor.Type { return c.out },
	}
}

// ChainOf returns the chain of a fused node, or nil.
func ChainOf(n *graph.Node) *Chain {
	c, _ := n.Attr.(*Chain)
	return c
}
