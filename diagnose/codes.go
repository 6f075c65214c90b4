package diagnose

import (
	"context"
	"math/bits"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/model"
)

// Codes follows the codes of a model's quantized weights.
type Codes struct {
	names []string // of the buffers
	zero  int      // the code that stands for 0, -1 for none
	last  map[string][]byte
}

// NewCodes lists the codes of m, but for those of a head with a quantizer of its own,
// which are so many that nothing would be seen of the others.
func NewCodes(m *model.Model) (*Codes, error) {
	params, err := m.Parameters()
	if err != nil {
		return nil, errors.Wrap(err, "diagnosis")
	}
	c := &Codes{zero: slices.Index(m.Quantizer().Format().Levels, 0), last: map[string][]byte{}}
	for _, p := range params {
		base := strings.TrimSuffix(p.Name, ".weight")
		if p.Category == model.Ternary && (base != "lm_head" || m.Head != model.HeadInt8) {
			c.names = append(c.names, base+".codes")
		}
	}
	return c, nil
}

// Run returns the share of codes in s that stand for 0, and of those that
// changed since the last Run: nil in the first, or without codes.
func (c *Codes) Run(ctx context.Context, s framework.Store) (zeros float64, flips *float64, err error) {
	var total, zero, flipped int
	first := len(c.last) == 0
	for _, name := range c.names {
		t, err := s.Get(ctx, name)
		if err != nil {
			return 0, nil, errors.Wrap(err, "diagnosis")
		}
		total += t.Shape.Numel()
		zero += countCode(t.Data, t.DType.Block(), c.zero) - padding(t.Type, c.zero)
		flipped += countDifferent(c.last[name], t.Data, t.DType.Block())
		c.last[name] = t.Data
	}
	if total == 0 {
		return 0, nil, nil
	}
	if !first {
		share := float64(flipped) / float64(total)
		flips = &share
	}
	return float64(zero) / float64(total), flips, nil
}

// padding counts the codes 0 that only fill up the last byte of rows.
func padding(t tensor.Type, code int) int {
	if code != 0 {
		return 0
	}
	return t.Bytes()*t.DType.Block() - t.Shape.Numel()
}

// countCode counts the elements equal to code; block elements share a byte.
func countCode(data []byte, block, code int) int {
	n, width := 0, 8/block
	for _, b := range data {
		for i := range block {
			if int(b>>(i*width))&(1<<width-1) == code {
				n++
			}
		}
	}
	return n
}

// countDifferent counts the elements in which a and b differ.
func countDifferent(a, b []byte, block int) int {
	if len(a) != len(b) {
		return 0
	}
	n, width := 0, 8/block
	low := byte(0) // the lowest bit of each element
	for i := range block {
		low |= 1 << (i * width)
	}
	for i := range a {
		x := a[i] ^ b[i]
		for s := 1; s < width; s <<= 1 {
			x |= x >> s
		}
		n += bits.OnesCount8(x & low)
	}
	return n
}
