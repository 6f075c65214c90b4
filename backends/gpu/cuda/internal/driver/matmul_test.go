package driver

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
)

// host is a matrix in float64, and the bytes of a device's.
type host struct {
	m      Matrix
	values []float64 // [batch][rows][cols]
	data   []byte
}

// at is where element (r, c) of matrix z lies, written from the definition.
func (h host) at(z, r, c int) int {
	if h.m.ColMajor {
		return z*h.m.BatchStep + c*h.m.Stride + r
	}
	return z*h.m.BatchStep + r*h.m.Stride + c
}

func newHost(rng *rand.Rand, t DataType, batch, rows, cols int, colMajor bool) host {
	h := host{m: Matrix{Type: t, Rows: rows, Cols: cols, Stride: cols + 3, ColMajor: colMajor, Batch: batch}}
	lines := rows
	if colMajor {
		h.m.Stride, lines = rows+1, cols
	}
	h.m.BatchStep = h.m.Stride*lines + 5
	h.values = make([]float64, batch*rows*cols)
	n := batch * h.m.BatchStep
	f, half, i8 := make([]float32, n), make([]uint16, n), make([]int8, n)
	for i := range h.values {
		z, r, c := i/(rows*cols), i/cols%rows, i%cols
		at := h.at(z, r, c)
		i8[at] = int8(rng.IntN(255) - 127)
		f[at] = float32(rng.NormFloat64())
		half[at] = uint16(math.Float32bits(f[at]) >> 16)
		switch t {
		case I8:
			h.values[i] = float64(i8[at])
		case BF16:
			h.values[i] = float64(math.Float32frombits(uint32(half[at]) << 16))
		default:
			h.values[i] = float64(f[at])
		}
	}
	h.data = map[DataType][]byte{F32: bytesOf(f), BF16: bytesOf(half), I8: bytesOf(i8)}[t]
	return h
}

// op is element (r, c) of the matrix, transposed if it is to be.
func (h host) op(z, r, c int, trans bool) float64 {
	if trans {
		r, c = c, r
	}
	return h.values[(z*h.m.Rows+r)*h.m.Cols+c]
}

func TestProductsAreThoseOfFloat64(t *testing.T) {
	r := newRig(t)
	b, err := r.c.OpenCuBLAS(r.search)
	must(t, err)
	defer b.Destroy()
	const batch, m, n, k = 2, 5, 4, 7
	for _, c := range []struct {
		name           string
		in, out        DataType
		compute        Compute
		transA, transB bool
		colMajor       bool
		beta           float64
		tolerance      float64
	}{
		{"f32", F32, F32, ComputeF32, false, false, false, 0, 1e-5},
		{"f32 transposed, added", F32, F32, ComputeF32, true, true, false, 0.5, 1e-5},
		{"f32 by columns", F32, F32, ComputeF32, false, true, true, 0, 1e-5},
		{"bf16", BF16, F32, ComputeF32, false, true, false, 0, 1e-5},
		{"bf16 to bf16", BF16, BF16, ComputeF32, true, false, true, 0, 4e-2},
		{"int8", I8, I32, ComputeI32, false, true, false, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.in == I8 && fake.Real() {
				t.Skip("cuBLASLt has int8 products for some orders and sizes only")
			}
			rng := rand.New(rand.NewPCG(1, 2))
			shape := func(rows, cols int, trans bool) host {
				if trans {
					rows, cols = cols, rows
				}
				return newHost(rng, c.in, batch, rows, cols, c.colMajor)
			}
			x, y := shape(m, k, c.transA), shape(k, n, c.transB)
			z := newHost(rng, F32, batch, m, n, c.colMajor)
			z.m.Type = c.out
			alpha := 1.0
			if c.compute == ComputeF32 {
				alpha = 0.25
			}
			plan, err := b.Plan(MatmulSpec{A: x.m, B: y.m, D: z.m, TransA: c.transA, TransB: c.transB, Compute: c.compute, Alpha: alpha, Beta: c.beta})
			must(t, err)
			defer plan.Destroy()
			before := readAll(z.data, c.out)
			px, py, pz := r.alloc(t, len(x.data)), r.alloc(t, len(y.data)), r.alloc(t, len(z.data))
			must(t, errors.Join(r.c.Upload(px, x.data), r.c.Upload(py, y.data), r.c.Upload(pz, z.data)))
			must(t, plan.Run(r.s, px, py, 0, pz, 0))
			must(t, r.s.Synchronize())
			must(t, r.c.Download(z.data, pz))
			after := readAll(z.data, c.out)
			for i := range batch * m * n {
				zi, row, col := i/(m*n), i/n%m, i%n
				want := c.beta * before[z.at(zi, row, col)]
				for j := range k {
					want += alpha * x.op(zi, row, j, c.transA) * y.op(zi, j, col, c.transB)
				}
				if got := after[z.at(zi, row, col)]; math.Abs(got-want) > c.tolerance*math.Max(1, math.Abs(want)) {
					t.Fatalf("batch %d, (%d,%d): %v, want %v", zi, row, col, got, want)
				}
			}
		})
	}
}

