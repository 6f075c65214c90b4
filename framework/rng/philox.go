package rng

import (
	"hash/fnv"
	"math"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
)

// Key selects a stream.
type Key struct{ K0, K1 uint32 }

// NewKey derives the stream of a name under a seed: distinct names give
// unrelated streams.
func NewKey(seed uint64, name string) Key {
	h := fnv.New64a()
	h.Write([]byte(name))
	k := mix(seed ^ mix(h.Sum64()))
	return Key{uint32(k), uint32(k >> 32)}
}

// mix is the finalizer of SplitMix64, a bijection that spreads nearby seeds.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Block returns the four 32-bit words of counter c under key k.
func Block(k Key, c [4]uint32) [4]uint32 {
	const m0, m1 = 0xd2511f53, 0xcd9e8d57
	const w0, w1 = 0x9e3779b9, 0xbb67ae85
	for range 10 {
		h0, l0 := bits.Mul32(m0, c[0])
		h1, l1 := bits.Mul32(m1, c[2])
		c = [4]uint32{h1 ^ c[1] ^ k.K0, l1, h0 ^ c[3] ^ k.K1, l0}
		k.K0 += w0
		k.K1 += w1
	}
	return c
}

// Uint32 returns word i of the stream.
func (k Key) Uint32(i uint64) uint32 {
	b := Block(k, [4]uint32{uint32(i >> 2), uint32(i >> 34)})
	return b[i&3]
}

// Float64 returns element i of the stream, uniform in [0,1) on a grid of 2^-53.
func (k Key) Float64(i uint64) float64 {
	b := Block(k, [4]uint32{uint32(i), uint32(i >> 32), 1})
	return float64((uint64(b[0])<<32|uint64(b[1]))>>11) * 0x1p-53
}

// Normal returns element i of the stream, standard normal (Box-Muller on the
// uniform pair of counter i/2).
func (k Key) Normal(i uint64) float64 {
	even, odd := k.pair(i >> 1)
	if i&1 == 0 {
		return even
	}
	return odd
}

// pair returns elements 2c and 2c+1 of Normal.
func (k Key) pair(c uint64) (even, odd float64) {
	b := Block(k, [4]uint32{uint32(c), uint32(c >> 32), 2})
	// u in (0,1], so that the logarithm is finite.
	u := (float64((uint64(b[0])<<32|uint64(b[1]))>>11) + 1) * 0x1p-53
	v := float64((uint64(b[2])<<32|uint64(b[3]))>>11) * 0x1p-53
	r := math.Sqrt(-2 * math.Log(u))
	sin, cos := math.Sincos(2 * math.Pi * v)
	return r * cos, r * sin
}

// FillNormal fills dst with mean + std times elements 0, 1, ... of the stream,
// on all processors: an element depends on its index alone.
func (k Key) FillNormal(dst []float32, mean, std float64) {
	const piece = 1 << 16
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(runtime.GOMAXPROCS(0), (len(dst)+piece-1)/piece) {
		wg.Go(func() {
			for {
				lo := int(next.Add(piece)) - piece
				if lo >= len(dst) {
					return
				}
				k.fill(dst[lo:min(lo+piece, len(dst))], uint64(lo), mean, std)
			}
		})
	}
	wg.Wait()
}

// fill sets dst to elements from on, an even number.
func (k Key) fill(dst []float32, from uint64, mean, std float64) {
	for i := 0; i < len(dst); i += 2 {
		even, odd := k.pair((from + uint64(i)) / 2)
		dst[i] = float32(mean + std*even)
		if i+1 < len(dst) {
			dst[i+1] = float32(mean + std*odd)
		}
	}
}
