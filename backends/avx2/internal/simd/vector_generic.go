//go:build !amd64 || purego

package simd

func addVec(dst, x, y []float32) { addRef(dst, x, y) }

func subVec(dst, x, y []float32) { subRef(dst, x, y) }

func mulVec(dst, x, y []float32) { mulRef(dst, x, y) }

func divVec(dst, x, y []float32) { divRef(dst, x, y) }

func maxVec(dst, x, y []float32) { maxRef(dst, x, y) }

func minVec(dst, x, y []float32) { minRef(dst, x, y) }

func negVec(dst, x []float32) { negRef(dst, x) }

func absVec(dst, x []float32) { absRef(dst, x) }

func sqrtVec(dst, x []float32) { sqrtRef(dst, x) }

func roundVec(dst, x []float32) { roundRef(dst, x) }

func rsqrtVec(dst, x []float32) { rsqrtRef(dst, x) }

func addSVec(dst, x []float32, c float32) { addSRef(dst, x, c) }

func mulSVec(dst, x []float32, c float32) { mulSRef(dst, x, c) }

func divSVec(dst, x []float32, c float32) { divSRef(dst, x, c) }

func rsubSVec(dst, x []float32, c float32) { rsubSRef(dst, x, c) }

func rdivSVec(dst, x []float32, c float32) { rdivSRef(dst, x, c) }

func maxSVec(dst, x []float32, c float32) { maxSRef(dst, x, c) }

func minSVec(dst, x []float32, c float32) { minSRef(dst, x, c) }

func axpyVec(dst, x []float32, c float32) { axpyRef(dst, x, c) }

func mulAddVec(dst, x, y, z []float32) { mulAddRef(dst, x, y, z) }

func expVec(dst, x []float32) { expVecRef(dst, x) }

func expScaleVec(dst, x []float32, s, c float32) { expScaleRef(dst, x, s, c) }

func logVec(dst, x []float32) { logVecRef(dst, x) }

func sigmoidVec(dst, x []float32) { sigmoidVecRef(dst, x) }

func swigluVec(dst, gate, up []float32) { swigluRef(dst, gate, up) }

func swigluGradVec(dgate, dup, gate, up, dy []float32) { swigluGradRef(dgate, dup, gate, up, dy) }

func sumVec(x []float32) float32 { return sumRef(x) }

func sumSquaresVec(x []float32) float32 { return sumSquaresRef(x) }

func dotVec(x, y []float32) float32 { return dotRef(x, y) }

func dot3Vec(x, y, z []float32) float32 { return dot3Ref(x, y, z) }

func sumExpVec(x []float32, s float32) float32 { return sumExpRef(x, s) }

func maxValueVec(x []float32) float32 { return maxValueRef(x) }

func absMaxVec(x []float32) float32 { return absMaxRef(x) }

func rmsScaleVec(dst, x, w []float32, rstd float32) { rmsScaleRef(dst, x, w, rstd) }

func rmsGradVec(dx, x, w, dy []float32, rstd, c float32) { rmsGradRef(dx, x, w, dy, rstd, c) }

func rmsGradOnesVec(dx, x, dy []float32, rstd, c float32) { rmsGradOnesRef(dx, x, dy, rstd, c) }

func gainGradVec(dw, x, dy []float32, rstd float32) { gainGradRef(dw, x, dy, rstd) }

func adamWVec(pOut, mOut, vOut, p, m, v, g []float32, lr, b1, o1, b2, o2, eps, decay, c1, c2 float32) {
	adamWRef(pOut, mOut, vOut, p, m, v, g, lr, b1, o1, b2, o2, eps, decay, c1, c2)
}

func ropeVec(dst, x, cos, sin []float32) { ropeRef(dst, x, cos, sin) }

func ropeInverseVec(dst, x, cos, sin []float32) { ropeInverseRef(dst, x, cos, sin) }

func streamWrite2(dst, s, h, y, post []float32) { streamWriteRef(dst, s, h, y, post, 2) }

func streamMix2(dst, s, h []float32) { streamMixRef(dst, s, h, 2) }

func streamRead2(dst, s, pre []float32) { streamReadRef(dst, s, pre, 2) }

func streamDots2(dst, d, s, y []float32) { streamDotsRef(dst, d, s, y, 2) }

func streamWrite4(dst, s, h, y, post []float32) { streamWriteRef(dst, s, h, y, post, 4) }

func streamMix4(dst, s, h []float32) { streamMixRef(dst, s, h, 4) }

func streamRead4(dst, s, pre []float32) { streamReadRef(dst, s, pre, 4) }

func streamDots4(dst, d, s, y []float32) { streamDotsRef(dst, d, s, y, 4) }

func f16ToF32Vec(dst []float32, x []uint16) { f16ToF32Ref(dst, x) }

func f32ToF16Vec(dst []uint16, x []float32) { f32ToF16Ref(dst, x) }

func fakeQuantVec(dst, x []float32, scale float32) { fakeQuantRef(dst, x, scale) }

func quantizeVec(q []int8, x []float32, scale float32) { quantizeRef(q, x, scale) }

func blockOffsetsVec(dst []int32, q []int8, block int) { blockOffsetsRef(dst, q, block) }

func quantizeTokenVec(q []int8, offsets []int32, x []float32) float32 {
	return quantizeTokenRef(q, offsets, x)
}
