//go:build amd64 && !purego

package simd

// The switches call the assembly by name: through a function value, its arguments would escape to the heap.

// vnniKernel is tokenBlocksRef for up to 4 tokens, whose offsets are int32.
func vnniKernel(y []float32, ldY int, w []byte, q []int8, ldQ int, o []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	switch len(act) {
	case 1:
		vnni1(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	case 2:
		vnni2(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	case 3:
		vnni3(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	case 4:
		vnni4(y, ldY, w, q, ldQ, o, ldO, act, rowBlocks, groups, per, steps)
	}
}

// vnniPairs is tokenBlocksRef for 3 to 12 tokens, whose offsets are int32, and pairs of row blocks of ldW bytes.
func vnniPairs(y []float32, ldY int, w []byte, ldW int, q []int8, ldQ int, o []int32, ldO int, act []float32, pairs, groups, per, steps int) {
	switch len(act) {
	case 3:
		vnniPairs3(y, ldY, w, ldW, q, ldQ, o, ldO, act, pairs, groups, per, steps)
	case 4:
		vnniPairs4(y, ldY, w, ldW, q, ldQ, o, ldO, act, pairs, groups, per, steps)
	case 5:
		vnniPairs5(y, ldY, w, ldW, q, ldQ, o, ldO, act, pairs, groups, per, steps)
	case 6:
		vnniPairs6(y, ldY, w, ldW, q, ldQ, o, ldO, act, pairs, groups, per, steps)
	case 7:
		vnniPairs7(y, ldY, w, ldW, q, ldQ, o, ldO, act, pairs, groups, per, steps)
	case 8:
		vnniPairs8(y, ldY, w, ldW, q, ldQ, o, ldO, act, pairs, groups, per, steps)
	case 9:
		vnniPairs9(y, ldY, w, ldW, q, ldQ, o, ldO, act, pairs, groups, per, steps)
	case 10:
		vnniPairs10(y, ldY, w, ldW, q, ldQ, o, ldO, act, pairs, groups, per, steps)
	case 11:
		vnniPairs11(y, ldY, w, ldW, q, ldQ, o, ldO, act, pairs, groups, per, steps)
	case 12:
		vnniPairs12(y, ldY, w, ldW, q, ldQ, o, ldO, act, pairs, groups, per, steps)
	}
}