// An algorithm may load as many bytes at a time as addresses are said to be aligned
// to, 256 unless told.
func TestAnAddressThatIsLessAlignedThanSaidIsRefused(t *testing.T) {
	r := newFake(t)
	b, err := r.c.OpenCuBLAS(r.search)
	must(t, err)
	square := Matrix{Type: F32, Rows: 2, Cols: 2}
	s := MatmulSpec{A: square, B: square, D: square, Compute: ComputeF32, Alpha: 1}
	p := r.alloc(t, 256)
	whole, err := b.Plan(s)
	must(t, err)
	named(t, whole.Run(r.s, p, p, 0, p+32, 0), "CUBLAS_STATUS_INVALID_VALUE")
	s.Align = [3]int{4, 8, 16}
	loose, err := b.Plan(s)
	must(t, err)
	must(t, loose.Run(r.s, p+4, p+8, 0, p+32, 0))
	named(t, loose.Run(r.s, p+2, p+8, 0, p+32, 0), "CUBLAS_STATUS_INVALID_VALUE")
}

func TestTheSpaceOfMatricesEndsWithTheLastElement(t *testing.T) {
	for _, c := range []struct {
		m    Matrix
		want int
	}{
		{Matrix{Type: F32, Rows: 3, Cols: 5}, 60},
		{Matrix{Type: BF16, Rows: 3, Cols: 5, Stride: 8}, 2 * (2*8 + 5)},
		{Matrix{Type: BF16, Rows: 3, Cols: 5, Stride: 4, ColMajor: true}, 2 * (4*4 + 3)},
		{Matrix{Type: I8, Rows: 2, Cols: 2, Batch: 3, BatchStep: 10}, 2*10 + 4},
	} {
		if got := c.m.Bytes(); got != c.want {
			t.Errorf("%+v: %d bytes, want %d", c.m, got, c.want)
		}
	}
}

// readAll reads a matrix's memory as numbers.
func readAll(data []byte, t DataType) []float64 {
	var out []float64
	step := map[DataType]int{F32: 4, I32: 4, BF16: 2}[t]
	for i := 0; i+step <= len(data); i += step {
		bits := uint32(data[i]) | uint32(data[i+1])<<8
		if step == 4 {
			bits |= uint32(data[i+2])<<16 | uint32(data[i+3])<<24
		}
		switch t {
		case F32:
			out = append(out, float64(math.Float32frombits(bits)))
		case I32:
			out = append(out, float64(int32(bits)))
		default:
			out = append(out, float64(math.Float32frombits(bits<<16)))
		}
	}
	return out
}

func TestProductsThatCuBLASDoesNotHaveAreNamed(t *testing.T) {
	r := newFake(t)
	b, err := r.c.OpenCuBLAS(r.search)
	must(t, err)
	square := func(t DataType) Matrix { return Matrix{Type: t, Rows: 4, Cols: 4} }
	_, err = b.Plan(MatmulSpec{A: square(I8), B: square(I8), D: square(F32), Compute: ComputeF32, Alpha: 1})
	if !errors.Is(err, ErrNotSupported) {
		t.Errorf("got %v, want %v", err, ErrNotSupported)
	}
	_, err = b.Plan(MatmulSpec{A: square(F32), B: Matrix{Rows: 5, Cols: 4}, D: square(F32), Compute: ComputeF32, Alpha: 1})
	named(t, err, "CUBLAS_STATUS_INVALID_VALUE")
	m, err := b.Plan(MatmulSpec{A: square(F32), B: square(F32), D: square(F32), Compute: ComputeF32, Alpha: 1})
	must(t, err)
	p, short := r.alloc(t, 64), r.alloc(t, 63)
	must(t, m.Run(r.s, p, p, 0, short, 0))
	err = m.Run(r.s, p, p, 0, p, 0)
	if !errors.Is(err, ErrDeviceLost) {
		t.Errorf("after a product beyond an allocation: %v", err)
	}
}

func TestNoCuBLASIsAnErrorOfItsOwn(t *testing.T) {
	r := openRig(t, Search{Dir: fake.Build(t, fake.Options{Omit: []string{"libcublasLt.so.12"}}), Only: true})
	if _, err := r.c.OpenCuBLAS(r.search); !errors.Is(err, ErrNoCuBLAS) {
		t.Errorf("got %v, want %v", err, ErrNoCuBLAS)
	}
}
