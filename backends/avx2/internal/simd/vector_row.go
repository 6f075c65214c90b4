package simd

// SwiGLU sets dst = gate * sigmoid(gate) * up.
func SwiGLU(dst, gate, up []float32) { swigluVec(dst, gate[:len(dst)], up[:len(dst)]) }

// SwiGLUGrad sets the gradients of SwiGLU for the cotangent dy.
func SwiGLUGrad(dgate, dup, gate, up, dy []float32) {
	n := len(dgate)
	swigluGradVec(dgate, dup[:n], gate[:n], up[:n], dy[:n])
}

// RMSNormRow sets dst = x*rstd*w with rstd = 1/sqrt(mean(x^2)+eps), which it returns; a nil w stands for ones.
func RMSNormRow(dst, x, w []float32, eps float32) (rstd float32) {
	x = x[:len(dst)]
	rstd = rmsStd(x, eps)
	if w == nil {
		mulSVec(dst, x, rstd)
		return rstd
	}
	rmsScaleVec(dst, x, w[:len(dst)], rstd)
	return rstd
}

// RMSStd returns 1/sqrt(mean(x^2)+eps).
func RMSStd(x []float32, eps float32) float32 { return rmsStd(x, eps) }

func rmsStd(x []float32, eps float32) float32 {
	return 1 / sqrt32(sumSquaresVec(x)/float32(len(x))+eps)
}

// RMSNormGradRow sets dx, the gradient of RMSNormRow for the cotangent dy:
//
//	dx = rstd*w*dy - x * rstd^3 * sum(x*w*dy)/n
//
// It returns rstd, for RMSNormGainGradRow. A nil w stands for ones.
func RMSNormGradRow(dx, x, w, dy []float32, eps float32) (rstd float32) {
	n := len(dx)
	x, dy = x[:n], dy[:n]
	rstd = rmsStd(x, eps)
	if w == nil {
		c := rmsPull(dotVec(x, dy), rstd, n)
		rmsGradOnesVec(dx, x, dy, rstd, c)
		return rstd
	}
	w = w[:n]
	rmsGradVec(dx, x, w, dy, rstd, rmsPull(dot3Vec(x, w, dy), rstd, n))
	return rstd
}

func rmsPull(dot, rstd float32, n int) float32 {
	return float32(dot*float32(float32(rstd*rstd)*rstd)) / float32(n)
}

// RMSNormGainGradRow adds one row's share to the gradient of the gain: dw += rstd*dy*x.
func RMSNormGainGradRow(dw, x, dy []float32, rstd float32) {
	gainGradVec(dw, x[:len(dw)], dy[:len(dw)], rstd)
}

// SoftmaxRow sets dst to the softmax of x.
func SoftmaxRow(dst, x []float32) {
	x = x[:len(dst)]
	expScaleVec(dst, x, maxValueVec(x), 1)
	mulSVec(dst, dst, 1/sumVec(dst))
}

// SoftmaxGradRow sets dx = y * (dy - sum(y*dy)), the gradient of y = SoftmaxRow(x) for the cotangent dy; dx may be dy but
// not y.
func SoftmaxGradRow(dx, y, dy []float32) {
	y, dy = y[:len(dx)], dy[:len(dx)]
	addSVec(dx, dy, -dotVec(y, dy))
	mulVec(dx, dx, y)
}

// LogSumExpRow returns log(sum(e^x)), shifted by the largest element; -Inf for an empty row.
func LogSumExpRow(x []float32) float32 {
	m := maxValueVec(x)
	if m-m != 0 { // -Inf, +Inf or NaN: there is no shift
		return m
	}
	return m + refLog(sumExpVec(x, m))
}

// CrossEntropyGradRow sets dst = g * (e^(x-lse) - onehot(target)), the gradient of lse - x[target]; a target outside the
// row, such as -1, leaves the one-hot out.
func CrossEntropyGradRow(dst, x []float32, lse float32, target int, g float32) {
	x = x[:len(dst)]
	if target < 0 || target >= len(dst) {
		expScaleVec(dst, x, lse, g)
		return
	}
	hit := g * (refExp(x[target]-lse) - 1)
	expScaleVec(dst, x, lse, g)
	dst[target] = hit
}

// RoPERow rotates the pairs (2i, 2i+1) of x by the angles with the given cosines and sines, len(dst)/2 of each.
func RoPERow(dst, x, cos, sin []float32) {
	h := len(dst) / 2
	ropeVec(dst[:2*h], x[:2*h], cos[:h], sin[:h])
}

// RoPEInverseRow rotates back: the gradient of RoPERow, without negating the sines.
func RoPEInverseRow(dst, x, cos, sin []float32) {
	h := len(dst) / 2
	ropeInverseVec(dst[:2*h], x[:2*h], cos[:h], sin[:h])
}
