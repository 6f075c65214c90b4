package backendtest

import (
	"slices"

	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
)

// tails are row lengths around the vector widths of processors.
var tails = []int{1, 3, 7, 8, 9, 31, 33, 127, 129}

// table holds the samples of every op that is not a pullback. An op that is
// missing here fails the suite.
var table = map[string][]sample{
	"input": leafSamples(), "param": leafSamples(), "buffer": leafSamples(),
	"const": constSamples(), "iota": iotaSamples(),
	"neg": unarySamples(normal), "exp": unarySamples(normal), "log": unarySamples(positive),
	"sqrt": unarySamples(positive), "rsqrt": unarySamples(positive), "sin": unarySamples(wide),
	"cos": unarySamples(wide), "abs": unarySamples(lattice(0.25)), "sigmoid": unarySamples(wide),
	"round": append(unarySamples(lattice(0.25)), sample{in: []operand{f32(halves, 5, 33)}}),
	"scale": withAttr(unarySamples(normal), graph.ConstAttr{Value: -0.3}),
	"add":   binarySamples(normal, normal), "sub": binarySamples(normal, normal),
	"mul": binarySamples(normal, normal), "div": binarySamples(normal, positive),
	"max": binarySamples(lattice(0.25), lattice(0.75)), "min": binarySamples(lattice(0.25), lattice(0.75)),
	"less": binarySamples(halves, halves), "equal": binarySamples(halves, halves),
	"where": whereSamples(), "cast": castSamples(),
	"through": viewSamples(2), "cut": viewSamples(1),
	"sum": reduceSamples(), "amax": reduceSamples(),
	"reshape": reshapeSamples(), "transpose": transposeSamples(), "broadcast": broadcastSamples(),
	"slice": sliceSamples(), "pad": padSamples(), "concat": concatSamples(),
	"gather": gatherSamples(), "scatteradd": scatterSamples(), "updateat": updateSamples(),
	"matmul": matmulSamples(), "encode": encodeSamples(), "decode": decodeSamples(),
	"rmsnorm": normSamples(), "normlinear": normLinearSamples(), "swiglu": swigluSamples(), "softmax": softmaxSamples(),
	"rope": ropeSamples(), "attention": attentionSamples(), "crossentropy": lossSamples(),
	"int8": int8Samples(), "bitlinear": linearSamples(true), "codebookmatmul": linearSamples(false),
	"linearcrossentropy": headSamples(), "bitlinearcrossentropy": quantizedHeadSamples(true), "codebookcrossentropy": quantizedHeadSamples(false),
	"streamread": streamReadSamples(), "streamwrite": streamWriteSamples(), "adamw": adamSamples(),
}

func leafSamples() []sample {
	same := func(_ *graph.Builder, x []graph.Value) []graph.Value { return x }
	var out []sample
	for _, o := range []operand{
		f32(normal), f32(normal, 1), f32(normal, 5, 33), of(tensor.F16, normal, 7), of(tensor.BF16, normal, 3, 3),
		i32(below(1000), 9), of(tensor.Bool, below(2), 33), of(tensor.U1, below(2), 3, 9), of(tensor.U2, below(3), 5, 7), of(tensor.U4, below(16), 3, 31),
	} {
		out = append(out, sample{in: []operand{o}, build: same})
	}
	return out
}

func constSamples() []sample {
	var out []sample
	for _, t := range []tensor.Type{tensor.T(tensor.F32), tensor.T(tensor.F32, 5, 33), tensor.T(tensor.I32, 7)} {
		for _, v := range []float64{0, -3, 7} {
			out = append(out, sample{attr: graph.ConstAttr{Value: v, Type: t.String()}})
		}
	}
	list := graph.ConstAttr{Values: []float64{1, -2, 0.5, 0.25, 8, -0.125}, Type: tensor.T(tensor.F32, 2, 3).String()}
	return append(out, sample{attr: list})
}

func iotaSamples() []sample {
	var out []sample
	for _, n := range tails {
		out = append(out, sample{attr: graph.LenAttr{N: n}})
	}
	return out
}

func withAttr(in []sample, attr any) []sample {
	out := slices.Clone(in)
	for i := range out {
		out[i].attr = attr
	}
	return out
}

