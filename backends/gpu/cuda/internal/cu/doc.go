// Package cu holds what all CUDA C++ sources of the backend share: the header
// tern.cuh, with storage types, conversions, reductions and tensor core
// instructions, each with another form for the fake device.
package cu
