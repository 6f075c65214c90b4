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
		streamWriteRef(dst, s, h, y, post, streams)
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
		streamReadRef(dst, s, pre, streams)
	}
}

// StreamWriteGrad is the gradient of StreamWrite for the cotangent d [streams, len(y)]: it sets ds and dy, and adds one
// row's share to dh [streams, streams] and dpost [streams], any of which may be nil. ds may be d or s.
func StreamWriteGrad(ds, dy, dh, dpost, d, s, y, h, post []float32, streams int) {
	c := len(y)
	n := streams * c
	d, s, h, post = d[:n], s[:n], h[:streams*streams], post[:streams]
	for i := range streams {
		di := d[i*c : (i+1)*c]
		if dpost != nil {
			dpost[i] += dotVec(di, y)
		}
		if dh == nil {
			continue
		}
		for j := range streams {
			dh[i*streams+j] += dotVec(di, s[j*c:(j+1)*c])
		}
	}
	if dy != nil {
		StreamRead(dy[:c], d, post, streams)
	}
	if ds != nil {
		streamMixTransposed(ds[:n], d, h, streams)
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
		streamMixRef(dst, s, t[:streams*streams], streams)
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