func unarySamples(fill filler) []sample {
	out := []sample{
		{in: []operand{f32(fill)}},
		{in: []operand{f32(fill, 3, 5)}, fd: true},
		{in: []operand{f32(fill, 5, 7, 9)}},
		{in: []operand{f32(fill, 37, 1025)}, big: true},
	}
	for _, n := range tails {
		out = append(out, sample{in: []operand{f32(fill, n)}})
	}
	return out
}

func binarySamples(x, y filler) []sample {
	var out []sample
	add := func(fd bool, a, b []int) {
		out = append(out, sample{in: []operand{f32(x, a...), f32(y, b...)}, fd: fd})
	}
	for _, n := range tails {
		add(false, []int{n}, []int{n})
		add(n == 3, []int{5, n}, []int{1, n}) // a row
		add(false, []int{1, n}, []int{5, n})
		add(n == 7, []int{5, n}, []int{5, 1}) // a column
		add(false, []int{5, 1}, []int{5, n})
		add(false, []int{5, n}, []int{1, 1})
		add(n == 3, []int{1, 1}, []int{5, n})
		add(n == 8, []int{5, 1}, []int{1, n}) // an outer product
	}
	add(false, nil, nil)
	add(true, []int{2, 5}, []int{2, 5})
	add(true, []int{3, 1, 2}, []int{3, 4, 2})
	add(false, []int{3, 1, 7}, []int{3, 5, 7})
	add(false, []int{2, 3, 1, 9}, []int{1, 3, 5, 1})
	out = append(out, sample{in: []operand{f32(x, 41, 1025), f32(y, 41, 1025)}, big: true},
		sample{in: []operand{f32(x, 41, 1025), f32(y, 1, 1025)}, big: true})
	return out
}

func whereSamples() []sample {
	var out []sample
	add := func(fd bool, c, x, y []int) {
		out = append(out, sample{in: []operand{of(tensor.Bool, below(2), c...), f32(normal, x...), f32(normal, y...)}, fd: fd})
	}
	for _, n := range tails {
		add(n == 7, []int{n}, []int{n}, []int{n})
		add(n == 3, []int{1, n}, []int{5, n}, []int{5, 1})
		add(false, []int{5, n}, []int{1, 1}, []int{5, n})
		add(false, []int{5, n}, []int{5, n}, []int{1, 1})
		add(false, []int{5, 1}, []int{1, n}, []int{1, 1})
	}
	add(false, []int{2, 1, 4, 1}, []int{2, 3, 4, 5}, []int{1, 3, 1, 5})
	return out
}

func castSamples() []sample {
	to := func(from, d tensor.DType, fill filler, dims ...int) sample {
		return sample{attr: graph.CastAttr{To: d.String()}, in: []operand{of(from, fill, dims...)}}
	}
	var out []sample
	for _, n := range tails {
		out = append(out,
			to(tensor.F32, tensor.F16, normal, 3, n), to(tensor.F32, tensor.BF16, normal, 3, n),
			to(tensor.F16, tensor.F32, normal, n), to(tensor.BF16, tensor.F32, normal, n),
			to(tensor.I32, tensor.F32, below(1<<20), n), to(tensor.Bool, tensor.F32, below(2), n))
	}
	return append(out, to(tensor.F32, tensor.F16, listed(65504, 1e-7, 6e-5, -70000, 2049, 2051, 0), 7))
}

func viewSamples(n int) []sample {
	var out []sample
	for _, dims := range [][]int{{1}, {7}, {5, 33}} {
		s := sample{fd: len(dims) == 1 && n == 1}
		for range n {
			s.in = append(s.in, f32(normal, dims...))
		}
		out = append(out, s)
	}
	return out
}

func reduceSamples() []sample {
	var out []sample
	add := func(s sample, axis int, dims ...int) {
		s.attr, s.in = graph.AxisAttr{Axis: axis}, []operand{f32(normal, dims...)}
		out = append(out, s)
	}
	for _, n := range tails {
		add(sample{fd: n == 7}, 0, n)
		add(sample{fd: n == 3}, 1, 5, n)
		add(sample{fd: n == 8}, 0, 5, n)
		add(sample{}, 0, n, 5)
		add(sample{}, 1, 3, n, 4)
	}
	add(sample{big: true}, 1, 67, 1025)
	add(sample{big: true}, 0, 1025, 67)
	add(sample{}, 2, 2, 3, 5, 7)
	return out
}
