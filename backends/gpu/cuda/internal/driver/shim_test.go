package driver

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
)

// launch runs a kernel over n threads of one block with words in and out.
func (r *rig) words(t *testing.T, code string, in []uint32, threads, out int) []uint32 {
	t.Helper()
	f := r.kernel(t, code)
	p, q := r.alloc(t, 4*len(in)), r.alloc(t, 4*out)
	must(t, r.c.Upload(p, bytesOf(in)))
	must(t, f.Launch(Dim{}, Dim{X: threads}, p, q).Run(r.s))
	must(t, r.s.Synchronize())
	got := make([]uint32, out)
	must(t, r.c.Download(bytesOf(got), q))
	return got
}

// The expected lanes are written out from the CUDA programming guide, section
// "Warp Shuffle Functions".
func TestWarpIntrinsicsAreThoseOfTheManual(t *testing.T) {
	r := newRig(t, "order=shuffle")
	in := make([]uint32, 64)
	for i := range in {
		in[i] = uint32(i*i + 5)
	}
	got := r.words(t, `extern "C" __global__ void k(const unsigned *in, unsigned *out) {
		unsigned i = threadIdx.x, v = in[i], *o = out + 16 * i, all = 0xffffffffu;
		o[0] = __shfl_sync(all, v, 5);
		o[1] = __shfl_sync(all, v, 3, 8);
		o[2] = __shfl_up_sync(all, v, 2);
		o[3] = __shfl_up_sync(all, v, 3, 16);
		o[4] = __shfl_down_sync(all, v, 1);
		o[5] = __shfl_down_sync(all, v, 4, 8);
		o[6] = __shfl_xor_sync(all, v, 9);
		o[7] = __ballot_sync(all, v & 4);
		o[8] = __any_sync(all, v == 6) + 2 * __all_sync(all, v > 4);
		o[9] = __reduce_add_sync(all, v);
		o[10] = __reduce_max_sync(all, (int)(i % 32) - 40);
		o[11] = __syncthreads_count(v & 1);
		__syncwarp();
		o[12] = i % 2 ? __reduce_xor_sync(0xaaaaaaaau, v) : __reduce_min_sync(0x55555555u, v);
		unsigned long long wide = __shfl_xor_sync(all, (unsigned long long)v << 32 | i, 1);
		o[13] = wide >> 32, o[14] = (unsigned)wide;
		o[15] = (unsigned)__syncthreads_or(i == 3) + 2 * __syncthreads_and(i < 64);
	}`, in, 64, 16*64)
	for i := range in {
		warp, lane := in[i/32*32:i/32*32+32], i%32
		want := make([]uint32, 16)
		want[0] = warp[5]
		want[1] = warp[lane/8*8+3]
		want[2] = warp[max(lane-2, lane%2*1)]
		if lane < 2 {
			want[2] = warp[lane]
		}
		want[3] = warp[lane]
		if lane%16 >= 3 {
			want[3] = warp[lane-3]
		}
		want[4] = warp[min(lane+1, 31)]
		want[5] = warp[lane]
		if lane%8 < 4 {
			want[5] = warp[lane+4]
		}
		want[6] = warp[lane^9]
		odd, even := uint32(0), ^uint32(0)
		for j, v := range warp {
			want[7] |= v >> 2 & 1 << j
			if v == 6 {
				want[8] |= 1
			}
			want[9] += v
			if j%2 == 1 {
				odd ^= v
			} else {
				even = min(even, v)
			}
		}
		want[8] |= 2
		want[10] = uint32(0xffffffff - 8) // 31 - 40
		want[11] = 32
		want[12] = even
		if i%2 == 1 {
			want[12] = odd
		}
		want[13], want[14], want[15] = warp[lane^1], uint32(i^1), 3
		if o := got[16*i : 16*i+16]; !slices.Equal(o, want) {
			t.Fatalf("thread %d: %v, want %v", i, o, want)
		}
	}
}

