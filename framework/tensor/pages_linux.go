package tensor

import (
	"syscall"
	"unsafe"
)

const (
	hugePage = 2 << 20
	// leastAdvised is the size from which memory is worth the system call.
	leastAdvised = 64 << 10
)

// adviseHuge asks the system to back b by huge pages where it has them: a model streams through its weights, and on
// small pages the processor, all the more so in a virtual machine, spends its time on translating addresses. The range
// is widened to whole huge pages, since what the heap has around b is of the same kind. It is a hint: a system that
// knows no huge pages refuses it, and nothing is lost.
func adviseHuge(b []byte) {
	if len(b) < leastAdvised {
		return
	}
	first := uintptr(unsafe.Pointer(unsafe.SliceData(b))) &^ (hugePage - 1)
	end := (uintptr(unsafe.Pointer(unsafe.SliceData(b))) + uintptr(len(b)) + hugePage - 1) &^ (hugePage - 1)
	_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, first, end-first, syscall.MADV_HUGEPAGE)
}
