package simd

import (
	"encoding/binary"
	"math"
)

func loadDword(b []byte) uint32     { return binary.LittleEndian.Uint32(b) }
func storeDword(b []byte, v uint32) { binary.LittleEndian.PutUint32(b, v) }
func loadFloat(b []byte) float32    { return math.Float32frombits(loadDword(b)) }
func storeFloat(b []byte, v float32) {
	storeDword(b, math.Float32bits(v))
}

// ternaryRef is the definition: one row of the source layout times one token.
func ternaryRef(codes []byte, scales []float32, group int, q []int8, act float32) float32 {
	var acc float32
	for g, scale := range scales {
		var sum int32
		for i := g * group; i < (g+1)*group; i++ {
			sum += (int32(codes[i/4]>>(i%4*2)&3) - 1) * int32(q[i])
		}
		acc = fma32(float32(sum), scale, acc)
	}
	return acc * act
}

// blockDot is the integer product of row r of one packed block with its activations: the codes' products and the
// offset, which undoes the codes' +1.
func blockDot(block []byte, r, steps int, q []int8, offset int32) int32 {
	sum := int32(int16(offset))
	for j := range steps {
		codes := transposeFields(loadDword(block[64*j+4*r:]))
		for c := range 16 {
			sum += int32(codes>>(2*c)&3) * int32(q[16*j+c])
		}
	}
	return sum
}

// tokenBlocksRef multiplies len(act) tokens by rowBlocks packed row blocks.
func tokenBlocksRef(y []float32, ldY int, w []byte, q []int8, ldQ int, offsets []int32, ldO int, act []float32, rowBlocks, groups, per, steps int) {
	size := 64*steps + 64
	for rb := range rowBlocks {
		for n, a := range act {
			for r := range RowBlock {
				var acc float32
				for g := range groups {
					var sum int32
					var block []byte
					for i := g * per; i < (g+1)*per; i++ {
						block = w[(rb*groups*per+i)*size:]
						sum += blockDot(block, r, steps, q[n*ldQ+16*steps*i:], offsets[n*ldO+i])
					}
					acc = fma32(float32(sum), loadFloat(block[64*steps+4*r:]), acc)
				}
				y[n*ldY+rb*RowBlock+r] = acc * a
			}
		}
	}
}
