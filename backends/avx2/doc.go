// Package avx2 is the backend for amd64 processors with AVX2, FMA and F16C: the
// reference kernels of package scalar, overridden by vector kernels where one
// is worth it. Where the processor has AVX-512 they use that, with the same
// bits. Importing it registers the backend "avx2"; opening it on another
// processor is an error that says so.
package avx2
