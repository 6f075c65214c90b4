//go:build !linux

package tensor

// adviseHuge does nothing: only Linux takes the hint.
func adviseHuge([]byte) {}
