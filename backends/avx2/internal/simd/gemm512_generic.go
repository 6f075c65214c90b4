//go:build !amd64 || purego

package simd

// gemm512 are the micro-kernels by panels and rows: all of them the reference loop.
var gemm512 = func() (kernels [5][tileRows512 + 1]gemm512Kernel) {
	for panels := range kernels {
		for rows := range kernels[panels] {
			kernels[panels][rows] = gemm512Ref(rows)
		}
	}
	return kernels
}()

// FMAPeak512 has no meaning without the assembly, as FMAPeak: it does iters rounds of 768 operations.
func FMAPeak512(iters int) { FMAPeak(2 * iters) }
