package linear_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/linear"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// How far results may be from the reference. A number rounded to bf16 is off by up
// to 2^-8 of itself, a mean square of at most 2^-16/3 = 5e-6: exact integers have
// that of the result alone, products that of their operands, and a softmax that of
// logits of such operands, which a probability multiplies.
const (
	f32Bound       = 1e-10
	bf16Bound      = 1e-4
	bf16ExactBound = 5e-6
)

// shape is a layer: N rows of K by M columns, scales [rows,groups].
type shape struct{ N, K, M, scaleRows, groups int }

// layer uses an op on a layer of codes. operands picks them, by letter: x, latent
// w, codes c, scales s, targets t, cotangents of the result y or of a loss l.
func layer(op, operands string, k book, act int, s shape, seed uint64) use {
	rng := rand.New(rand.NewPCG(seed, 3))
	u := use{op: graph.Lookup(op), attr: graph.LinearAttr{Levels: k.levels, ActBits: act}}
	for i, o := range operands {
		switch o {
		case 'x':
			u.in = append(u.in, rounded(floats(rng, 1, s.N, s.K)))
			u.fed = append(u.fed, i)
		case 'w':
			u.in = append(u.in, floats(rng, 1, s.M, s.K))
		case 'h':
			u.in = append(u.in, halves(floats(rng, 1, s.M, s.K)))
		case 'c':
			u.in = append(u.in, k.codes(rng, s.M, s.K))
		case 's':
			u.in = append(u.in, floats(rng, 0.05, s.scaleRows, s.groups))
		case 't':
			u.in = append(u.in, targets(s.N, s.M))
		case 'y':
			u.in = append(u.in, rounded(floats(rng, 1, s.N, s.M)))
			u.fed = append(u.fed, i)
		case 'l':
			u.in = append(u.in, floats(rng, 1, s.N))
		}
	}
	return u
}

// rounded has numbers that bf16 holds: what a narrow operand loses is not the
// op's error, and would move what int8 rounds.
func rounded(x *tensor.Tensor) *tensor.Tensor {
	for i, v := range x.F32() {
		x.F32()[i] = tensor.BF16ToF32(tensor.F32ToBF16(v))
	}
	return x
}

func halves(x *tensor.Tensor) *tensor.Tensor {
	h := tensor.New(tensor.T(tensor.F16, x.Shape...))
	for i, v := range x.F32() {
		bits := tensor.F32ToF16(v)
		h.Data[2*i], h.Data[2*i+1] = byte(bits), byte(bits>>8)
	}
	return h
}

// targets leave every fourth row out.
func targets(n, v int) *tensor.Tensor {
	t := make([]int32, n)
	for i := range t {
		if t[i] = int32(i * 7 % v); i%4 == 3 {
			t[i] = -1
		}
	}
	return tensor.FromI32(t, n)
}

var layerOps = map[string]string{
	"bitlinear": "xwcs", "bitlinear.vjp": "xwcsy", "codebookmatmul": "xcs", "codebookmatmul.vjp": "xcsy",
	"bitlinearcrossentropy": "xwcst", "bitlinearcrossentropy.vjp": "xwcstl", "bitlinearcrossentropy.joint": "xwcstl",
	"codebookcrossentropy": "xcst", "codebookcrossentropy.vjp": "xcstl",
}

// The first two have products for cuBLASLt, and values large enough to be narrow.
var layerShapes = []shape{{130, 96, 50, 50, 3}, {70, 80, 67, 1, 1}, {3, 33, 9, 9, 1}, {1, 4, 3, 3, 2}, {9, 64, 1, 1, 2}}

// shapesFor leaves out in bf16 what is no different from f32.
func shapesFor(p engine.Precision) []shape {
	if p == engine.BF16 {
		return layerShapes[:3]
	}
	return layerShapes
}

func TestLayersOnCodesAreThoseOfTheReference(t *testing.T) {
	defer linear.Limits(1<<10, 1<<12, 1<<12)() // blocks of some rows
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		be := cuda(t, p)
		for op, operands := range layerOps {
			for i, s := range shapesFor(p) {
				for _, act := range []int{0, 8} {
					e := bound(p)
					if p == engine.BF16 && act == 8 && operands[len(operands)-1] == 's' {
						e = bf16ExactBound
					}
					k := books[[]string{"ternary", "odd", "binary"}[i%3]]
					compare(t, fmt.Sprintf("%s, %v, %d bits", p, s, act), be, layer(op, operands, k, act, s, uint64(i)), e)
				}
			}
		}
	}
}

