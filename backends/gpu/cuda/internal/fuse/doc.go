// Package fuse runs the primitives of a lowered graph, as many as possible in one
// kernel: elementwise work, movements of elements, and reductions of an axis.
//
// Fuse replaces chains of primitives by nodes of their own, before values get their
// places. A chain is lowered to a program (program.go) of registers, indices that
// are mapped, loads, reductions and stores. Reshapes, transposes, slices, pads,
// concats and broadcasts are no work of their own but maps of indices. A program
// runs in one of two ways, which give the same bits:
//
//   - CUDA C++ is generated for it (generate.go). Programs that differ in sizes alone
//     have the same text, and share a kernel.
//   - tape.cu interprets it. That is for machines without NVRTC, and for tests, where
//     the compiler takes longer than the kernel.
//
// # Order
//
// Sums are in f32. A thread adds up 32 elements of a lane at a time and then those
// sums, in order; lanes and threads are added as trees, parts of rows in order of
// their numbers (geometry in program.go, Reduction in fuse.cuh). All of that follows
// from the shape of what is reduced, and nothing from what is fused with it, so the
// bits are the same wherever a value is computed. NaN is kept by all operations,
// the maximum too.
//
// # Speed
//
// Chains are bound by memory: their floor is the bytes of what they read and write,
// each once, over 4.8 TB/s on an H200. The sum of two cotangents [16384,2,768] in
// bf16 moves 151 MB, 31 microseconds; in f32 twice that. A weight update [2048,768]
// of four f32 matrices, 25 MB, takes 5. Each thread has an access of 16 bytes (8 in
// bf16) for each operand. Elementwise chains take 32 registers or less, so that 2048
// threads of a multiprocessor are at work: 32 KB for each operand under way, where
// 4.8 TB/s and 600 ns of latency ask for 22 KB. Loops of reductions take more
// registers and have four accesses under way. So large chains should reach nine
// tenths of the floor. Rows that are read again by a later loop come from a cache.
// Chains of less than a megabyte take what a launch takes, some 2 microseconds.
//
// A transpose reads its operand with gaps between lanes, at a fraction of that.
package fuse
