package main

import (
	"strings"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/layers"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

// sizesOf are the weights that a model multiplies by.
type sizesOf struct {
	parameters int
	token      work    // of the linear layers and the head, for one token
	ternary    float64 // weights with codes
	floats     float64 // weights without, the head's included
	head       work    // of the head, for one token
	attention  float64 // operations for one token and one key
	cache      float64 // bytes of a key and its value
}

// sizes counts what a configuration multiplies by.
func sizes(c model.Config) (s sizesOf, err error) {
	m, err := model.New(c)
	if err != nil {
		return s, err
	}
	return sizesIn(m)
}

// sizesIn counts what a model multiplies by, each weight as it is stored.
func sizesIn(m *model.Model) (s sizesOf, err error) {
	c := m.Config
	params, err := m.Parameters()
	if err != nil {
		return s, err
	}
	for _, p := range params {
		n := p.Shape.Numel()
		s.parameters += n
		var w work
		head := p.Name == "lm_head.weight" || p.Category == model.Embedded && c.Tied
		switch stored := storedAs(m, p, head); {
		case p.Category != model.Ternary && p.Category != model.Linear && !head:
		case stored.Format.Quantized():
			if w, err = storedWork(stored, p.Shape); err != nil {
				return s, err
			}
			s.ternary += float64(n)
		default:
			w = work{F32: 2 * float64(n), Bytes: float64(n * stored.Float.Bytes())}
			s.floats += float64(n)
		}
		s.token = s.token.plus(w)
		if head {
			s.head = s.head.plus(w)
		}
	}
	s.attention = 4 * float64(c.Heads*c.HeadDim()) * float64(c.Layers)
	s.cache = 2 * 4 * float64(c.KVHeads) * float64(c.HeadDim()) * float64(c.Layers)
	return s, nil
}

// storedAs says how a parameter is stored when a file's model runs.
func storedAs(m *model.Model, p model.Parameter, head bool) layers.Stored {
	base := strings.TrimSuffix(p.Name, ".weight")
	s, ok := m.Stored(base)
	switch {
	case ok:
	case p.Category == model.Ternary:
		s.Format = m.QuantizerOf(base).Format()
	case head:
		s.Float = tensor.F16
	default:
		s.Float = tensor.F32
	}
	return s
}

// storedWork is that of one token by a weight of codes.
func storedWork(s layers.Stored, shape tensor.Shape) (work, error) {
	rows, cols, err := s.Format.Scales(shape[0], shape[1])
	if err != nil {
		return work{}, err
	}
	w := linearWork(s.Format, float64(shape.Numel()), float64(rows)*float64(cols))
	if s.Fine {
		w.Int8 *= 2
	}
	if s.Mins {
		w.F32 += 2 * float64(rows) * float64(cols)
		w.Bytes += 4 * float64(rows) * float64(cols)
	}
	return w, nil
}

// decodeWork is that of one token after so many others.
func (s sizesOf) decodeWork(before float64) work {
	return s.token.plus(work{F32: s.attention * (before + 1), Bytes: s.cache * (before + 1)})
}

// streamsWork is that of one token of one of so many sequences, each of which has
// so many others: the weights are read once for all.
func (s sizesOf) streamsWork(before, streams float64) work {
	w := s.decodeWork(before)
	w.Bytes -= s.token.Bytes * (1 - 1/streams)
	return w
}

// promptWork is that of a whole prompt: the weights are read once, the head
// once, and a token looks at half of the others.
func (s sizesOf) promptWork(n float64) work {
	w := s.token.times(n)
	w.Int8 -= (n - 1) * s.head.Int8
	w.F32 += n*s.attention*(n+1)/2 - (n-1)*s.head.F32
	w.Bytes = s.token.Bytes + n*s.cache
	return w
}

// all is the number of operations.
func (w work) all() float64 { return w.Int8 + w.F32 }

// linearWork is that of one token by weights of so many elements and scales.
func linearWork(f framework.Format, weights, scales float64) work {
	w := work{Bytes: weights*float64(f.Bits)/8 + 4*scales}
	if f.F16 {
		w.Bytes -= 2 * scales
	}
	if f.ActBits == 8 {
		w.Int8 = 2 * weights
	} else {
		w.F32 = 2 * weights
	}
	return w
}

// trainWork is that of one optimizer step: forward by the codes, backward to
// the input and the weight in f32, and the state read and written once.
func (s sizesOf) trainWork(r train.Recipe, muon float64) work {
	n := float64(r.TokensPerStep())
	w := work{Int8: s.token.Int8, F32: s.token.F32 + 4*(s.ternary+s.floats)}.times(n)
	w.F32 += n*3*s.attention*float64(r.Window+1)/2 + muon
	// Parameter, gradient and two moments read; three of them, and before that
	// the gradient, written.
	w.Bytes = 4 * 8 * float64(s.parameters)
	return w
}

// muonWork counts the products of Newton-Schulz iterations.
func muonWork(c model.Config, r train.Recipe) (flops float64, err error) {
	if r.Optimizer != "muon" {
		return 0, nil
	}
	m, err := model.New(c)
	if err != nil {
		return 0, err
	}
	params, err := m.Parameters()
	for _, p := range params {
		if (p.Category == model.Ternary || p.Category == model.Linear) && !strings.HasPrefix(p.Name, "lm_head.") {
			short, long := float64(min(p.Shape[0], p.Shape[1])), float64(max(p.Shape[0], p.Shape[1]))
			flops += 5 * (4*short*short*long + 2*short*short*short)
		}
	}
	return flops, err
}
