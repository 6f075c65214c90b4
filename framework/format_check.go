package framework

import (
	"math"
	"slices"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// ErrFormat is returned for a format of weights that no kernel and no file could
// hold.
var ErrFormat = errors.New("bad format of weights")

// Check returns ErrFormat, wrapped, for a format that cannot be, such as one that
// another program names. Weights that stay f32 are a format.
func (f Format) Check() error {
	bad := func(format string, args ...any) error { return errors.Wrapf(ErrFormat, format, args...) }
	distinct := len(slices.Compact(slices.Sorted(slices.Values(f.Levels))))
	switch {
	case f.Bits == 0 && len(f.Levels) == 0:
		return nil
	case f.Code() == tensor.Invalid:
		return bad("%d bits a code, wants 1, 2, 4 or 8", f.Bits)
	case f.Bits == 8 && len(f.Levels) > 0:
		return bad("%d levels for codes of 8 bits, which are levels themselves", len(f.Levels))
	case f.Bits < 8 && (len(f.Levels) < 2 || len(f.Levels) > 1<<f.Bits):
		return bad("%d levels for codes of %d bits", len(f.Levels), f.Bits)
	case distinct != len(f.Levels) || slices.Contains(f.Levels, -128):
		return bad("levels %v: wants distinct ones from -127 to 127", f.Levels)
	case f.Group < 1 && f.Group != GroupRow && f.Group != GroupTensor:
		return bad("group %d", f.Group)
	case f.ActBits != 0 && f.ActBits != 8:
		return bad("%d bits for activations, wants 8 or 0", f.ActBits)
	case math.IsNaN(f.Density) || f.Density < 0 || f.Density > float64(f.Bits):
		return bad("density %v for codes of %d bits", f.Density, f.Bits)
	}
	return nil
}
