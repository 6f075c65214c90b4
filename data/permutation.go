package data

import "math/bits"

// permutation is a pseudo-random order of 0 to n-1 that needs no memory: a
// Feistel network over the next even power of two, walked until it lands
// below n (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002).
type permutation struct {
	n    uint64
	half uint // bits of a half
	keys [feistelRounds]uint64
}

const feistelRounds = 6

// newPermutation returns the order of epoch under seed. n is at least 1.
func newPermutation(n, seed, epoch uint64) permutation {
	// Tiny domains have few Feistel networks: 8 bits at least.
	p := permutation{n: n, half: max(4, uint(bits.Len64(n-1)+1)/2)}
	k := mix(seed + 0x9e3779b97f4a7c15)
	k = mix(k ^ (epoch + 1))
	for i := range p.keys {
		k += 0x9e3779b97f4a7c15
		p.keys[i] = mix(k)
	}
	return p
}

// at returns the i-th number of the order, i < n.
func (p *permutation) at(i uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	for {
		l, r := i>>p.half, i&mask
		for _, k := range p.keys {
			l, r = r, (l^mix(r^k))&mask
		}
		if i = l<<p.half | r; i < p.n {
			return i
		}
	}
}

// mix is the finalizer of splitmix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
