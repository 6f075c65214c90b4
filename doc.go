// Package tern is a framework and a command for ternary language models, whose
// weights are -1, 0 or +1: it trains them, exports them and runs them.
//
// The packages, lowest first, are listed in deps_test.go; docs/ARCHITECTURE.md
// follows the data through them from text to text.
package tern
