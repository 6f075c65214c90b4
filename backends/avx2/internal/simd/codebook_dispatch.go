//go:build amd64 && !purego

package simd

import "unsafe"

// The switches call the assembly by name: through a function value, its arguments would escape to the heap.

func (c *Codebook) kernel(args *bookArgs, n int) {
	if c.ISA == AVX512 {
		c.kernel512((*[16]uint64)(unsafe.Pointer(args)))
		return
	}
	a := (*[14]uint64)(unsafe.Pointer(args))
	switch c.Bits {
	case 1:
		linearBits(a, n)
	case 2:
		c.kernel2(a, n)
	case 8:
		levelBytes(a, n)
	default:
		c.kernel4(a, n)
	}
}

func (c *Codebook) kernel512(a *[16]uint64) {
	switch c.Bits {
	case 1:
		book1VNNI(a)
	case 2:
		book2VNNI(a)
	case 4:
		book4VNNI(a)
	default:
		book8VNNI(a)
	}
}

func linearBits(a *[14]uint64, n int) {
	switch n {
	case 1:
		book1Linear1(a)
	case 2:
		book1Linear2(a)
	default:
		book1Linear4(a)
	}
}

func levelBytes(a *[14]uint64, n int) {
	switch n {
	case 1:
		book8Signed1(a)
	case 2:
		book8Signed2(a)
	default:
		book8Signed4(a)
	}
}

func (c *Codebook) kernel2(a *[14]uint64, n int) {
	switch c.kind {
	case bookLinear:
		switch n {
		case 1:
			book2Linear1(a)
		case 2:
			book2Linear2(a)
		default:
			book2Linear4(a)
		}
	case bookEight:
		switch n {
		case 1:
			book2Eight1(a)
		case 2:
			book2Eight2(a)
		default:
			book2Eight4(a)
		}
	case bookOne:
		switch n {
		case 1:
			book2One1(a)
		case 2:
			book2One2(a)
		default:
			book2One4(a)
		}
	case bookSigned:
		switch n {
		case 1:
			book2Signed1(a)
		case 2:
			book2Signed2(a)
		default:
			book2Signed4(a)
		}
	}
}

func (c *Codebook) kernel4(a *[14]uint64, n int) {
	switch c.kind {
	case bookLinear:
		switch n {
		case 1:
			book4Linear1(a)
		case 2:
			book4Linear2(a)
		default:
			book4Linear4(a)
		}
	case bookEight:
		switch n {
		case 1:
			book4Eight1(a)
		case 2:
			book4Eight2(a)
		default:
			book4Eight4(a)
		}
	case bookOne:
		switch n {
		case 1:
			book4One1(a)
		case 2:
			book4One2(a)
		default:
			book4One4(a)
		}
	case bookSigned:
		switch n {
		case 1:
			book4Signed1(a)
		case 2:
			book4Signed2(a)
		default:
			book4Signed4(a)
		}
	}
}
