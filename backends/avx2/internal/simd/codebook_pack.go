package simd

// Repack writes row blocks lo to hi of the packed matrix dst from the source layout. Rows beyond M become zeros.
func (c *Codebook) Repack(dst, codes []byte, scales []float32, lo, hi int) {
	rowBytes := (c.K*c.Bits + 7) / 8
	var padded []byte
	if c.width != c.Group {
		padded = make([]byte, c.groups*c.width*c.Bits/8)
	}
	for rb := lo; rb < hi; rb++ {
		block := dst[rb*c.rowBlock : (rb+1)*c.rowBlock]
		if (rb+1)*RowBlock > c.M {
			clear(block)
		} else if padded == nil && c.linesOfGroup()%4 == 0 {
			c.repackBlock(block, codes[rb*RowBlock*rowBytes:(rb+1)*RowBlock*rowBytes], scales[rb*RowBlock*c.groups:])
			continue
		}
		for r := range min(RowBlock, c.M-rb*RowBlock) {
			row := rb*RowBlock + r
			src := codes[row*rowBytes : (row+1)*rowBytes]
			if padded != nil {
				c.padRow(padded, src)
				src = padded
			}
			c.repackRow(block[4*r:], src, scales[row*c.groups:(row+1)*c.groups])
		}
	}
}

// linesOfGroup is the number of dwords of a row's group.
func (c *Codebook) linesOfGroup() int { return c.width * c.Bits / 32 }

// repackBlock writes 16 whole rows.
func (c *Codebook) repackBlock(block, codes []byte, scales []float32) {
	var nibbles [16]byte
	for i := range nibbles {
		nibbles[i] = byte(i)
		if c.remap != nil {
			nibbles[i] = c.remap[i]
		}
	}
	rowBytes, lines := len(codes)/RowBlock, c.linesOfGroup()
	for g := range c.groups {
		group := block[g*c.groupBytes : (g+1)*c.groupBytes]
		bookLines(c.Bits, group, codes[4*g*lines:], rowBytes, lines/4, &nibbles)
		for r := range RowBlock {
			storeFloat(group[64*lines+4*r:], scales[r*c.groups+g])
		}
	}
}

// padRow gives each group of a row of codes whole chunks.
func (c *Codebook) padRow(dst, src []byte) {
	clear(dst)
	for g := range c.groups {
		for i := range c.Group {
			from, to := (g*c.Group+i)*c.Bits, (g*c.width+i)*c.Bits
			dst[to/8] |= src[from/8] >> (from % 8) & (1<<c.Bits - 1) << (to % 8)
		}
	}
}

// repackRow writes one row; dst starts at its first dword, successive dwords being 64 bytes apart.
func (c *Codebook) repackRow(dst, codes []byte, scales []float32) {
	at, dwords := 0, c.linesOfGroup()
	for _, scale := range scales {
		for range dwords {
			storeDword(dst[at:], c.transpose(c.present(loadDword(codes))))
			codes = codes[4:]
			at += 64
		}
		storeFloat(dst[at:], scale)
		at += 64
	}
}

// present replaces codes that stand for nothing.
func (c *Codebook) present(x uint32) uint32 {
	if c.Bits == 8 {
		return presentBytes(x)
	}
	if c.remap == nil {
		return x
	}
	m := c.remap
	return uint32(m[byte(x)]) | uint32(m[byte(x>>8)])<<8 | uint32(m[byte(x>>16)])<<16 | uint32(m[byte(x>>24)])<<24
}

// presentBytes makes bytes of -128 zeros.
func presentBytes(x uint32) uint32 {
	low := (x&0x7f7f7f7f + 0x7f7f7f7f) | ^x // bit 7 of a byte is set unless the byte is 0x80
	return x & ((low >> 7 & 0x01010101) * 0xff)
}

// transpose turns a dword of successive codes into one whose byte b has code 4f+b in field f.
func (c *Codebook) transpose(x uint32) uint32 {
	switch c.Bits {
	case 1:
		return transposeBits(x)
	case 2:
		return transposeFields(x)
	case 8:
		return x
	}
	return spreadNibbles(x&0xffff) | spreadNibbles(x>>16)<<4
}

// spreadNibbles moves four nibbles to the low halves of four bytes.
func spreadNibbles(x uint32) uint32 {
	x = (x | x<<8) & 0x00ff00ff
	return (x | x<<4) & 0x0f0f0f0f
}

// transposeBits moves bit 4f+b to bit 8b+f.
func transposeBits(x uint32) uint32 {
	var y uint32
	for b := range 4 {
		v := x >> b & 0x11111111
		v = (v | v>>3) & 0x03030303
		v = (v | v>>6) & 0x000f000f
		y |= (v | v>>12) & 0xff << (8 * b)
	}
	return y
}
