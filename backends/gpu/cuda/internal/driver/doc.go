// Package driver calls NVIDIA's libraries without cgo: libcuda, NVRTC and
// cuBLASLt are opened when the program runs, so that it is built, and starts, on
// machines that have none of them.
//
// Names and meanings are those of the CUDA driver API, NVRTC and cuBLASLt
// manuals, of CUDA 12.0 on. Only what the backend needs is bound.
//
// # Threads
//
// CUDA keeps the current context for each thread of the system, and goroutines
// move between threads. Every call here therefore locks its goroutine to the
// thread, makes its context current and calls; that costs one more call of the
// library, which only stores a pointer. The alternative, one thread per device
// through which all calls go, was not taken: a call that waits for the device
// would make every other session wait, and each call would cost two switches
// between goroutines. Where calls must share a thread, as those of a capture
// must, Context.Do runs a function on one.
//
// All types may be used by several goroutines at a time, except that a Launch's
// arguments must not be set while it runs. Nothing is freed by the garbage
// collector: what is created must be destroyed.
package driver
