package simd

// maxStreams bounds the residual streams of the routines below; two and four have assembly.
const maxStreams = 8

// StreamWrite sets dst_i = sum_j h_ij*s_j + post_i*y for streams i, j: dst and s are [streams, len(y)], h is
// [streams, streams], post [streams]; streams <= 8. dst may be s.
func StreamWrite(dst, s, y, h, post []float32, streams int) {
	n := streams * len(y)
	dst, s, h, post = dst[:n], s[:n], h[:streams*streams], post[:streams]
	switch streams {
	case 2:
		streamWrite2(dst, s, h, y, post)
	case 4:
		streamWrite4(dst, s, h, y, post)
	default:
		streamMixAny(dst, s, h, y, post, streams)
	}
}

// StreamRead sets dst = sum_i pre_i*s_i; s is [streams, len(dst)], pre [streams].
func StreamRead(dst, s, pre []float32, streams int) {
	s, pre = s[:streams*len(dst)], pre[:streams]
	switch streams {
	case 2:
		streamRead2(dst, s, pre)
	case 4:
		streamRead4(dst, s, pre)
	default:
		mulSVec(dst, s[:len(dst)], pre[0])
		for j := 1; j < streams; j++ {
			axpyVec(dst, s[j*len(dst):(j+1)*len(dst)], pre[j])
		}
	}
}

// StreamWriteGrad is the gradient of StreamWrite for the cotangent d [streams, len(y)]: it sets ds and dy, and adds one
// row's share to dh [streams, streams] and dpost [streams]. ds may be d or s.
func StreamWriteGrad(ds, dy, dh, dpost, d, s, y, h, post []float32, streams int) {
	c := len(y)
	n := streams * c
	d, s, h, post = d[:n], s[:n], h[:streams*streams], post[:streams]
	addStreamDots(dh, dpost, d, s, y, streams)
	StreamRead(dy[:c], d, post, streams)
	streamMixTransposed(ds[:n], d, h, streams)
}

// addStreamDots adds sum(d_i*s_j) to dh_ij and sum(d_i*y) to dpost_i.
func addStreamDots(dh, dpost, d, s, y []float32, streams int) {
	c := len(y)
	var room [2 * (maxStreams + 1)]float32
	pair := room[:2*(streams+1)]
	for i := 0; i < streams; i += 2 {
		rows := d[i*c : min(i+2, streams)*c]
		switch streams {
		case 2:
			streamDots2(pair, rows, s, y)
		case 4:
			streamDots4(pair, rows, s, y)
		default:
			dotRows(pair, rows, s, y, streams)
		}
		for k := range min(2, streams-i) {
			dots := pair[k*(streams+1):][:streams+1]
			for j, v := range dots[:streams] {
				dh[(i+k)*streams+j] += v
			}
			dpost[i+k] += dots[streams]
		}
	}
}

// dotRows is streamDots2 for any number of streams, and for one row or two.
func dotRows(dst, d, s, y []float32, streams int) {
	c := len(y)
	for i := range len(d) / c {
		row, to := d[i*c:(i+1)*c], dst[i*(streams+1):]
		for j := range streams {
			to[j] = dotVec(row, s[j*c:(j+1)*c])
		}
		to[streams] = dotVec(row, y)
	}
}

// streamMixTransposed sets dst_j = sum_i h_ij*s_i.
func streamMixTransposed(dst, s, h []float32, streams int) {
	var t [maxStreams * maxStreams]float32
	for i := range streams {
		for j := range streams {
			t[j*streams+i] = h[i*streams+j]
		}
	}
	switch streams {
	case 2:
		streamMix2(dst, s, t[:4])
	case 4:
		streamMix4(dst, s, t[:16])
	default:
		streamMixAny(dst, s, t[:streams*streams], nil, nil, streams)
	}
}

// mixBlock is the number of columns that streamMixAny copies at a time.
const mixBlock = 128

// streamMixAny is streamWrite2, or streamMix2 without a branch y, for any number of streams, with the bits of the
// reference loops.
func streamMixAny(dst, s, h, y, post []float32, streams int) {
	var room [maxStreams * mixBlock]float32
	columns := len(s) / streams
	for lo := 0; lo < columns; lo += mixBlock {
		n := min(mixBlock, columns-lo)
		for j := range streams {
			copy(room[j*mixBlock:][:n], s[j*columns+lo:])
		}
		for i := range streams {
			out, first := dst[i*columns+lo:][:n], 0
			if y != nil {
				mulSVec(out, y[lo:lo+n], post[i])
			} else {
				mulSVec(out, room[i*mixBlock:][:n], h[i*streams+i])
				first = 1
			}
			for t := first; t < streams; t++ {
				j := (i + t) % streams
				axpyVec(out, room[j*mixBlock:][:n], h[i*streams+j])
			}
		}
	}
}

// StreamReadGrad is the gradient of StreamRead for the cotangent d: it sets ds_i = pre_i*d and adds one row's share to
// dpre [streams], either of which may be nil. ds may be s.
func StreamReadGrad(ds, dpre, d, s, pre []float32, streams int) {
	c := len(d)
	for i := range streams {
		if dpre != nil {
			dpre[i] += dotVec(d, s[i*c:(i+1)*c])
		}
		if ds != nil {
			mulSVec(ds[i*c:(i+1)*c], d, pre[i])
		}
	}
}
