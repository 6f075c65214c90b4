// Package tensor says what a tensor is: an element encoding, dimensions and
// bytes.
//
// A Tensor is a dense, row-major, little-endian array in this process's
// memory. It is what goes into a backend's store and what comes out of a run;
// it has no operations of its own.
package tensor
