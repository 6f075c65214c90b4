// Package fragment verifies graph fragments that a stranger sent: first that
// they are graphs at all, within limits and of ops that only compute, then that
// they are what was asked for.
package fragment
