package simd

import "unsafe"

// codebookRef is the definition: one row of the source layout times one token, whose activations are not padded.
func codebookRef(codes []byte, bits int, levels []int8, scales []float32, group int, q []int8, act float32) float32 {
	var acc float32
	for g, scale := range scales {
		var sum int32
		for i := g * group; i < (g+1)*group; i++ {
			code := int(codes[i*bits/8]>>(i*bits%8)) & (1<<bits - 1)
			if bits == 8 && code != 0x80 {
				sum += int32(int8(code)) * int32(q[i])
			}
			if code < len(levels) {
				sum += int32(levels[code]) * int32(q[i])
			}
		}
		acc = fma32(float32(sum), scale, acc)
	}
	return acc * act
}

// bookArgs is what a kernel is told. Its layout is that of the generator.
type bookArgs struct {
	y      *float32 // [tokens, ldY] from the first row on
	w      *byte
	q      *int8 // [tokens, ldQ]
	abs    *int8 // magnitudes of q, for signed kernels of AVX2
	o      *int32
	act    *float32
	book   *byte // what the kernels look up
	ldY    int   // in bytes, like all strides
	ldQ    int
	ldO    int
	rows   int // row blocks
	groups int
	chunks int   // in a group
	step   int32 // of linear levels, for AVX2
	tokens int   // for AVX-512, like the next
	block  int   // bytes of a row block
}

// value is what the kernels multiply by for a code.
func (c *Codebook) value(code int) int32 {
	switch {
	case c.ISA == AVX512 && c.Bits == 8:
		return int32(byte(code) ^ 0x80)
	case c.ISA == AVX512:
		return int32(byte(int32(c.levels[code]) - c.lowest))
	case c.Bits == 8:
		return int32(int8(code))
	case c.kind == bookLinear:
		return int32(code)
	case c.kind == bookSigned:
		return int32(int8(c.book[code]))
	}
	return int32(c.book[code])
}

// bookBlocksRef multiplies n tokens by packed row blocks.
func (c *Codebook) bookBlocksRef(a *bookArgs, n int) {
	w := unsafe.Slice(a.w, a.rows*c.rowBlock)
	y := unsafe.Slice(a.y, (n-1)*a.ldY/4+a.rows*RowBlock)
	for t := range n {
		q := unsafe.Slice((*int8)(unsafe.Add(unsafe.Pointer(a.q), t*a.ldQ)), a.groups*c.width)
		o := unsafe.Slice((*int32)(unsafe.Add(unsafe.Pointer(a.o), t*a.ldO)), a.groups)
		act := unsafe.Slice(a.act, n)[t]
		for row := range a.rows * RowBlock {
			block := w[row/RowBlock*c.rowBlock:]
			var acc float32
			for g := range a.groups {
				sum := c.groupDot(block[g*c.groupBytes+row%RowBlock*4:], q[g*c.width:])
				if c.ISA == AVX2 && c.kind == bookLinear {
					sum *= a.step
				}
				if !c.signs() {
					sum += o[g]
				}
				acc = fma32(float32(sum), loadFloat(block[(g+1)*c.groupBytes-64+row%RowBlock*4:]), acc)
			}
			y[t*a.ldY/4+row] = acc * act
		}
	}
}

// groupDot is the product of a row's codes of one group, at its first dword, with activations.
func (c *Codebook) groupDot(row []byte, q []int8) int32 {
	var sum int32
	fields := 8 / c.Bits
	for i := range c.width {
		dword, field, b := i/(4*fields), i/4%fields, i%4
		code := int(row[64*dword+b]>>(field*c.Bits)) & (1<<c.Bits - 1)
		sum += c.value(code) * int32(q[i])
	}
	return sum
}

// magnitudesRef is what magnitudesVec does.
func magnitudesRef(dst, q []int8) {
	for i := range dst {
		dst[i] = max(q[i], -q[i])
	}
}
