//go:build amd64 && !purego

package avx2

// assembly says that package simd holds assembly in this build.
const assembly = true
