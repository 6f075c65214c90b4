package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/rng"
	"github.com/ternlm/tern/framework/tensor"
)

// reportShapes are those of the report's table of its own kernel.
const reportShapes = "128x128,256x256,512x512,1024x1024,2048x2048,4096x4096,4096x11008,11008x4096"

// maxSide bounds the sizes of a shape.
const maxSide = 1 << 20

const defaultQuant = "ternary:group=128"

// kernelsFlags are those of tern bench kernels.
type kernelsFlags struct {
	shapes     string
	tokens     []int
	quant      string
	levels     []int // of a code book instead; nil is quant
	gemm       bool
	gemmShapes string
}

func newBenchKernelsCmd(a *app) *cobra.Command {
	var f benchFlags
	var k kernelsFlags
	cmd := &cobra.Command{
		Use:   "kernels",
		Short: "Measure the products by quantized weights, and f32 products",
		Long: "Measures tokens times a quantized weight [ROWS,COLS] as a model runs it: a compiled graph of many such products, each of\n" +
			"rows of its own by the one weight, all in the backend's memory. Starting the graph is shared by so many of them that\n" +
			"it does not count; quantizing the activations, and handing the work to threads, counts. The weight stays in whatever\n" +
			"cache it fits. GOPS are 2 x ROWS x COLS x tokens / time / 10^9.\n\n" +
			"--gemm adds the f32 products of a linear layer's training: X W^T, dY W and dY^T X for TOKENS x ROWS x COLS, what a backend\n" +
			"does to lay out their operands included.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("gemm-shape") && !k.gemm {
				return usagef("add --gemm", "--gemm-shape %s without --gemm: f32 products are not measured", k.gemmShapes)
			}
			if cmd.Flags().Changed("quant") && k.levels != nil {
				return usagef("leave one of them out", "--quant beside --levels: both name a code book")
			}
			return a.bench(cmd.Context(), f, "kernels", k.cases)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&k.shapes, "shape", reportShapes, "ROWSxCOLS of the weights, separated by commas; none")
	fs.IntSliceVar(&k.tokens, "tokens", []int{1}, "tokens at once, such as 1,4,16,64")
	fs.StringVar(&k.quant, "quant", defaultQuant, "quantizer of the weights")
	fs.IntSliceVar(&k.levels, "levels", nil, "instead of --quant a code book of 2, 4 or up to 16 levels from -127 to 127, ascending, with groups of 128")
	fs.BoolVar(&k.gemm, "gemm", false, "also measure f32 products in the shapes of training")
	fs.StringVar(&k.gemmShapes, "gemm-shape", trainingShapes, "TOKENSxROWSxCOLS of --gemm")
	f.add(fs, 5, 0.2)
	return cmd
}

