package fuse

// class says how the four lanes of a thread, which are neighboring elements or
// rows, lie to each other.
type class int

const (
	scattered  class = iota // anyhow
	contiguous              // beside each other, from a multiple of four on
	uniform                 // the same
)

// classes are those of a program's registers. A value is uniform or not.
type classes struct {
	x []class
	v []class
}

// roots are the classes of the indices of a row and of an element. In the kernel
// that adds up parts (final) lanes are of no use: a warp has one row.
func (p *program) roots(final bool) (row, element class) {
	g := p.geometry()
	switch {
	case final:
		return uniform, scattered
	case g.group > 0:
		row = uniform
		if p.n%quad == 0 {
			element = contiguous
		}
	default:
		if p.count()%quad == 0 {
			row = contiguous
		}
		if p.inner%quad == 0 {
			element = contiguous
		}
	}
	return row, element
}

// classify follows the classes of indices to all registers.
func (p *program) classify(row, element class) classes {
	c := classes{make([]class, p.indices), make([]class, p.values)}
	c.x[rowIndex], c.x[elementIndex] = row, element
	for _, r := range p.reductions {
		c.v[r.dst] = scattered
		if row == uniform {
			c.v[r.dst] = uniform
		}
	}
	p.each(func(_ int, in *instr) {
		switch in.op {
		case opIndex:
			c.x[in.dst] = in.m.class(c.x[in.a])
		case opInside:
			c.v[in.dst] = in.in.class(c.x[in.a])
		case opConst:
			c.v[in.dst] = uniform
		case opIota:
			c.v[in.dst] = lanes(c.x[in.a])
		case opLoad:
			c.v[in.dst] = lanes(c.x[in.a])
			if in.b != none && c.v[in.b] != uniform {
				c.v[in.dst] = scattered
			}
		case opStore, opReduce:
		default:
			c.v[in.dst] = uniform
			for _, r := range []int{in.a, in.b, in.c} {
				if r != none && c.v[r] != uniform {
					c.v[in.dst] = scattered
				}
			}
		}
	})
	return c
}

// lanes is the class of a value that depends on an index.
func lanes(x class) class {
	if x == uniform {
		return uniform
	}
	return scattered
}

// class is that of what the map gives for an index of class x.
func (m indexMap) class(x class) class {
	if x == uniform || len(m.terms) == 0 {
		return uniform
	}
	if x == scattered {
		return scattered
	}
	even, steps := m.off%quad == 0, 0
	for _, t := range m.terms {
		switch {
		case t.div%quad == 0: // the same for all lanes
			even = even && t.mul%quad == 0
		case t.div == 1 && t.mul == 1 && t.mod%quad == 0:
			steps++
		default:
			return scattered
		}
	}
	switch {
	case steps == 0:
		return uniform
	case steps == 1 && even:
		return contiguous
	}
	return scattered
}

// class is that of the condition for an index of class x.
func (b bounds) class(x class) class {
	if x == uniform || x == contiguous && (b.div%quad == 0 || b.div == 1 && b.mod%quad == 0 && b.lo%quad == 0 && b.hi%quad == 0) {
		return uniform
	}
	return scattered
}

// vector reports whether a load or a store moves four elements at once.
func (c classes) vector(l layout, in instr) bool {
	words := l.code == 0 || l.code == 1 // f32 and bf16
	return words && c.x[in.a] == contiguous && (in.op == opStore || in.b == none || c.v[in.b] == uniform)
}
