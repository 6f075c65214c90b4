// Package eval is the oracle of the conformance suites: a backend that
// interprets graphs node by node in float64, with plain index arithmetic and
// every composite replaced by its expansion. It shares no code with the
// kernels, the lowering and the placement that the suites test, and it is slow.
package eval
