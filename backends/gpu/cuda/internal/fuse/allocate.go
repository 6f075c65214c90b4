package fuse

import "slices"

// Registers that the interpreter has.
const (
	tapeValues     = 32
	tapeIndices    = 16
	tapeReductions = 8
)

// allocate finds homes for the registers in those of the interpreter, where those
// that are not needed at one time share one, and reports whether there are enough.
//
// A register of a row that a loop reads is needed until the loop ends, as it is
// read again. That is the only jump that there is.
func (p *program) allocate() bool {
	l := p.lives()
	var values, indices int
	p.valueHomes, values = color(l.values, nil)
	p.indexHomes, indices = color(l.indices, []int{rowIndex, elementIndex})
	return values <= tapeValues && indices <= tapeIndices && len(p.reductions) <= tapeReductions
}

// life is from the instruction that writes a register to the last that reads it.
type life struct{ from, to int }

// lives are those of a program's registers.
type lives struct {
	values, indices []life
}

// lives numbers the instructions and finds where registers are written and read.
func (p *program) lives() *lives {
	l := &lives{make([]life, p.values), make([]life, p.indices)}
	for i := range l.values {
		l.values[i].from = -1
	}
	for i := range l.indices {
		l.indices[i].from = -1
	}
	ends, pos := p.ends(), 0
	l.indices[rowIndex] = life{-2, 1 << 30} // written before all
	l.indices[elementIndex] = life{-2, 1 << 30}
	for _, r := range p.reductions {
		at := ends[r.loop] // written when the loop has ended
		l.values[r.dst] = life{at, at}
	}
	p.each(func(loop int, in *instr) {
		pos++
		in.visit(func(index, write bool, reg *int) {
			set := l.values
			if index {
				set = l.indices
			}
			s := &set[*reg]
			if write {
				*s = life{pos, pos}
				return
			}
			s.to = max(s.to, pos)
			if loop != none && s.from <= ends[loop]-len(p.loops[loop]) { // written before the loop
				s.to = max(s.to, ends[loop])
			}
		})
	})
	return l
}

// ends gives the number of the last instruction of each loop.
func (p *program) ends() []int {
	out, pos := make([]int, len(p.loops)), 0
	for k := range p.loops {
		pos += len(p.rows[k]) + len(p.loops[k])
		out[k] = pos
	}
	return out
}

// visit calls fn with each register of an instruction: those that it reads first.
func (in *instr) visit(fn func(index, write bool, reg *int)) {
	value := func(reg *int) {
		if *reg != none {
			fn(false, false, reg)
		}
	}
	switch in.op {
	case opIndex:
		fn(true, false, &in.a)
		fn(true, true, &in.dst)
		return
	case opInside, opIota, opLoad, opStore:
		fn(true, false, &in.a)
	default:
		value(&in.a)
	}
	value(&in.b)
	value(&in.c)
	if in.dst != none {
		fn(false, true, &in.dst)
	}
}

// color gives each life the lowest number that no life has at the same time. A
// register may take the number of one that is read last where it is written. Those
// of fixed have the numbers of their places.
func color(all []life, fixed []int) (numbers []int, count int) {
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return all[a].from - all[b].from })
	numbers = make([]int, len(all))
	var busy []int // by number: until when
	for range fixed {
		busy = append(busy, 1<<30)
	}
	for _, r := range order {
		if slices.Contains(fixed, r) {
			numbers[r] = r
			continue
		}
		k := 0
		for k < len(busy) && busy[k] > all[r].from {
			k++
		}
		if k == len(busy) {
			busy = append(busy, 0)
		}
		busy[k] = all[r].to
		numbers[r] = k
	}
	return numbers, len(busy)
}
