package modelfile_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ternlm/tern/formats/ggml"
	"github.com/ternlm/tern/formats/huggingface"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/modelfile"
)

// transformersModels are directories that Hugging Face's transformers wrote, and
// the losses that it found in them: interop/transformers_models.py golden.
const transformersModels = "testdata/transformers"

// Where activations are rounded to 8 bits, a value beside the middle of two levels
// may go to one here and to the other there, and change a loss by some hundredths;
// none of these ids meets such a value, so that every position is exact.
func TestModelsOfTransformersHaveTheLossesThatItFinds(t *testing.T) {
	var golden struct {
		IDs    []int32
		Losses map[string][]float64
	}
	if err := json.Unmarshal(must(os.ReadFile(filepath.Join(transformersModels, "losses.json"))), &golden); err != nil {
		t.Fatal(err)
	}
	eachBackend(t, func(t *testing.T, be framework.Backend) {
		for name, want := range golden.Losses {
			got := lossesOf(t, be, filepath.Join(transformersModels, name), golden.IDs)
			if len(got) != len(want) {
				t.Fatalf("%s: %d losses, of transformers %d", name, len(got), len(want))
			}
			for i := range want {
				if d := math.Abs(got[i] - want[i]); !(d < 1e-5) {
					t.Fatalf("%s: position %d has loss %v, of transformers %v", name, i, got[i], want[i])
				}
			}
		}
	})
}

// What tern writes of models with Llama 3.1's and YaRN's frequencies, which config.json
// says as longrope, has the losses of what it read, bit for bit.
func TestScaledFrequenciesOfTransformersAreWrittenAsLongRoPE(t *testing.T) {
	be := scalarBackend(t)
	for _, name := range []string{"llama-llama3", "llama-yarn-deepseek"} {
		from, to := filepath.Join(transformersModels, name), filepath.Join(t.TempDir(), name)
		w := opened(t, from)
		if _, err := w.WriteHuggingFace(to, modelfile.HuggingFaceOptions{Type: ggml.F32}); err != nil {
			t.Fatal(err)
		}
		if s := must(huggingface.ReadConfig(to)).RopeScaling; s == nil || s.Type != "longrope" || s.AttentionFactor == 0 {
			t.Errorf("%s: written with %+v", name, s)
		}
		ids := []int32{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3, 2, 7, 9, 5}
		got, want := lossesOf(t, be, to, ids), lossesOf(t, be, from, ids)
		if !slices.Equal(got, want) {
			t.Errorf("%s: losses %v, were %v", name, got, want)
		}
	}
}

// lossesOf are the losses of all ids but the first, each given those before it.
func lossesOf(t *testing.T, be framework.Backend, path string, ids []int32) []float64 {
	t.Helper()
	w := must(modelfile.Open(path))
	defer w.Close()
	m := must(infer.Load(context.Background(), be, w, infer.CacheType(tensor.F32)))
	defer m.Close()
	s := must(m.NewSession())
	defer s.Close()
	var losses []float64
	for i, id := range ids[:len(ids)-1] {
		logits := must(s.Feed(context.Background(), []int32{id}))
		var sum float64
		for _, v := range logits {
			sum += math.Exp(float64(v))
		}
		losses = append(losses, math.Log(sum)-float64(logits[ids[i+1]]))
	}
	return losses
}
