// Package fake builds, for tests, a libcuda, an NVRTC and a cuBLASLt that run on
// the processor, so that code for CUDA devices is tested on machines without
// one.
//
// Kernels are compiled from their CUDA C++ by the system's C++ compiler and run
// with all threads of a block as fibers: barriers and warp intrinsics wait as on
// a device. What is wrong with a kernel is found and said with kernel, block and
// thread: addresses outside of an allocation, or not aligned for their type;
// indices beyond arrays of known size; barriers that not all threads reach;
// masks of warp intrinsics that lie. Memory that nobody wrote reads as NaN, and
// blocks and threads can be run in other orders, which shows most barriers that
// are missing.
//
// What it cannot tell: speed, races between blocks, whether the real compiler
// takes the source (it is asked where it is found; see package kernel), and the
// last bit of the fast functions. PTX in the source, tensor core intrinsics and
// cooperative groups are not there.
package fake
