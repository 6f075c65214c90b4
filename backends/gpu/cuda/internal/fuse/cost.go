package fuse

import (
	"github.com/ternlm/tern/framework/graph"
)

// Costs are in bytes that memory moves in the time, of an H200: 4.8 TB/s, where
// a launch takes 2 microseconds and 12 multiply-adds of all threads together as long
// as a byte. They need not be exact: what they tell apart differs by factors.
const (
	launchCost  = 10 << 20
	opsPerByte  = 12
	stridedCost = 4       // times the bytes of an element whose neighbors lie elsewhere
	againCost   = 4       // a fraction: what a loop reads of a short row that one before has read
	fullMachine = 1 << 16 // threads that saturate memory
	indexWeight = 2
	termWeight  = 6 // a division and a remainder by constants
)

// cost estimates what a program takes.
func (p *program) cost(operands []graph.Value, results []graph.Value) int {
	work, read := 0, map[[2]int]int{} // by operand and index: the loop that read it first
	rowClass, elementClass := p.roots(false)
	classes := p.classify(rowClass, elementClass)
	p.each(func(loop int, in *instr) {
		times := p.count()
		if loop != none {
			times *= p.n
		}
		switch in.op {
		case opLoad:
			bytes := 4
			if in.arg >= 0 {
				bytes = storage[operands[in.arg].Type().DType].bytes
			}
			switch classes.x[in.a] {
			case uniform:
				times /= quad
			case scattered:
				bytes *= stridedCost
			}
			if first, ok := read[[2]int{in.arg, in.a}]; !ok {
				read[[2]int{in.arg, in.a}] = loop
			} else if first != loop && p.n <= longRow {
				bytes = (bytes + 3) / againCost // a cache has it
			}
			work += times * bytes
		case opStore:
			work += times * storage[results[in.arg].Type().DType].bytes
		case opIndex:
			work += times * (indexWeight + termWeight*len(in.m.terms)) / opsPerByte
		default:
			work += times * byCode[in.op].weight / opsPerByte
		}
	})
	if idle := fullMachine / max(1, p.threads()); idle > 1 {
		work *= idle
	}
	g := p.geometry()
	if g.parts > 1 {
		work += launchCost
	}
	return work + launchCost
}

// Reads is how many elements of operand i the chain looks at: of one that it slices,
// not all.
func (c *Chain) Reads(i int) int {
	all, seen := c.in[i].Shape.Numel(), map[int]bool{}
	looked := 0
	c.p.each(func(loop int, in *instr) {
		if in.op != opLoad || in.arg != i || seen[in.a] {
			return
		}
		seen[in.a] = true
		times := c.p.count()
		if loop != none {
			times *= c.p.n
		}
		looked += times
	})
	return min(all, looked)
}
