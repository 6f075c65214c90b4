package cu_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cu"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/framework/tensor"
)

const source = `
#include "tern.cuh"
extern "C" __global__ void cu_round(const float *x, float *brain, float *half, u16 *bits, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  brain[i] = widen(to_bf16(x[i]));
  half[i] = widen(to_f16(x[i]));
  bits[i] = to_f16(x[i]).bits;
}
// One warp: D[16,8] = A[16,K] B[K,8], the operands read as the instruction's
// fragments.
extern "C" __global__ void cu_mma_bf16(const bf16 *a, const bf16 *b, float *d) {
  int g = threadIdx.x >> 2, t = threadIdx.x & 3;
  const u32 *rows = (const u32 *)a, *columns = (const u32 *)b;  // b is [8,16]: its columns
  u32 fa[4] = {rows[g * 8 + t], rows[(g + 8) * 8 + t], rows[g * 8 + t + 4], rows[(g + 8) * 8 + t + 4]};
  u32 fb[2] = {columns[g * 8 + t], columns[g * 8 + t + 4]};
  float out[4] = {0, 0, 0, 0};
  mma_bf16(out, fa, fb);
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = out[i];
}
extern "C" __global__ void cu_mma_s8(const s8 *a, const s8 *b, int *d) {
  int g = threadIdx.x >> 2, t = threadIdx.x & 3;
  const u32 *rows = (const u32 *)a, *columns = (const u32 *)b;  // b is [8,32]
  u32 fa[4] = {rows[g * 8 + t], rows[(g + 8) * 8 + t], rows[g * 8 + t + 4], rows[(g + 8) * 8 + t + 4]};
  u32 fb[2] = {columns[g * 8 + t], columns[g * 8 + t + 4]};
  int out[4] = {0, 0, 0, 0};
  mma_s8(out, fa, fb);
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = out[i];
}
// The fragments of cu_mma_bf16 by ldmatrix, A's rows and B's (k by n) transposed.
extern "C" __global__ void cu_ldmatrix(const bf16 *a, const bf16 *b, float *d) {
  __shared__ __align__(16) bf16 sa[16][24], sb[16][8];
  for (int i = threadIdx.x; i < 256; i += 32) sa[i / 16][i % 16] = a[i];
  for (int i = threadIdx.x; i < 128; i += 32) sb[i / 8][i % 8] = b[i];
  __syncthreads();
  int l = threadIdx.x;
  u32 fa[4], fb[4];
  ldmatrix4(fa, &sa[l % 8 + l / 8 % 2 * 8][l / 16 * 8]);
  ldmatrix4t(fb, &sb[l % 16][0]);  // two matrices are wanted: both halves of the warp name the same
  float out[4] = {0, 0, 0, 0};
  mma_bf16(out, fa, fb);
  int g = l >> 2, t = l & 3;
  for (int i = 0; i < 4; i++) d[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = out[i];
}
extern "C" __global__ void cu_blocks(const float *x, float *y) {
  __shared__ float parts[33];
  float v = x[threadIdx.x];
  y[threadIdx.x * 2] = block_sum(v, parts);
  y[threadIdx.x * 2 + 1] = block_max(v, parts);
}
`

// lab runs kernels of source.
type lab struct {
	t *testing.T
	d *engine.Device
	s *driver.Stream
}