// A vocabulary of 201 has rows of logits of 208, of which the last are zeros in the sum
// for x, and its weight's gradient is made of two products.
func TestHeadsOfAnOddVocabularyAreThoseOfTheReference(t *testing.T) {
	be := cuda(t, engine.BF16)
	s := shape{70, 64, 201, 201, 1}
	compare(t, "of codes", be, layer("bitlinearcrossentropy.joint", "xwcstl", books["ternary"], 8, s, 5), bf16Bound)
	floats := layer("linearcrossentropy.joint", "xwtl", book{}, 0, s, 6)
	floats.attr = nil
	compare(t, "of floats", be, floats, bf16Bound)
}

func bound(p engine.Precision) float64 {
	if p == engine.BF16 {
		return bf16Bound
	}
	return f32Bound
}

func TestHeadsOfFloatsAreThoseOfTheReference(t *testing.T) {
	defer linear.Limits(1<<10, 1<<12, 1<<12)()
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		be := cuda(t, p)
		for op, operands := range map[string]string{
			"linearcrossentropy": "xwt", "linearcrossentropy.vjp": "xwtl", "linearcrossentropy.joint": "xwtl",
		} {
			for i, s := range shapesFor(p) {
				u := layer(op, operands, book{}, 0, s, uint64(i))
				u.attr = nil
				compare(t, fmt.Sprint(p, s), be, u, bound(p))
				half := layer(op, "xh"+operands[2:], book{}, 0, s, uint64(i))
				half.attr = nil
				compare(t, fmt.Sprint(p, " f16 ", s), be, half, bound(p))
			}
		}
	}
}

func TestMatricesMultiplyAsTheReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 5))
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		be := cuda(t, p)
		for _, s := range [][]int{{70, 80, 67}, {3, 1, 5}, {40, 33, 70}, {1, 300, 37}, {5, 33, 70}, {2, 2, 65, 64, 33}, {3, 4, 4, 4}, {7, 257, 3}} {
			for form := range 8 {
				u := matMul(rng, s, form&1 > 0, form&2 > 0, form&4 > 0)
				compare(t, fmt.Sprint(p, s, form), be, u, bound(p))
			}
		}
	}
}

// matMul multiplies batches of [m,k] and [k,n], s being the batch and m, k, n.
func matMul(rng *rand.Rand, s []int, transX, transY, half bool) use {
	batch, m, k, n := s[:len(s)-3], s[len(s)-3], s[len(s)-2], s[len(s)-1]
	dims := func(rows, cols int, trans bool) []int {
		if trans {
			rows, cols = cols, rows
		}
		return append(append([]int{}, batch...), rows, cols)
	}
	x, y := floats(rng, 1, dims(m, k, transX)...), floats(rng, 1, dims(k, n, transY)...)
	u := use{op: graph.Lookup("matmul"), attr: graph.MatMulAttr{TransX: transX, TransY: transY}, fed: []int{0, 1}}
	if half {
		y, u.fed = halves(y), []int{0}
	}
	u.in = []*tensor.Tensor{x, y}
	return u
}

func TestNormsWithTheirProductAreThoseOfTheReference(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 7))
	for _, p := range []engine.Precision{engine.F32, engine.BF16} {
		be := cuda(t, p)
		for _, s := range [][3]int{{130, 40, 6}, {1, 1, 1}, {33, 129, 17}, {5, 3, 9}, {67, 260, 2}} {
			N, C, K := s[0], s[1], s[2]
			in := []*tensor.Tensor{floats(rng, 1, N, C), floats(rng, 1, C), floats(rng, 1, K, C), floats(rng, 1, N, K)}
			u := use{op: graph.Lookup("normlinear"), attr: graph.NormAttr{Eps: 0.3}, in: in[:3], fed: []int{0}}
			compare(t, fmt.Sprint(p, s), be, u, bound(p))
			u.op, u.in, u.fed = graph.Lookup("normlinear.vjp"), in, []int{0, 3}
			compare(t, fmt.Sprint(p, s), be, u, bound(p))
		}
	}
}

func TestCodesAreThoseOfTheReference(t *testing.T) {
	be, ref := cuda(t, engine.F32), reference(t)
	rng := rand.New(rand.NewPCG(8, 9))
	for name, k := range books {
		for _, dims := range [][]int{{1}, {3, 9}, {2, 3, 17}, {5, 64}} {
			x := floats(rng, 40, dims...)
			special := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0.5, -0.5, 1.5, 2, -2, 126.5, 1e30}
			for i := range x.F32() {
				if i%3 == 0 {
					x.F32()[i] = special[i/3%len(special)]
				}
			}
			enc := use{op: graph.Lookup("encode"), attr: graph.CodeAttr{To: k.d.String(), Levels: k.levels}, in: []*tensor.Tensor{x}}
			same(t, name, enc.run(t, be)[0].Data, enc.run(t, ref)[0].Data)
			c := k.codes(rng, len(x.F32())/dims[len(dims)-1], dims[len(dims)-1])
			dec := use{op: graph.Lookup("decode"), attr: graph.CodeAttr{Levels: k.levels}, in: []*tensor.Tensor{c}}
			same(t, name, dec.run(t, be)[0].Floats(), dec.run(t, ref)[0].Floats())
		}
	}
}

