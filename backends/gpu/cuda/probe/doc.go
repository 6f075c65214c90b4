// Package probe says what of CUDA a machine has: which libraries and devices are
// found, and for what is missing, what to do.
package probe
