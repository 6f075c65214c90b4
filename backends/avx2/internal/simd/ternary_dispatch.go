package simd

// The switch calls the assembly by name: through a function value, its arguments would escape to the heap.

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
