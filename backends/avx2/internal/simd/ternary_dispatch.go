package simd

// The switches below call the assembly by name: through a function value, its arguments would escape to the heap.

func tokensKernel(y []float32, ldY int, w []byte, q []int8, ldQ int, o []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	switch {
	case len(act) == 1 && per == 1:
		tokens1(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	case len(act) == 2 && per == 1:
		tokens2(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	case len(act) == 3 && per == 1:
		tokens3(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	case len(act) == 4 && per == 1:
		tokens4(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	case len(act) == 1:
		tokens1Long(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	case len(act) == 2:
		tokens2Long(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	case len(act) == 3:
		tokens3Long(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	case len(act) == 4:
		tokens4Long(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	}
}

func panelKernel(tokens int, c []float32, panel []byte, q []int8, ldQ int, o []int32, ldO int, w []byte, blocks, steps int) {
	switch tokens {
	case 1:
		panel1(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	case 2:
		panel2(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	case 3:
		panel3(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	case 4:
		panel4(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	case 5:
		panel5(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	case 6:
		panel6(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	}
}

func panelKernelLong(tokens int, c []int32, panel []byte, q []int8, ldQ int, o []int32, ldO int, w []byte, blocks, steps int) {
	switch tokens {
	case 1:
		panel1Long(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	case 2:
		panel2Long(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	case 3:
		panel3Long(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	case 4:
		panel4Long(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	case 5:
		panel5Long(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	case 6:
		panel6Long(c, panel, q, ldQ, o, ldO, w, blocks, steps)
	}
}
