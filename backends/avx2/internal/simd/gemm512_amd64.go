//go:build amd64 && !purego

package simd

// gemm512 are the micro-kernels by panels and rows.
var gemm512 = [...][]gemm512Kernel{
	1: {
		1: gemm512r1p1, 2: gemm512r2p1, 3: gemm512r3p1, 4: gemm512r4p1, 5: gemm512r5p1, 6: gemm512r6p1,
		7: gemm512r7p1, 8: gemm512r8p1, 9: gemm512r9p1, 10: gemm512r10p1, 11: gemm512r11p1, 12: gemm512r12p1,
	},
	2: {
		1: gemm512r1p2, 2: gemm512r2p2, 3: gemm512r3p2, 4: gemm512r4p2, 5: gemm512r5p2, 6: gemm512r6p2,
		7: gemm512r7p2, 8: gemm512r8p2, 9: gemm512r9p2, 10: gemm512r10p2, 11: gemm512r11p2, 12: gemm512r12p2,
	},
	4: {
		1: gemm512r1p4, 2: gemm512r2p4, 3: gemm512r3p4,
	},
}