func newLab(t *testing.T) *lab {
	d := cudatest.Open(t, engine.F32)
	s, err := d.Context().NewStream()
	if err != nil {
		t.Fatal(err)
	}
	return &lab{t, d, s}
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func raw[T any](v []T) []byte {
	var x T
	return unsafe.Slice((*byte)(unsafe.Pointer(&v[0])), len(v)*int(unsafe.Sizeof(x)))
}

func upload[T any](l *lab, v []T) driver.Pointer {
	l.t.Helper()
	p, err := l.d.Context().Alloc(len(raw(v)))
	l.must(err)
	l.must(l.d.Context().Upload(p, raw(v)))
	return p
}

func download[T any](l *lab, p driver.Pointer, n int) []T {
	l.t.Helper()
	v := make([]T, n)
	l.must(l.d.Context().Download(raw(v), p))
	return v
}

func (l *lab) run(name string, grid, block int, args ...any) {
	l.t.Helper()
	f, err := l.d.Function(cu.Source("cu_test.cu", source), name)
	l.must(err)
	l.must(f.Launch(driver.Dim{X: grid}, driver.Dim{X: block}, args...).Run(l.s))
	l.must(l.s.Synchronize())
}

func TestRoundingToNarrowTypesIsThatOfTensor(t *testing.T) {
	l := newLab(t)
	x := []float32{0, float32(math.Copysign(0, -1)), 1, -1.5, 65504, 65519, 65520, 1e6, -1e9, 1e-8, 6e-8, 5.96e-8, -3.1e-5, 6.1035e-5, 1.0009765625, 1.00048828125, 3.4e38, float32(math.Inf(1)), float32(math.Inf(-1))}
	r := rand.New(rand.NewPCG(1, 2))
	for len(x) < 4000 {
		x = append(x, math.Float32frombits(r.Uint32()), float32(r.NormFloat64()*math.Exp(r.NormFloat64()*6)))
	}
	n := len(x)
	brain, half, bits := upload(l, make([]float32, n)), upload(l, make([]float32, n)), upload(l, make([]uint16, n))
	l.run("cu_round", (n+127)/128, 128, upload(l, x), brain, half, bits, int32(n))
	gotBrain, gotHalf, gotBits := download[float32](l, brain, n), download[float32](l, half, n), download[uint16](l, bits, n)
	for i, v := range x {
		wantBrain, wantBits := tensor.BF16ToF32(tensor.F32ToBF16(v)), tensor.F32ToF16(v)
		if v != v {
			if gotBrain[i] == gotBrain[i] || gotHalf[i] == gotHalf[i] {
				t.Fatalf("NaN became %v and %v", gotBrain[i], gotHalf[i])
			}
			continue
		}
		if gotBrain[i] != wantBrain || gotBits[i] != wantBits || gotHalf[i] != tensor.F16ToF32(wantBits) {
			t.Fatalf("%v: bf16 %v, want %v; f16 %v (%#x), want %#x", v, gotBrain[i], wantBrain, gotHalf[i], gotBits[i], wantBits)
		}
	}
}

func TestTensorCoreFragmentsMakeTheProduct(t *testing.T) {
	l := newLab(t)
	r := rand.New(rand.NewPCG(3, 4))
	t.Run("bf16", func(t *testing.T) {
		a, b, cols := make([]uint16, 16*16), make([]uint16, 16*8), make([]uint16, 8*16)
		for i := range a {
			a[i] = tensor.F32ToBF16(float32(r.IntN(17) - 8))
		}
		for i := range b {
			b[i] = tensor.F32ToBF16(float32(r.IntN(17) - 8))
			cols[i%8*16+i/8] = b[i]
		}
		want := make([]float32, 16*8)
		for i := range want {
			for k := range 16 {
				want[i] += tensor.BF16ToF32(a[i/8*16+k]) * tensor.BF16ToF32(b[k*8+i%8])
			}
		}
		for _, kernel := range []struct {
			name string
			b    []uint16
		}{{"cu_mma_bf16", cols}, {"cu_ldmatrix", b}} {
			d := upload(l, make([]float32, 16*8))
			l.run(kernel.name, 1, 32, upload(l, a), upload(l, kernel.b), d)
			for i, v := range download[float32](l, d, 16*8) {
				if v != want[i] {
					t.Errorf("%s: element %d,%d is %v, want %v", kernel.name, i/8, i%8, v, want[i])
				}
			}
		}
	})
	t.Run("int8", func(t *testing.T) {
		a, b := make([]int8, 16*32), make([]int8, 8*32)
		for i := range a {
			a[i] = int8(r.IntN(256) - 128)
		}
		for i := range b {
			b[i] = int8(r.IntN(256) - 128)
		}
		d := upload(l, make([]int32, 16*8))
		l.run("cu_mma_s8", 1, 32, upload(l, a), upload(l, b), d)
		for i, v := range download[int32](l, d, 16*8) {
			want := int32(0)
			for k := range 32 {
				want += int32(a[i/8*32+k]) * int32(b[i%8*32+k])
			}
			if v != want {
				t.Errorf("element %d,%d is %v, want %v", i/8, i%8, v, want)
			}
		}
	})
}

func TestReductionsOfABlockReachEveryThread(t *testing.T) {
	l := newLab(t)
	for _, threads := range []int{32, 96, 1024} {
		x := make([]float32, threads)
		sum, most := float32(0), float32(-1000)
		for i := range x {
			x[i] = float32((i*37)%101 - 50)
			sum, most = sum+x[i], max(most, x[i])
		}
		y := upload(l, make([]float32, 2*threads))
		l.run("cu_blocks", 1, threads, upload(l, x), y)
		for i, v := range download[float32](l, y, 2*threads) {
			if want := []float32{sum, most}[i%2]; v != want {
				t.Fatalf("%d threads, thread %d: %v, want %v", threads, i/2, v, want)
			}
		}
	}
}
