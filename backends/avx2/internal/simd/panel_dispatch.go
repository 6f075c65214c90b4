//go:build amd64 && !purego

package simd

import "unsafe"

// havePanels says that the panel kernels are assembly.
const havePanels = true

func addressOf(b []byte) int { return int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// panelKernel is panelRef, by tiles of so many tokens.
//
// The switch calls the assembly by name: through a function value, its arguments would escape to the heap.
func panelKernel(y []float32, ldY int, panel, scales []byte, ldS int, q []int8, ldQ int, o []int32, ldO int, act []float32, groups, per, steps, ends, tile int) {
	if per > 1 {
		panelLong(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends, tile)
		return
	}
	switch tile {
	case 1:
		panel1(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	case 2:
		panel2(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	case 3:
		panel3(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	case 4:
		panel4(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	case 5:
		panel5(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	case 6:
		panel6(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	}
}

func panelLong(y []float32, ldY int, panel, scales []byte, ldS int, q []int8, ldQ int, o []int32, ldO int, act []float32, groups, per, steps, ends, tile int) {
	switch tile {
	case 1:
		panel1Long(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	case 2:
		panel2Long(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	case 3:
		panel3Long(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	case 4:
		panel4Long(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	case 5:
		panel5Long(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	case 6:
		panel6Long(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
	}
}
