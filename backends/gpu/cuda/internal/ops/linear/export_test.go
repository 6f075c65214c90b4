package linear

// Limits sets where large tiles begin, and how large blocks are, so that small
// shapes take every way. It returns a function that sets them back.
func Limits(large, logits, gradient int) (restore func()) {
	l, h, g := largeFrom, headBlock, gradientBlock
	largeFrom, headBlock, gradientBlock = large, logits, gradient
	return func() { largeFrom, headBlock, gradientBlock = l, h, g }
}
