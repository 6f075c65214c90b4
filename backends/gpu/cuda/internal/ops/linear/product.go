package linear

import (
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/framework/tensor"
)

// matrix is a row-major matrix in the device's memory, the first of a batch that
// lie batch elements apart.
type matrix struct {
	at         driver.Pointer
	t          tensor.DType
	rows, cols int
	stride     int // elements from a row to the next
	batch      int
}

// dense is a matrix without space between rows or matrices.
func dense(at driver.Pointer, t tensor.DType, rows, cols int) matrix {
	return matrix{at, t, rows, cols, cols, rows * cols}
}

// slice is rows lo to hi.
func (m matrix) slice(lo, hi int) matrix {
	m.at += driver.Pointer(lo * m.stride * m.t.Bytes())
	m.rows = hi - lo
	return m
}

// described is m as cuBLASLt sees it, by columns: transposed.
func (m matrix) described(batch int) driver.Matrix {
	types := map[tensor.DType]driver.DataType{tensor.F32: driver.F32, tensor.BF16: driver.BF16, tensor.F16: driver.F16}
	return driver.Matrix{Type: types[m.t], Rows: m.cols, Cols: m.rows, Stride: m.stride, ColMajor: true, Batch: batch, BatchStep: m.batch}
}

// product is z = op(x) op(y), for a batch of them, or with add z += op(x) op(y).
type product struct {
	x, y, z        matrix
	transX, transY bool
	batch          int
	add            bool
}

// smallProduct is up to how many multiply-adds a product is one of this package's
// kernels: less than the microseconds that any launch takes.
const smallProduct = 1 << 18

// fewRows is up to how many rows of x the kernels of decoding take.
const fewRows = 8

// sameRows is up to how many elements of a weight one kernel multiplies all rows by
// it in f32, however many there are: a row then has the same bits alone and among
// others, as it has by exact integers. Larger ones are for whoever is fastest.
const sameRows = 1 << 17

func (p product) depth() int {
	if p.transX {
		return p.x.rows
	}
	return p.x.cols
}

// few reports whether p is some rows by a weight [n,k], read as it lies in any
// type.
func (p product) few() bool {
	return p.z.rows <= fewRows && !p.transX && p.transY && p.batch == 1 && !p.add &&
		p.x.stride == p.x.cols && p.y.stride == p.y.cols
}

// small reports whether p is for a kernel of this package in either precision.
func (p product) small() bool {
	return p.few() || p.batch*p.z.rows*p.z.cols*p.depth() <= smallProduct
}

// same reports whether p has a kernel that does not depend on its rows.
func (b *binding) same(p product) bool {
	return b.dense == tensor.F32 && !p.transX && p.transY && p.batch == 1 && !p.add && p.y.rows*p.y.cols <= sameRows
}

// own reports whether p is for a kernel of this package, which takes operands of
// any types.
func (b *binding) own(p product) bool { return p.small() || b.same(p) }

// multiply appends p.
func (b *binding) multiply(p product) {
	switch {
	case b.err != nil:
	case p.few() && !b.same(p):
		b.multiplyFew(p)
	case b.own(p):
		b.multiplyTiles(p)
	default:
		for _, part := range p.regular() {
			err := b.multiplyBLAS(part)
			if errors.Is(err, driver.ErrNotSupported) {
				b.multiplyTiles(part)
			} else if b.err = err; err != nil {
				return
			}
		}
	}
}

// regular is p, or in two parts all but its last rows and these: a transposed x of
// bf16 lies along the rows of z, and cuBLAS asks for a multiple of 16 bytes of them
// where tensor cores are to be used well (cuBLAS Library, Tensor Core Usage). Rows of
// 50257 logits lie so that only their number is in the way. The cut is where memory is
// as aligned as it is where it begins.
func (p product) regular() []product {
	const by, cut = 8, 128
	whole := p.z.rows &^ (cut - 1)
	if !p.transX || p.x.t != tensor.BF16 || p.batch != 1 || p.x.stride%by != 0 || p.z.rows%by == 0 || whole == 0 {
		return []product{p}
	}
	first, rest := p, p
	first.x.cols, first.z.rows = whole, whole
	rest.x.at += driver.Pointer(whole * p.x.t.Bytes())
	rest.x.cols -= whole
	rest.z = p.z.slice(whole, p.z.rows)
	return []product{first, rest}
}

// multiplyBLAS hands p to cuBLASLt. Its matrices lie by columns, and what lies by
// rows is the transpose of such: z^T = op(y)^T op(x)^T.
func (b *binding) multiplyBLAS(p product) error {
	if p.x.t != p.y.t || p.z.t != p.x.t && p.z.t != tensor.F32 || p.x.t == tensor.F16 {
		return driver.ErrNotSupported
	}
	s := driver.MatmulSpec{
		A: p.y.described(p.batch), B: p.x.described(p.batch), D: p.z.described(p.batch),
		TransA: p.transY, TransB: p.transX, Compute: driver.ComputeF32, Alpha: 1,
	}
	if p.x.t == tensor.F32 && b.dense == tensor.BF16 {
		s.Compute = driver.ComputeTF32
	}
	if p.add {
		s.Beta = 1
	}
	return b.Matmul(s, p.y.at, p.x.at, 0, p.z.at)
}

// multiplyFew is a warp for some columns of z.
func (b *binding) multiplyFew(p product) {
	rows, columns := 1, 4
	for rows < p.z.rows {
		rows *= 2
	}
	if rows >= 4 {
		columns = 2
	}
	names := map[tensor.DType]string{tensor.F32: "float", tensor.BF16: "bf16", tensor.F16: "f16"}
	b.launch(productSource, fmt.Sprintf("product_few_%d_%s_%s", rows, names[p.x.t], names[p.y.t]), ceil(p.z.cols, 4*columns), 128, 0,
		p.x.at, p.y.at, p.z.at, typeCode(p.z.t), p.z.rows, p.z.cols, p.depth(), p.z.stride)
}

func (b *binding) multiplyTiles(p product) {
	xRow, xStep := p.x.stride, 1
	if p.transX {
		xRow, xStep = xStep, xRow
	}
	yRow, yStep := p.y.stride, 1
	if p.transY {
		yRow, yStep = yStep, yRow
	}
	b.launch(productSource, "product_tile", p.batch*ceil(p.z.rows, 32)*ceil(p.z.cols, 32), 256, 0,
		p.x.at, p.y.at, p.z.at, typeCode(p.x.t), typeCode(p.y.t), typeCode(p.z.t), p.z.rows, p.z.cols, p.depth(),
		uint64(xRow), uint64(xStep), uint64(p.x.batch), uint64(yRow), uint64(yStep), uint64(p.y.batch),
		uint64(p.z.stride), uint64(p.z.batch), flag(p.add))
}

// convert returns m, which has no space between rows, in type t: itself, or a copy
// at to, of so many matrices.
func (b *binding) convert(m matrix, t tensor.DType, to driver.Pointer, batch int) matrix {
	if m.t == t {
		return m
	}
	n := batch * m.rows * m.cols
	b.launch(codesSource, "linear_convert", ceil(n, 1024), 256, 0, m.at, to, uint64(n), typeCode(m.t), narrow(t))
	m.at, m.t = to, t
	return m
}
