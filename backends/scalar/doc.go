// Package scalar is the reference backend: one plain kernel for every
// primitive and for the composites worth running whole.
//
// The kernels are written once over float32 and float64. In float32 they are
// what other backends are compared with; in float64 they are what gradients
// are checked in. Sums run in float64 either way. Every loop is cut over
// results, so the bits do not depend on the number of workers.
package scalar
