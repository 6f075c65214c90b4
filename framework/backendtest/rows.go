package backendtest

import (
	"context"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/internal/suite"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

const (
	rowsRule = "a row has the same bits alone as among 64 others: decoding equals the whole sequence"
	rowsFix  = "an order of summation, or a kernel choice, that depends on the number of rows"
)

// rowCase is an op of which row i of the result depends on row i of operand 0
// and the rest of the operands alone.
type rowCase struct {
	name string
	op   string
	s    sample // operand 0 has 64 rows
	rest []bool // operands that have rows too
}

func rowCases() []rowCase {
	lin := func(d tensor.DType, levels []int8, act, k, g int) sample {
		return sample{attr: graph.LinearAttr{Levels: levels, ActBits: act}, in: []operand{
			f32(normal, 64, k), of(d, book{d, levels}.codes(), 33, k), f32(small, 33, g),
		}}
	}
	mm := func(k, m int, y tensor.DType) sample {
		return sample{attr: graph.MatMulAttr{TransY: true}, in: []operand{f32(normal, 64, k), of(y, normal, m, k)}}
	}
	one := func(extra int) []bool { return append([]bool{true}, make([]bool, extra)...) }
	return []rowCase{
		{"matmul 96x64", "matmul", mm(96, 64, tensor.F32), one(1)},
		{"matmul 33x9", "matmul", mm(33, 9, tensor.F32), one(1)},
		{"matmul 700x130", "matmul", mm(700, 130, tensor.F32), one(1)},
		{"matmul f16", "matmul", mm(64, 31, tensor.F16), one(1)},
		{"codebookmatmul ternary", "codebookmatmul", lin(tensor.U2, ternaryLevels, 8, 256, 2), one(2)},
		{"codebookmatmul ragged", "codebookmatmul", lin(tensor.U2, ternaryLevels, 8, 96, 1), one(2)},
		{"codebookmatmul f32", "codebookmatmul", lin(tensor.U2, ternaryLevels, 0, 128, 1), one(2)},
		{"codebookmatmul u4", "codebookmatmul", lin(tensor.U4, oddLevels, 8, 128, 2), one(2)},
		{"codebookmatmul binary", "codebookmatmul", lin(tensor.U1, binaryLevels, 8, 256, 2), one(2)},
		{"codebookmatmul int8", "codebookmatmul", lin(tensor.I8, nil, 8, 256, 2), one(2)},
		{"rmsnorm", "rmsnorm", sample{attr: graph.NormAttr{Eps: 1e-6}, in: []operand{f32(normal, 64, 129), f32(normal, 129)}}, one(1)},
		{"normlinear", "normlinear", sample{attr: graph.NormAttr{Eps: 1e-6}, in: []operand{
			f32(normal, 64, 700), f32(normal, 700), f32(normal, 6, 700),
		}}, one(2)},
		{"softmax", "softmax", sample{in: []operand{f32(wide, 64, 129)}}, one(0)},
		{"swiglu", "swiglu", sample{in: []operand{f32(normal, 64, 129), f32(normal, 64, 129)}}, []bool{true, true}},
		{"int8", "int8", sample{in: []operand{f32(normal, 64, 129)}}, one(0)},
		{"streamread", "streamread", sample{in: []operand{f32(normal, 64, 2, 33), f32(normal, 2)}}, one(1)},
		{"streamwrite", "streamwrite", sample{in: []operand{f32(normal, 64, 2, 33), f32(normal, 64, 33), f32(normal, 2, 2), f32(normal, 2)}}, []bool{true, true, false, false}},
		{"streamread by row", "streamread", sample{in: []operand{f32(normal, 64, 4, 33), f32(normal, 64, 4)}}, []bool{true, true}},
		{"streamwrite by row", "streamwrite", sample{in: []operand{
			f32(normal, 64, 4, 33), f32(normal, 64, 33), f32(normal, 64, 4, 4), f32(normal, 64, 4),
		}}, []bool{true, true, true, true}},
		{"matmul 700x6", "matmul", mm(700, 6, tensor.F32), one(1)},
		{"gather", "gather", sample{in: []operand{f32(normal, 9, 33), i32(below(9), 64)}}, []bool{false, true}},
	}
}

func (t *tester) rowEntries() []suite.Entry {
	var all []suite.Entry
	for _, c := range rowCases() {
		all = append(all, check(c.name, rowsRule, rowsFix, func(ctx context.Context) (string, error) { return "", t.checkRows(ctx, c) }))
	}
	return append(all,
		check("attention", rowsRule, rowsFix, func(ctx context.Context) (string, error) { return "", t.checkAttentionRows(ctx) }),
		check("cached decode", "tokens fed one by one, or in chunks, through a cache in the store give the bits of the whole sequence",
			rowsFix, func(ctx context.Context) (string, error) { return "", t.checkDecode(ctx) }))
}

// slab is rows [lo,hi) of x along its first axis.
func slab(x *tensor.Tensor, lo, hi int) *tensor.Tensor {
	typ := tensor.Type{DType: x.DType, Shape: slices.Clone(x.Shape)}
	typ.Shape[0] = hi - lo
	y := tensor.New(typ)
	row := len(x.Data) / x.Shape[0]
	copy(y.Data, x.Data[lo*row:hi*row])
	return y
}

func (t *tester) checkRows(ctx context.Context, c rowCase) error {
	op := graph.Lookup(c.op)
	in := c.s.tensors(seed, c.name)
	whole, err := t.rowRun(ctx, op, c, in)
	if err != nil {
		return err
	}
	for _, r := range [][2]int{{0, 1}, {5, 6}, {63, 64}, {30, 31}, {3, 5}, {8, 11}, {16, 20}, {40, 47}, {0, 33}} {
		part := slices.Clone(in)
		for i, rows := range c.rest {
			if rows {
				part[i] = slab(in[i], r[0], r[1])
			}
		}
		got, err := t.rowRun(ctx, op, c, part)
		if err == nil {
			err = sameBits("rows alone", got, []*tensor.Tensor{slab(whole[0], r[0], r[1])})
		}
		if err != nil {
			return errors.Wrapf(err, "rows [%d,%d)", r[0], r[1])
		}
	}
	return nil
}

// rowRun gives the operands without rows as states, as a model does.
func (t *tester) rowRun(ctx context.Context, op *graph.Op, c rowCase, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
	st, args := states{}, []*tensor.Tensor{}
	g, err := graph.Trace(func(b *graph.Builder) {
		var x []graph.Value
		for i, a := range in {
			if c.rest[i] {
				x = append(x, b.Input(inputName(i), a.DType, a.Shape...))
				args = append(args, a)
			} else {
				x = append(x, b.Buffer(inputName(i), a.Type))
				st[inputName(i)] = a
			}
		}
		outputs(b, "y", b.Apply(op, c.s.attr, x...))
	})
	if err != nil {
		return nil, err
	}
	return t.be.once(ctx, g, st, args...)
}

// checkAttentionRows compares query rows of a whole sequence with the same
// rows alone against a longer cache whose end is junk.
func (t *tester) checkAttentionRows(ctx context.Context) error {
	const T, S, H, Hkv, D = 40, 64, 4, 2, 24
	s := sample{in: []operand{f32(normal, 1, T, H, D), f32(normal, 1, S, Hkv, D), f32(normal, 1, S, Hkv, D)}}
	in := s.tensors(seed, "attention rows")
	first := func(x *tensor.Tensor, lo, hi, width int) *tensor.Tensor {
		return tensor.FromF32(x.F32()[lo*width:hi*width], append([]int{1, hi - lo}, x.Shape[2:]...)...)
	}
	whole, err := t.attend(ctx, in[0], first(in[1], 0, T, Hkv*D), first(in[2], 0, T, Hkv*D), 0)
	if err != nil {
		return err
	}
	for i := T * Hkv * D; i < S*Hkv*D; i++ { // junk beyond what any row sees
		in[1].F32()[i], in[2].F32()[i] = 1e30, -1e30
	}
	want := whole[0]
	for _, r := range [][2]int{{0, 1}, {1, 2}, {7, 8}, {39, 40}, {8, 16}, {0, 17}, {24, 40}} {
		got, err := t.attend(ctx, first(in[0], r[0], r[1], H*D), in[1], in[2], int32(r[0]))
		if err != nil {
			return err
		}
		width := len(want.Data) / T
		part := &tensor.Tensor{Type: got[0].Type, Data: want.Data[r[0]*width : r[1]*width]}
		if err := sameBits("rows alone against a cache", got, []*tensor.Tensor{part}); err != nil {
			return errors.Wrapf(err, "rows [%d,%d)", r[0], r[1])
		}
	}
	return nil
}

func (t *tester) attend(ctx context.Context, q, k, v *tensor.Tensor, pos int32) ([]*tensor.Tensor, error) {
	g, err := graph.Trace(func(b *graph.Builder) {
		in := func(name string, x *tensor.Tensor) graph.Value { return b.Input(name, x.DType, x.Shape...) }
		b.Output("y", b.Attention(in("q", q), in("k", k), in("v", v), b.Input("pos", tensor.I32, 1)))
	})
	if err != nil {
		return nil, err
	}
	return t.be.once(ctx, g, nil, q, k, v, tensor.FromI32([]int32{pos}, 1))
}

// decoder is one attention layer over an embedding, with its cache in the
// store: tokens i32 [1,chunk] and pos i32 [1] give logits [chunk,vocab].
func decoder(chunk, rows int) (*graph.Graph, error) {
	const vocab, C, H, Hkv = 13, 24, 4, 2
	const D = C / H
	return graph.Trace(func(b *graph.Builder) {
		tokens, pos := b.Input("tokens", tensor.I32, 1, chunk), b.Input("pos", tensor.I32, 1)
		x := b.Reshape(b.Gather(b.Param("embedding", graph.NormalInit(1), vocab, C), tokens), chunk, C)
		h := norm(b, "norm", x)
		split := func(name string, heads int) graph.Value {
			return b.Reshape(linear(b, name, h, heads*D), 1, chunk, heads, D)
		}
		cached := func(name string, v graph.Value) graph.Value {
			cache := b.Buffer("cache."+name, tensor.T(tensor.F32, 1, rows, Hkv, D))
			next := b.UpdateAt(cache, v, pos, 1)
			b.Update(cache, next)
			return next
		}
		q, k := b.RoPE(split("q", H), pos, 1e4), b.RoPE(split("k", Hkv), pos, 1e4)
		a := b.Attention(q, cached("k", k), cached("v", split("v", Hkv)), pos)
		x = b.Add(x, linear(b, "o", b.Reshape(a, chunk, C), C))
		b.Output("logits", linear(b, "head", norm(b, "final", x), vocab))
	})
}

func (t *tester) checkDecode(ctx context.Context) error {
	const T, rows = 24, 32
	tokens := fillTensor(tensor.T(tensor.I32, 1, T), below(13), rng.NewKey(seed, "decode")).I32()
	whole, err := t.decodeChunks(ctx, tokens, rows, T)
	if err != nil {
		return err
	}
	for _, chunks := range [][]int{{1}, {8}, {8, 1}, {3, 1, 8}} {
		got, err := t.decodeChunks(ctx, tokens, rows, chunks...)
		if err != nil {
			return err
		}
		if err := sameBits("logits", []*tensor.Tensor{got}, []*tensor.Tensor{whole}); err != nil {
			return errors.Wrapf(err, "chunks of %v", chunks)
		}
	}
	return nil
}

// decodeChunks feeds tokens in chunks of the given lengths, in turn, the last
// length repeated; all run on one fork of the store that holds the weights.
func (t *tester) decodeChunks(ctx context.Context, tokens []int32, rows int, chunks ...int) (*tensor.Tensor, error) {
	var logits []byte
	var typ tensor.Type
	sessions := map[int]*session{}
	defer func() {
		for _, s := range sessions {
			_ = s.exec.Close()
		}
	}()
	g, err := decoder(1, rows)
	if err != nil {
		return nil, err
	}
	root, err := t.be.store(ctx, initStates(g))
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	fork, err := root.Fork()
	if err != nil {
		return nil, err
	}
	defer func() { _ = fork.Close() }()
	for pos, i := 0, 0; pos < len(tokens); i++ {
		n := min(chunks[min(i, len(chunks)-1)], len(tokens)-pos)
		if sessions[n] == nil {
			g, err := decoder(n, rows)
			if err != nil {
				return nil, err
			}
			exec, err := t.be.Compile(ctx, g)
			if err != nil {
				return nil, err
			}
			sessions[n] = &session{t: t.be, g: g, exec: exec, store: fork}
		}
		out, err := sessions[n].run(ctx, tensor.FromI32(tokens[pos:pos+n], 1, n), tensor.FromI32([]int32{int32(pos)}, 1))
		if err != nil {
			return nil, err
		}
		logits, typ = append(logits, out[0].Data...), out[0].Type
		pos += n
	}
	all := tensor.New(tensor.Type{DType: typ.DType, Shape: tensor.Shape{len(tokens), typ.Shape[1]}})
	copy(all.Data, logits)
	return all, nil
}
