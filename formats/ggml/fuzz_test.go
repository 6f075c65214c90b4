package ggml

import "testing"

// FuzzBlocks reads a matrix in every way. What DecodeCodes and Decode accept,
// Dequantize must give the same weights.
func FuzzBlocks(f *testing.F) {
	for _, typ := range goldenTypes {
		data, _ := golden(f, typ)
		f.Add(uint32(typ), 5, 256, 256, data)
		f.Add(uint32(typ), 1, typ.Block(), PerRow, data[:typ.BlockBytes()])
	}
	f.Add(uint32(F64), 2, 3, 64, make([]byte, 48))
	f.Add(uint32(23), 1, 256, PerTensor, make([]byte, 136)) // IQ4_XS: known, not decoded
	f.Add(uint32(Q4_0), -1, 1<<62, -7, []byte(nil))
	f.Fuzz(func(t *testing.T, typ uint32, m, k, group int, data []byte) {
		u := Type(typ % 64)
		var want []float32
		if u.Known() {
			want = make([]float32, len(data)/u.BlockBytes()*u.Block())
			if u.Dequantize(want, data) != nil {
				want = nil
			}
		}
		same := func(name string, c Codes, err error) {
			if err != nil {
				return
			}
			if i := differ(weights(c), want); i >= 0 {
				t.Errorf("%v, %s: weight %d differs", u, name, i)
			}
		}
		c, err := DecodeCodes(u, data, m, k)
		same("DecodeCodes", c, err)
		codes, scales, err := Decode(u, data, m, k, group)
		if err != nil || group == PerTensor {
			return
		}
		same("Decode", Codes{Codes: codes, Scales: scales, Levels: []int8{-1, 0, 1, 2}}, nil)
		if again, err := Encode(u, codes, scales); err == nil && len(again) != len(data) {
			t.Errorf("%v: %d bytes become %d", u, len(data), len(again))
		}
	})
}