func same[T comparable](t *testing.T, name string, got, want []T) {
	t.Helper()
	for i, v := range want {
		if got[i] != v {
			t.Fatalf("%s: element %d is %v, want %v", name, i, got[i], v)
		}
	}
}

func TestRowsThatAreNotFiniteStayAlone(t *testing.T) {
	be := cuda(t, engine.F32)
	for _, n := range []int{3, 12} { // the kernels for few rows, and for more
		for _, bad := range []float64{math.NaN(), math.Inf(-1)} {
			for _, op := range []string{"codebookmatmul", "linearcrossentropy", "normlinear"} {
				s := shape{n, 64, 40, 40, 2}
				u := layer(op, map[string]string{"codebookmatmul": "xcs", "linearcrossentropy": "xwt", "normlinear": "xlw"}[op], books["ternary"], 8, s, 1)
				u.fed = nil
				switch op {
				case "normlinear":
					u.attr, u.in[1] = graph.NormAttr{Eps: 1e-6}, floats(rand.New(rand.NewPCG(1, 1)), 1, s.K)
				case "linearcrossentropy":
					u.attr = nil
				}
				clean := u.run(t, be)[0].F32()
				u.in[0] = u.in[0].Clone()
				u.in[0].F32()[s.K+5] = float32(bad)
				width := len(clean) / n
				for i, v := range u.run(t, be)[0].F32() {
					if i/width == 1 && !math.IsNaN(float64(v)) || i/width != 1 && v != clean[i] {
						t.Fatalf("%s of %d rows, %v in row 1: element %d is %v, was %v", op, n, bad, i, v, clean[i])
					}
				}
			}
		}
	}
}

// Logits of minus infinity are what masks are made of.
func TestLogitsOfMinusInfinityHaveNoShare(t *testing.T) {
	u := layer("linearcrossentropy", "xwt", book{}, 0, shape{9, 4, 70, 70, 1}, 1)
	u.attr, u.fed = nil, nil
	for i := range u.in[0].F32() {
		u.in[0].F32()[i] = 0.5 + float32(i%3)
	}
	for i := range u.in[1].F32() {
		if row := i / 4; row < 20 || row > 60 {
			u.in[1].F32()[i] = float32(math.Inf(-1))
		}
	}
	u.in[2] = tensor.FromI32([]int32{21, 40, 30, -1, 60, 22, 33, 44, 3}, 9)
	be := cuda(t, engine.F32)
	compare(t, "masked", be, u, f32Bound)
	for i, v := range u.run(t, be)[0].F32() {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) != (i == 8) {
			t.Errorf("row %d: %v", i, v)
		}
	}
}

func TestTargetsBeyondTheVocabularyAreAnError(t *testing.T) {
	be := cuda(t, engine.F32)
	for op, operands := range map[string]string{"codebookcrossentropy": "xcst", "linearcrossentropy.joint": "xwtl"} {
		u := layer(op, operands, books["ternary"], 8, shape{6, 32, 10, 10, 1}, 1)
		if op[0] == 'l' {
			u.attr = nil
		}
		u.fed = nil
		for i, x := range u.in {
			if x.DType == tensor.I32 {
				u.in[i] = tensor.FromI32([]int32{0, 9, -5, 10, 2, 3}, 6)
			}
		}
		_, err := u.try(t, be)
		if !errors.Is(err, framework.ErrInput) {
			t.Errorf("%s: got %v, want %v", op, err, framework.ErrInput)
		}
	}
}

func TestWithoutCuBLASProductsAreTheSame(t *testing.T) {
	search := driver.Search{Dir: fake.Build(t, fake.Options{Omit: []string{"libcublasLt.so.12"}}), Only: true}
	d, err := engine.OpenDevice(engine.DeviceOptions{Precision: engine.BF16, Libraries: search})
	must(t, err)
	be := engine.New(engine.Config{Name: "cuda", Device: d, Table: table()})
	defer func() { must(t, be.Close()) }()
	s := layerShapes[0]
	compare(t, "no cuBLASLt", be, layer("bitlinear.vjp", "xwcsy", books["ternary"], 8, s, 1), bf16Bound)
	head := layer("linearcrossentropy.joint", "xwtl", book{}, 0, s, 1)
	head.attr = nil
	compare(t, "no cuBLASLt", be, head, bf16Bound)
}