// cases are the products by size, those by quantized weights first.
func (k kernelsFlags) cases(_ context.Context, l *lab, _ string) ([]benchCase, error) {
	q, err := k.quantizer()
	if err != nil {
		return nil, err
	}
	shapes, err := parseShapes("shape", k.shapes, "ROWSxCOLS")
	if err != nil {
		return nil, err
	}
	var all []benchCase
	for _, n := range k.tokens {
		if n < 1 || n > 1<<16 {
			return nil, usagef("choose 1 to 65536", "--tokens %d", n)
		}
		for _, s := range shapes {
			c, err := kernelCase(q, s[0], s[1], n, l.threadsOf("kernels"))
			if err != nil {
				return nil, err
			}
			if err := l.fitsKernel(q, s[0], s[1], n); err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
	if !k.gemm && len(all) == 0 {
		return nil, usagef("name a shape, or add --gemm", "--shape %s without --gemm: there is nothing to measure", k.shapes)
	}
	if !k.gemm {
		return all, nil
	}
	if shapes, err = parseShapes("gemm-shape", k.gemmShapes, "TOKENSxROWSxCOLS"); err != nil {
		return nil, err
	}
	for _, f := range gemmForms {
		for _, s := range shapes {
			if err := l.fitsGemm(f, s[0], s[1], s[2]); err != nil {
				return nil, err
			}
			all = append(all, gemmCase(f, s[0], s[1], s[2], l.threadsOf("gemm")))
		}
	}
	if len(all) == 0 {
		return nil, usagef("name a shape", "--shape %s and --gemm-shape %s: there is nothing to measure", k.shapes, k.gemmShapes)
	}
	return all, nil
}

// quantizer is that of the weights.
func (k kernelsFlags) quantizer() (framework.Quantizer, error) {
	if k.levels != nil {
		return newBook(k.levels)
	}
	return framework.Quantizers.Open(k.quant)
}

// parseShapes reads a list such as 128x128,4096x11008, each with so many
// sizes; "none" is no shape.
func parseShapes(flag, list, form string) ([][]int, error) {
	if list == "none" {
		return nil, nil
	}
	var shapes [][]int
	for _, s := range strings.Split(list, ",") {
		var shape []int
		for _, size := range strings.Split(strings.ToLower(strings.TrimSpace(s)), "x") {
			n, err := strconv.Atoi(size)
			if err != nil || n < 1 || n > maxSide {
				return nil, usagef("a shape is "+form+", each from 1 to "+fmt.Sprint(maxSide), "--%s %s", flag, s)
			}
			shape = append(shape, n)
		}
		if len(shape) != strings.Count(form, "x")+1 {
			return nil, usagef("a shape is "+form, "--%s %s", flag, s)
		}
		shapes = append(shapes, shape)
	}
	return shapes, nil
}

// copiesFor is how often a graph repeats a product of so many operations: a
// run of it takes long enough that starting it does not count.
func copiesFor(ops, enough float64, most int) int { return max(1, min(int(enough/ops), most)) }

// kernelCopies is copiesFor a product by a quantized weight.
func kernelCopies(m, k, tokens int) int {
	return copiesFor(2*float64(m)*float64(k)*float64(tokens), 5e7, 512)
}

// kernelCase measures the product of tokens by a quantized weight [m,k].
func kernelCase(q framework.Quantizer, m, k, tokens int, threads []int) (benchCase, error) {
	f := q.Format()
	if !f.Quantized() {
		return benchCase{}, usagef("--gemm measures f32 products", "--quant %s: its weights are no codes", q.Spec())
	}
	kind, _, _ := strings.Cut(q.Spec(), ":")
	rows, cols, err := f.Scales(m, k)
	if _, ours := q.(book); ours && err != nil {
		return benchCase{}, usagef("choose another --shape", "--shape %dx%d: %v", m, k, err)
	}
	if err != nil {
		return benchCase{}, usagef(fmt.Sprintf("choose another --shape, or one scale a row: --quant %s:group=row", kind), "--shape %dx%d: %v", m, k, err)
	}
	ops := 2 * float64(m) * float64(k) * float64(tokens)
	c := benchCase{
		part: "kernels", threads: threads, series: fmt.Sprintf("%s, %s", q.Spec(), plural(tokens, "token")), name: fmt.Sprintf("%dx%d", m, k),
		unit: "GOPS", item: "product", units: ops / 1e9,
		params: map[string]any{"rows": m, "cols": k, "tokens": tokens, "quant": q.Spec()},
		values: map[string]string{"rows": fmt.Sprint(m), "cols": fmt.Sprint(k), "tokens": fmt.Sprint(tokens), "quant": q.Spec()},
		work:   linearWork(f, float64(m)*float64(k), float64(rows)*float64(cols)),
		open: func(ctx context.Context, be framework.Backend) (subject, error) {
			return newKernel(ctx, be, q, m, k, tokens, kernelCopies(m, k, tokens))
		},
	}
	if b, ours := q.(book); ours {
		c.params["levels"] = b.Format().Levels
	}
	c.work.Int8, c.work.F32 = c.work.Int8*float64(tokens), c.work.F32*float64(tokens)
	c.work.Bytes += 4 * float64(tokens) * float64(m+k)
	c.scalar = scalarKernel(q, m, k, tokens)
	return c, nil
}

// scalarKernel measures few tokens and few rows: its rate is the same.
func scalarKernel(q framework.Quantizer, m, k, tokens int) *scalarCase {
	fewTokens := min(tokens, 4)
	few := max(16, min(m, (1<<24)/(k*fewTokens)))
	few = min(few, m)
	s := &scalarCase{factor: 1, open: func(ctx context.Context, be framework.Backend) (subject, error) {
		return newKernel(ctx, be, q, few, k, fewTokens, 1)
	}}
	if few != m || fewTokens != tokens {
		s.note = fmt.Sprintf("by %dx%d, %s", few, k, plural(fewTokens, "token"))
	}
	return s
}

// graphRun runs a graph whose operands and results are all states: nothing is
// copied in or out.
type graphRun struct {
	exe   framework.Executable
	store framework.Store
	units float64 // of a run
}

func (r *graphRun) Run(ctx context.Context) (float64, error) {
	return r.units, r.exe.Run(ctx, r.store, nil, nil)
}

func (r *graphRun) Close() error { return errors.CombineErrors(r.exe.Close(), r.store.Close()) }

// newGraphRun compiles g for a store with its parameters drawn and the states
// given.
func newGraphRun(ctx context.Context, be framework.Backend, g *graph.Graph, states map[string]*tensor.Tensor) (*graphRun, error) {
	s, err := be.NewStore()
	if err != nil {
		return nil, err
	}
	for name, t := range states {
		err = errors.CombineErrors(err, s.Put(ctx, name, t))
	}
	for _, n := range g.Params() {
		t := tensor.New(n.Out[0])
		drawNormal(t.F32(), n.Name(), 0, 1)
		err = errors.CombineErrors(err, s.Put(ctx, n.Name(), t))
	}
	if err != nil {
		return nil, errors.CombineErrors(err, s.Close())
	}
	exe, err := be.Compile(ctx, g)
	if err != nil {
		return nil, errors.CombineErrors(err, s.Close())
	}
	return &graphRun{exe: exe, store: s}, nil
}

// drawn is how many numbers drawNormal draws; they are repeated.
const drawn = 1<<16 + 1

// drawNormal fills v from the stream of a name.
func drawNormal(v []float32, name string, mean, std float64) {
	rng.NewKey(1, name).FillNormal(v[:min(drawn, len(v))], mean, std)
	for i := drawn; i < len(v); i += drawn {
		copy(v[i:], v[:drawn])
	}
}

// traceKernel is the graph of newKernel.
func traceKernel(q framework.Quantizer, m, k, tokens, copies int) (*graph.Graph, error) {
	f := q.Format()
	rows, cols, err := f.Scales(m, k)
	if err != nil {
		return nil, err
	}
	return graph.Trace(func(b *graph.Builder) {
		codes := b.GlobalBuffer("codes", tensor.T(f.Code(), m, k))
		scales := b.GlobalBuffer("scales", tensor.T(tensor.F32, rows, cols))
		for i := range copies {
			x := b.GlobalParam(fmt.Sprintf("x.%d", i), graph.Init{}, tokens, k)
			y := b.CodeBookMatMul(x, codes, scales, f.Linear())
			b.Update(b.GlobalBuffer(fmt.Sprintf("y.%d", i), y.Type()), y)
		}
	})
}

// tracePack is the graph that makes the states codes and scales of a weight.
func tracePack(q framework.Quantizer, m, k int) (*graph.Graph, error) {
	return graph.Trace(func(b *graph.Builder) {
		codes, scales := q.Pack(b, b.GlobalParam("w", graph.Init{}, m, k))
		b.Update(b.GlobalBuffer("codes", codes.Type()), codes)
		b.Update(b.GlobalBuffer("scales", scales.Type()), scales)
	})
}

// newKernel repeats the product of tokens by one weight, for rows of its own
// each time.
func newKernel(ctx context.Context, be framework.Backend, q framework.Quantizer, m, k, tokens, copies int) (*graphRun, error) {
	states, err := packRandom(ctx, be, q, m, k)
	if err != nil {
		return nil, err
	}
	g, err := traceKernel(q, m, k, tokens, copies)
	if err != nil {
		return nil, errors.Wrap(err, "trace the product")
	}
	r, err := newGraphRun(ctx, be, g, states)
	if err != nil {
		return nil, err
	}
	r.units = 2 * float64(m) * float64(k) * float64(tokens) * float64(copies) / 1e9
	return r, nil
}

// packRandom gives the states codes and scales of a random weight [m,k].
func packRandom(ctx context.Context, be framework.Backend, q framework.Quantizer, m, k int) (states map[string]*tensor.Tensor, err error) {
	g, err := tracePack(q, m, k)
	if err != nil {
		return nil, errors.Wrap(err, "trace packing")
	}
	r, err := newGraphRun(ctx, be, g, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.CombineErrors(err, r.Close()) }()
	if _, err := r.Run(ctx); err != nil {
		return nil, err
	}
	states = map[string]*tensor.Tensor{}
	for _, name := range []string{"codes", "scales"} {
		if states[name], err = r.store.Get(ctx, name); err != nil {
			return nil, err
		}
	}
	return states, nil
}
