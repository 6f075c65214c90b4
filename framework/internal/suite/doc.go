// Package suite runs the cases of a conformance suite, as subtests or for a
// command, and reports what each of them found.
package suite