func TestIntegerFunctionsAreThoseOfTheManual(t *testing.T) {
	r := newRig(t)
	rng := rand.New(rand.NewPCG(3, 4))
	in := make([]uint32, 96)
	for i := range in {
		in[i] = rng.Uint32()
	}
	got := r.words(t, `extern "C" __global__ void k(const unsigned *in, unsigned *out) {
		unsigned a = in[3 * threadIdx.x], b = in[3 * threadIdx.x + 1], c = in[3 * threadIdx.x + 2], *o = out + 8 * threadIdx.x;
		o[0] = __dp4a((int)a, (int)b, (int)c), o[1] = __dp4a(a, b, c), o[2] = __byte_perm(a, b, c & 0x7777);
		o[3] = __popc(a), o[4] = __clz(a >> (b & 31)), o[5] = __brev(a), o[6] = __umulhi(a, b), o[7] = __ffs(a);
	}`, in, 32, 8*32)
	for i := range 32 {
		a, b, c := in[3*i], in[3*i+1], in[3*i+2]
		signed, unsigned := int32(c), c
		both, perm := uint64(b)<<32|uint64(a), uint32(0)
		for j := range 4 {
			x, y := a>>(8*j), b>>(8*j)
			signed += int32(int8(x)) * int32(int8(y))
			unsigned += x & 255 * (y & 255)
			perm |= uint32(both>>(8*(c>>(4*j)&7))&255) << (8 * j)
		}
		high, _ := bits.Mul32(a, b)
		want := []uint32{
			uint32(signed), unsigned, perm, uint32(bits.OnesCount32(a)), uint32(bits.LeadingZeros32(a >> (b & 31))),
			bits.Reverse32(a), high, uint32(bits.TrailingZeros32(a) + 1),
		}
		if o := got[8*i : 8*i+8]; !slices.Equal(o, want) {
			t.Fatalf("%x %x %x: %x, want %x", a, b, c, o, want)
		}
	}
}

// value of bits of an IEEE 754 format, by the definition.
func value(bits uint32, exponent, fraction int) float64 {
	e, f := int(bits>>fraction)&(1<<exponent-1), float64(bits&(1<<fraction-1))
	bias := 1<<(exponent-1) - 1
	v := math.Ldexp(f, 1-bias-fraction)
	switch {
	case e == 1<<exponent-1 && f == 0:
		v = math.Inf(1)
	case e == 1<<exponent-1:
		v = math.NaN()
	case e > 0:
		v = math.Ldexp(f+float64(int(1)<<fraction), e-bias-fraction)
	}
	if bits>>(exponent+fraction)&1 == 1 {
		v = -v
	}
	return v
}

func TestNarrowFormatsRoundToNearestEven(t *testing.T) {
	r := newFake(t) // NVRTC alone has no cuda_fp16.h
	rng := rand.New(rand.NewPCG(5, 6))
	var in []uint32
	for range 4096 {
		in = append(in, rng.Uint32())
	}
	for i := range 4096 { // the middle between two bf16, and what is near the limits of f16
		in = append(in, rng.Uint32()&^0xffff|0x8000, math.Float32bits(float32(math.Ldexp(rng.Float64()+1, i%50-30))))
	}
	got := r.words(t, `#include <cuda_fp16.h>
	#include <cuda_bf16.h>
	extern "C" __global__ void k(const float *in, unsigned *out) {
		for (int i = threadIdx.x; i < 12288; i += 64)
			out[i] = (unsigned)__half_as_ushort(__float2half_rn(in[i])) << 16 | __bfloat16_as_ushort(__float2bfloat16(in[i]));
		for (int i = threadIdx.x; i < 65536; i += 64) {
			((float *)out)[12288 + i] = __half2float(__ushort_as_half(i));
			((float *)out)[77824 + i] = __bfloat162float(__ushort_as_bfloat16(i));
		}
	}`, in, 64, 12288+2*65536)
	for i, b := range in {
		v := float64(math.Float32frombits(b))
		nearest(t, v, got[i]>>16, 5, 10)
		nearest(t, v, got[i]&0xffff, 8, 7)
	}
	for i := range uint32(65536) {
		same(t, got[12288+i], value(i, 5, 10))
		same(t, got[77824+i], value(i, 8, 7))
	}
}

func same(t *testing.T, bits uint32, want float64) {
	t.Helper()
	if got := float64(math.Float32frombits(bits)); got != want && (got == got || want == want) {
		t.Fatalf("%v, want %v", got, want)
	}
}

// nearest fails unless code is the value nearest to v, the even one of two.
func nearest(t *testing.T, v float64, code uint32, exponent, fraction int) {
	t.Helper()
	got := value(code, exponent, fraction)
	if v != v {
		if got == got {
			t.Fatalf("NaN became %v", got)
		}
		return
	}
	// Beyond the largest value the next would be 2^(bias+1).
	largest := math.Ldexp(1, 1<<(exponent-1))
	finite := func(x float64) float64 { return math.Max(-largest, math.Min(largest, x)) }
	sign := code &^ (1<<(exponent+fraction) - 1)
	magnitude := code - sign
	if math.Signbit(v) != (sign != 0) {
		t.Fatalf("%v became %v", v, got)
	}
	d := math.Abs(finite(v) - finite(got))
	for _, other := range []uint32{magnitude - 1, magnitude + 1} {
		o := value(sign|other, exponent, fraction)
		if other>>(exponent+fraction) != 0 || o != o {
			continue
		}
		do := math.Abs(finite(v) - finite(o))
		if do < d || (do == d && v == finite(v) && code&1 == 1) {
			t.Fatalf("%v became %v (%x), %v is nearer or even", v, got, code, o)
		}
	}
}
