// Package quanttest is the conformance suite of quantizers: what passes it is
// a correct framework.Quantizer, which trains, exports and infers with the
// same values.
package quanttest
