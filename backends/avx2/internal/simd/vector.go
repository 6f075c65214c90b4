package simd

// Add sets dst = x + y.
func Add(dst, x, y []float32) { addVec(dst, x[:len(dst)], y[:len(dst)]) }

// Sub sets dst = x - y.
func Sub(dst, x, y []float32) { subVec(dst, x[:len(dst)], y[:len(dst)]) }

// Mul sets dst = x * y.
func Mul(dst, x, y []float32) { mulVec(dst, x[:len(dst)], y[:len(dst)]) }

// Div sets dst = x / y.
func Div(dst, x, y []float32) { divVec(dst, x[:len(dst)], y[:len(dst)]) }

// Max sets dst to the larger of x and y as Go's max does: NaN if either is NaN, +0 above -0.
func Max(dst, x, y []float32) { maxVec(dst, x[:len(dst)], y[:len(dst)]) }

// Min sets dst to the smaller of x and y as Go's min does.
func Min(dst, x, y []float32) { minVec(dst, x[:len(dst)], y[:len(dst)]) }

// Neg sets dst = -x.
func Neg(dst, x []float32) { negVec(dst, x[:len(dst)]) }

// Abs sets dst = |x|.
func Abs(dst, x []float32) { absVec(dst, x[:len(dst)]) }

// Sqrt sets dst to the square root of x, correctly rounded.
func Sqrt(dst, x []float32) { sqrtVec(dst, x[:len(dst)]) }

// Rsqrt sets dst = 1/sqrt(x), square root and quotient each correctly rounded.
func Rsqrt(dst, x []float32) { rsqrtVec(dst, x[:len(dst)]) }

// Round rounds x half to even.
func Round(dst, x []float32) { roundVec(dst, x[:len(dst)]) }

// Exp sets dst = e^x with a relative error below 1e-7 where the result is normal; it is 0 below -104 and +Inf above
// 88.73, NaN for NaN.
func Exp(dst, x []float32) { expVec(dst, x[:len(dst)]) }

// ExpScale sets dst = c * e^(x-s).
func ExpScale(dst, x []float32, s, c float32) { expScaleVec(dst, x[:len(dst)], s, c) }

// Log sets dst to the natural logarithm of x with a relative error below 1e-7; -Inf for 0, NaN below 0.
func Log(dst, x []float32) { logVec(dst, x[:len(dst)]) }

// Sigmoid sets dst = 1/(1+e^-x).
func Sigmoid(dst, x []float32) { sigmoidVec(dst, x[:len(dst)]) }

// AddS sets dst = x + c.
func AddS(dst, x []float32, c float32) { addSVec(dst, x[:len(dst)], c) }

// SubS sets dst = x - c.
func SubS(dst, x []float32, c float32) { addSVec(dst, x[:len(dst)], -c) }

// RSubS sets dst = c - x.
func RSubS(dst, x []float32, c float32) { rsubSVec(dst, x[:len(dst)], c) }

// MulS sets dst = c * x.
func MulS(dst, x []float32, c float32) { mulSVec(dst, x[:len(dst)], c) }

// DivS sets dst = x / c.
func DivS(dst, x []float32, c float32) { divSVec(dst, x[:len(dst)], c) }

// RDivS sets dst = c / x.
func RDivS(dst, x []float32, c float32) { rdivSVec(dst, x[:len(dst)], c) }

// MaxS sets dst to the larger of x and c, as Max.
func MaxS(dst, x []float32, c float32) { maxSVec(dst, x[:len(dst)], c) }

// MinS sets dst to the smaller of x and c, as Min.
func MinS(dst, x []float32, c float32) { minSVec(dst, x[:len(dst)], c) }

// Axpy adds c*x to dst, fused.
func Axpy(dst, x []float32, c float32) { axpyVec(dst, x[:len(dst)], c) }

// MulAdd sets dst = x*y + z, fused.
func MulAdd(dst, x, y, z []float32) { mulAddVec(dst, x[:len(dst)], y[:len(dst)], z[:len(dst)]) }

// Sum returns the sum of x, accumulated in 32 lanes.
func Sum(x []float32) float32 { return sumVec(x) }

// SumSquares returns the sum of the squares of x, accumulated in 32 lanes.
func SumSquares(x []float32) float32 { return sumSquaresVec(x) }

// Dot returns the sum of x*y, accumulated in 32 lanes.
func Dot(x, y []float32) float32 { return dotVec(x, y[:len(x)]) }

// MaxValue returns the largest element of x: NaN if there is one, -Inf for an empty x.
func MaxValue(x []float32) float32 { return maxValueVec(x) }

// AbsMax returns the largest |x|: NaN if there is one, 0 for an empty x.
func AbsMax(x []float32) float32 { return absMaxVec(x) }

// AdamW makes one step of decoupled weight decay (Loshchilov and Hutter, 1711.05101), every operation rounded as in the
// plain loop:
//
//	m' = beta1*m + (1-beta1)*g
//	v' = beta2*v + (1-beta2)*g*g
//	p' = p - lr*((m'/correction1)/(sqrt(v'/correction2)+eps) + decay*p)
//
// correction1 = 1-beta1^t and correction2 = 1-beta2^t are the caller's.
func AdamW(pOut, mOut, vOut, p, m, v, g []float32, lr, beta1, beta2, eps, decay, correction1, correction2 float32) {
	n := len(pOut)
	adamWVec(pOut, mOut[:n], vOut[:n], p[:n], m[:n], v[:n], g[:n], lr, beta1, 1-beta1, beta2, 1-beta2, eps, decay, correction1, correction2)
}
