// Package ggml has the tensor types of ggml: how their blocks lie in memory, and
// what weights they stand for.
package ggml
