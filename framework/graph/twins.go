package graph

import (
	"encoding/json"
	"fmt"
	"strings"
)

// twins maps nodes from first to last to the earliest that is equal: the same
// op and attribute on the same operands, up to twins. Code that builds a
// fragment may compute a value once more instead of handing it on, such as a
// residual in Read and Write. Lowering merges the copies, but their cotangents,
// each swept on its own, would be different values all the way to the leaves;
// the cotangent of a value that stands twice is the sum of both. The nodes of
// apart are what is differentiated by, each on its own.
func (b *Builder) twins(first, last int, apart []Value) map[*Node]*Node {
	alone := map[*Node]bool{}
	for _, v := range apart {
		alone[v.N] = true
	}
	seen, twin := map[string]*Node{}, map[*Node]*Node{}
	for id := first; id <= last; id++ {
		n := b.g.Nodes[id]
		if len(n.In) == 0 || alone[n] {
			continue
		}
		key := twinKey(n, twin)
		if m := seen[key]; m != nil {
			twin[n] = m
		} else {
			seen[key] = n
		}
	}
	return twin
}

func twinKey(n *Node, twin map[*Node]*Node) string {
	var s strings.Builder
	s.WriteString(n.Op.Name)
	for _, v := range n.In {
		m := v.N
		if t := twin[m]; t != nil {
			m = t
		}
		fmt.Fprintf(&s, " %d.%d", m.ID, v.I)
	}
	if n.Attr != nil {
		js, _ := json.Marshal(n.Attr) // checked when the node was made
		s.Write(js)
	}
	return s.String()
}
