package diagnose

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// path holds the S x S matrix of one sub-layer, or a product of such, at each
// of the sampled tokens, or one for all of them.
type path [][]float64

// then is the product of h after p, token by token.
func (p path) then(h path, n int) path {
	if p == nil {
		return h
	}
	out := make(path, max(len(p), len(h)))
	for i := range out {
		out[i] = times(h[i%len(h)], p[i%len(p)], n)
	}
	return out
}

// times is the product of two n by n matrices.
func times(x, y []float64, n int) []float64 {
	z := make([]float64, n*n)
	for i := range n {
		for j := range n {
			for k := range n {
				z[i*n+j] += x[i*n+k] * y[k*n+j]
			}
		}
	}
	return z
}

// measure describes the n by n matrices of p. Sums are in float64, so that
// what is off 1 is the matrix, as it is in float32, and not its sum.
func (p path) measure(n int, values bool) Matrix {
	all := make([][]float64, 8)
	var m Matrix
	for _, h := range p {
		rowMax, rowMin, colMax, colMin, gain := sums(h, n)
		smallest := h[0]
		for _, x := range h {
			smallest = min(smallest, x)
		}
		off := max(math.Abs(rowMax-1), math.Abs(rowMin-1), math.Abs(colMax-1), math.Abs(colMin-1), -smallest)
		if !(off <= Tolerance) {
			m.Violations++
		}
		for i, x := range []float64{rowMax, rowMin, colMax, colMin, smallest, off, spectralNorm(h, n), gain} {
			all[i] = append(all[i], x)
		}
	}
	for i, r := range []*Range{&m.RowMax, &m.RowMin, &m.ColMax, &m.ColMin, &m.Smallest, &m.Error, &m.Spectral, &m.Gain} {
		*r = rangeOf(all[i])
	}
	if values {
		m.Values = p.mean(n)
	}
	return m
}

// sums are the largest and smallest row and column sums of h, and the largest
// of absolute values.
func sums(h []float64, n int) (rowMax, rowMin, colMax, colMin, gain float64) {
	rowMax, rowMin, colMax, colMin = math.Inf(-1), math.Inf(1), math.Inf(-1), math.Inf(1)
	for i := range n {
		var row, col, absRow, absCol float64
		for j := range n {
			row, col = row+h[i*n+j], col+h[j*n+i]
			absRow, absCol = absRow+math.Abs(h[i*n+j]), absCol+math.Abs(h[j*n+i])
		}
		rowMax, rowMin = max(rowMax, row), min(rowMin, row)
		colMax, colMin = max(colMax, col), min(colMin, col)
		gain = max(gain, absRow, absCol)
	}
	return rowMax, rowMin, colMax, colMin, gain
}

// spectralNorm is the largest singular value, NaN where there is none.
func spectralNorm(h []float64, n int) float64 {
	for _, x := range h {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return math.NaN()
		}
	}
	var svd mat.SVD
	if !svd.Factorize(mat.NewDense(n, n, h), mat.SVDNone) {
		return math.NaN()
	}
	return svd.Values(nil)[0]
}

// mean averages over the tokens.
func (p path) mean(n int) [][]float64 {
	rows := make([][]float64, n)
	for i := range rows {
		rows[i] = make([]float64, n)
		for j := range n {
			for _, h := range p {
				rows[i][j] += h[i*n+j] / float64(len(p))
			}
		}
	}
	return rows
}
