//go:build !amd64 || purego

package simd

// havePanels says that the panel kernels are assembly.
const havePanels = false

func addressOf([]byte) int { return 0 }

func unpackPanel(dst, w []byte, blocks, steps int) { unpackPanelRef(dst, w, blocks, steps) }

func panelKernel(y []float32, ldY int, panel, scales []byte, ldS int, q []int8, ldQ int, o []int32, ldO int, act []float32, groups, per, steps, ends, _ int) {
	panelRef(y, ldY, panel, scales, ldS, q, ldQ, o, ldO, act, groups, per, steps, ends)
}
