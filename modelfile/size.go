package modelfile

import (
	"strings"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// Sizes returns the bytes that each parameter of m takes in the GGUF file,
// padding aside, without making the weights: what Bytes sums up.
func Sizes(m *model.Model) (map[string]int64, error) {
	nodes, err := states(m)
	if err != nil {
		return nil, err
	}
	whole := map[string]ggml.Type{} // weights that become one tensor
	for _, n := range nodes {
		if base, ok := strings.CutSuffix(n.Name(), ".codes"); ok {
			if t, one := oneTensor(m.QuantizerOf(base).Format(), n); one {
				whole[base] = t
			}
		}
	}
	sizes := map[string]int64{}
	for _, n := range nodes {
		bytes := int64(n.Out[0].Bytes())
		base, codes := strings.CutSuffix(n.Name(), ".codes")
		base, scales := strings.CutSuffix(base, ".scales")
		t, one := whole[base]
		switch {
		case !codes && !scales:
			sizes[n.Name()] = bytes
			continue
		case one && scales:
			continue // inside the codes' tensor
		case one:
			if bytes, err = t.Bytes(n.Out[0].Shape); err != nil {
				return nil, err
			}
		}
		sizes[base+".weight"] += bytes
	}
	return sizes, nil
}

// oneTensor is the type of the tensor, Q2_0 or Q8_0, that the codes in state n become
// with their scales, if they become one.
func oneTensor(f framework.Format, n *graph.Node) (t ggml.Type, ok bool) {
	k, group := n.Out[0].Shape[1], f.Group
	if group < 0 {
		group = k
	}
	t, ok = blocksOf(f)
	return t, ok && f.F16 && k%t.Block() == 0 && group%t.Block() == 0
}

// blocksOf is the type whose blocks have codes of format f as they are.
func blocksOf(f framework.Format) (t ggml.Type, ok bool) {
	switch {
	case f.Code() == tensor.U2 && isTernary(f):
		return ggml.Q2_0, true
	case f.Code() == tensor.I8 && f.F16 && f.Group == ggml.Q8_0.Block(): // more weights to a scale would take fewer bytes as two tensors
		return ggml.Q8_0, true
	}
	return 0, false
}
