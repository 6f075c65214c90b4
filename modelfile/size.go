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
	f := m.Quantizer().Format()
	whole := map[string]bool{} // weights that become one Q2_0 tensor
	for _, n := range nodes {
		if base, ok := strings.CutSuffix(n.Name(), ".codes"); ok {
			whole[base] = oneTensor(f, n)
		}
	}
	sizes := map[string]int64{}
	for _, n := range nodes {
		bytes := int64(n.Out[0].Bytes())
		base, codes := strings.CutSuffix(n.Name(), ".codes")
		base, scales := strings.CutSuffix(base, ".scales")
		switch {
		case !codes && !scales:
			sizes[n.Name()] = bytes
			continue
		case whole[base] && scales:
			continue // inside the codes' tensor
		case whole[base]:
			if bytes, err = ggml.Q2_0.Bytes(n.Out[0].Shape); err != nil {
				return nil, err
			}
		}
		sizes[base+".weight"] += bytes
	}
	return sizes, nil
}

// oneTensor reports whether the codes in state n become one Q2_0 tensor.
func oneTensor(f framework.Format, n *graph.Node) bool {
	k, group := n.Out[0].Shape[1], f.Group
	if group < 0 {
		group = k
	}
	return n.Out[0].DType == tensor.U2 && isTernary(f) && f.F16 && k%ggml.Q2_0.Block() == 0 && group%ggml.Q2_0.Block() == 0
}
