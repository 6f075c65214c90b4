package modelfile

import (
	"fmt"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/mhc"
	"github.com/ternlm/tern/residual"
)

// MHC returns the parameters of an mHC-lite residual as the content of a .mhc
// file; ok is false for other residuals.
func (w *Weights) MHC() (f *mhc.File, ok bool) {
	r, ok := w.Model.Residual().(residual.MHCLite)
	if !ok {
		return nil, false
	}
	f = &mhc.File{Version: 1, Streams: r.Streams}
	for l := range 2 * w.Model.Layers {
		get := func(name string) []float32 {
			return w.Tensors[fmt.Sprintf("blk.%d.%s.mhc.%s", l/2, []string{"attn", "ffn"}[l%2], name)].F32()
		}
		res := "alpha_logit"
		if r.Streams != 2 {
			res = "res_logits"
		}
		f.SubLayers = append(f.SubLayers, mhc.Params{
			Res: get(res), PreLogits: get("pre_logits"), PreBias: get("pre_bias"),
			PostLogits: get("post_logits"), PostBias: get("post_bias"),
		})
	}
	return f, true
}

// WriteMHC writes the .mhc file of an mHC-lite residual to path.
func (w *Weights) WriteMHC(path string) error {
	f, ok := w.MHC()
	if !ok {
		return errors.WithHint(errors.Wrapf(ErrModel, "residual %s has no .mhc file", w.Model.Config.Residual), "only mhclite has one")
	}
	return errors.Wrapf(mhc.WriteFile(path, f), "write %s", path)
}
