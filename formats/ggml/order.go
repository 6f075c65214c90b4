package ggml

import (
	"encoding/binary"
	"math/bits"
)

// The orders of codes in blocks, and those of package tensor. Eight bytes at a
// time are a little-endian uint64 whose byte i is lane i.

var le = binary.LittleEndian

// lanes2 has the low two bits of each of eight lanes.
const lanes2 = 0x0303030303030303

// join packs the 2-bit codes of eight lanes, which have nothing else, in the
// order of tensor.U2.
func join(x uint64) uint16 {
	x = (x | x>>6) & 0x000f000f000f000f
	// Four fields of four bits, 16 apart, meet in the uppermost 16 bits; none of
	// the other products reaches them.
	return uint16(x * (1<<48 | 1<<36 | 1<<24 | 1<<12) >> 48)
}

// spread is the inverse of join.
func spread(c uint16) uint64 {
	x := uint64(c)
	x = (x | x<<24) & 0x000000ff000000ff
	x = (x | x<<12) & 0x000f000f000f000f
	return (x | x<<6) & lanes2
}

// packQ2 writes the codes of a block of Q2_0, which has the order of tensor.U2.
// The levels are -1, 0, 1 and 2 (dequantize_row_q2_0).
func packQ2(block, codes []byte) { *(*[16]byte)(block[2:]) = [16]byte(codes) }

func unpackQ2(codes, block []byte) { *(*[16]byte)(codes) = [16]byte(block[2:]) }

// packTQ2 writes the codes of a block of TQ2_0: weight 128h + 32n + m lies in
// bits 2n of byte 32h + m; code 3 is not used (dequantize_row_tq2_0).
func packTQ2(block, codes []byte) {
	for h := 0; h < 64; h += 32 {
		c, b := (*[32]byte)(codes[h:]), (*[32]byte)(block[h:])
		w, x, y, z := le.Uint64(c[:]), le.Uint64(c[8:]), le.Uint64(c[16:]), le.Uint64(c[24:])
		for m := 0; m < 32; m += 8 {
			le.PutUint64(b[m:], spread(uint16(w))|spread(uint16(x))<<2|spread(uint16(y))<<4|spread(uint16(z))<<6)
			w, x, y, z = w>>16, x>>16, y>>16, z>>16
		}
	}
}

func unpackTQ2(codes, block []byte) {
	for h := 0; h < 64; h += 32 {
		c, b := (*[32]byte)(codes[h:]), (*[32]byte)(block[h:])
		w, x, y, z := le.Uint64(b[:]), le.Uint64(b[8:]), le.Uint64(b[16:]), le.Uint64(b[24:])
		for n := 0; n < 32; n += 8 {
			le.PutUint64(c[n:], uint64(join(w&lanes2))|uint64(join(x&lanes2))<<16|
				uint64(join(y&lanes2))<<32|uint64(join(z&lanes2))<<48)
			w, x, y, z = w>>2, x>>2, y>>2, z>>2
		}
	}
}

// packTQ1 writes the codes of a block of TQ1_0 (dequantize_row_tq1_0): a byte
// holds five codes c0 to c4 as ceil(256 (81c0 + 27c1 + 9c2 + 3c3 + c4) / 243), so
// that times three the part above 256 is the next. Of the weights, 32n + m are
// in byte m < 32, 160 + 16n + m in byte 32 + m, and 240 + 4n + m, which are four,
// in byte 48 + m.
func packTQ1(block, codes []byte) {
	for m := 0; m < 32; m += 8 {
		putTrits(block[m:], codes[m/4:], 8)
	}
	for m := 0; m < 16; m += 8 {
		putTrits(block[32+m:], codes[40+m/4:], 4)
	}
	q := uint64(0)
	for _, c := range codes[60:64] {
		q = 3*q + spread(uint16(c))
	}
	q *= 3
	for i := range 4 {
		block[48+i] = fractions[byte(q>>(8*i))]
	}
}

// putTrits writes eight bytes of five codes each, the next codes step bytes on.
func putTrits(dst, codes []byte, step int) {
	q := uint64(0)
	for n := range 5 {
		q = 3*q + spread(le.Uint16(codes[n*step:]))
	}
	for i := range 8 {
		dst[i] = fractions[byte(q>>(8*i))]
	}
}

// fractions holds ceil(256 q / 243) for q < 243.
var fractions = func() (f [256]byte) {
	for q := range 243 {
		f[q] = byte((256*q + 242) / 243)
	}
	return f
}()

func unpackTQ1(codes, block []byte) {
	for m := 0; m < 32; m += 8 {
		trits(codes[m/4:], le.Uint64(block[m:]), 8)
	}
	for m := 0; m < 16; m += 8 {
		trits(codes[40+m/4:], le.Uint64(block[32+m:]), 4)
	}
	even, odd := halves(uint64(le.Uint32(block[48:])))
	for n := range 4 {
		even, odd = 3*even, 3*odd
		codes[60+n] = byte(join(wholes(even, odd)))
		even, odd = even&lanes8, odd&lanes8
	}
}

// lanes8 has every other lane.
const lanes8 = 0x00ff00ff00ff00ff

// halves gives each lane 16 bits to grow in.
func halves(x uint64) (even, odd uint64) { return x & lanes8, x >> 8 & lanes8 }

// wholes returns the parts above 256, eight lanes of 0 to 2.
func wholes(even, odd uint64) uint64 { return even>>8&(lanes2&lanes8) | odd&(lanes2&^lanes8) }

// trits writes the five codes of each of eight bytes, the next codes step bytes
// on.
func trits(codes []byte, x uint64, step int) {
	even, odd := halves(x)
	for n := range 5 {
		even, odd = 3*even, 3*odd
		le.PutUint16(codes[n*step:], join(wholes(even, odd)))
		even, odd = even&lanes8, odd&lanes8
	}
}

// splitNibbles writes the low and the high nibbles of src, eight bytes at a time,
// in the order of tensor.U4; low and high have half as many bytes.
func splitNibbles(low, high, src []byte) {
	for i := 0; i+8 <= len(src); i += 8 {
		x := le.Uint64(src[i:])
		le.PutUint32(low[i/2:], joinNibbles(x))
		le.PutUint32(high[i/2:], joinNibbles(x>>4))
	}
}

// joinNibbles packs the low nibbles of eight lanes in the order of tensor.U4.
func joinNibbles(x uint64) uint32 {
	x &= 0x0f0f0f0f0f0f0f0f
	x = (x | x>>4) & lanes8
	x = (x | x>>8) & 0x0000ffff0000ffff
	return uint32(x | x>>16)
}

// firstThree returns the place of the first code 3 in codes u2, or -1.
func firstThree(codes []byte) int {
	i := 0
	for ; i+8 <= len(codes); i += 8 {
		x := le.Uint64(codes[i:])
		if x &= x >> 1 & 0x5555555555555555; x != 0 {
			return 4*i + bits.TrailingZeros64(x)/2
		}
	}
	for ; i < len(codes); i++ {
		if x := codes[i] & (codes[i] >> 1) & 0x55; x != 0 {
			return 4*i + bits.TrailingZeros8(x)/2
		}
	}
	return -1
}

// firstMin8 returns the place of the first int8 -128 in codes, or -1.
func firstMin8(codes []byte) int {
	for i := 0; i+8 <= len(codes); i += 8 {
		x := le.Uint64(codes[i:]) ^ 0x8080808080808080
		// The lowest lane that becomes 0x80 is the first that is zero.
		if x = (x - 0x0101010101010101) &^ x & 0x8080808080808080; x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	return -1
}
