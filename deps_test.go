package tern

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ternlm/tern"

// layers lists the packages, lowest first. A package may import only packages
// of lines above its own. Changing this table takes a decision record.
const layers = `
	backends/gpu/cuda/internal/driver backends/gpu/cuda/internal/fake framework/tensor framework/rng internal/atomicfile internal/mmap internal/regularfile internal/filelock sweep/stats data/tinystories tokenizer plugins/internal/wire plugins/internal/process plugins/internal/arena
	backends/gpu/cuda/internal/kernel backends/gpu/cuda/internal/cu framework/graph formats/ggml formats/safetensors formats/mhc data
	framework/compile backends/gpu/cuda/internal/roofline backends/gpu/cuda/internal/stack backends/gpu/cuda/probe backends/gpu/cuda/simulated plugins/internal/fragment formats/checkpoint formats/gguf formats/huggingface formats/llama2c
	framework stories
	plugins/store framework/internal/suite framework/internal/eval internal/memory backends/gpu/cuda/internal/engine backends/internal/host residual quant backends/avx2/internal/simd
	backends/gpu/cuda/internal/cudatest backends/gpu/cuda/internal/fuse backends/gpu/cuda/internal/ops/quantized backends/gpu/cuda/internal/ops/multi framework/backendtest framework/quanttest framework/residualtest
	backends/gpu/cuda/internal/ops/linear backends/gpu/cuda/internal/ops/attention backends/gpu/cuda/internal/ops/rows backends/scalar layers
	backends/gpu/cuda/internal/ops/joined
	backends/avx2 backends/gpu/cuda model plugins
	backends/all backends/gpu backends/gpu/cmd/gpu-check backends/gpu/cmd/tern-plugin-cuda modelfile plugins/conformance plugins/cmd/tern-plugin-scalar
	diagnose
	train
	infer internal/config sweep
	sweep/array
	sweep/local sweep/array sweep/report
	sweep/slurm sweep/kubernetes
	cmd/tern interop/big
`

// only says which packages may import a third-party module (by prefix).
var only = map[string][]string{
	"github.com/klauspost/cpuid/":     {"backends/avx2", "backends/avx2/internal/simd", "cmd/tern"},
	"github.com/pkoukk/tiktoken":      {"tokenizer"},
	"github.com/parquet-go/":          {"data"},
	"github.com/klauspost/compress/":  {"data", "data/tinystories"},
	"github.com/hashicorp/go-plugin":  {"plugins", "plugins/internal/process"},
	"github.com/hashicorp/go-hclog":   {"plugins", "plugins/internal/process"},
	"google.golang.org/grpc":          {"plugins", "plugins/internal/process", "plugins/internal/wire"},
	"google.golang.org/protobuf":      {"formats/huggingface", "plugins/internal/wire"},
	"gonum.org/":                      {"cmd/tern", "diagnose", "sweep/stats", "sweep/report"},
	"github.com/spf13/":               {"cmd/tern", "internal/config"},
	"go.yaml.in/yaml/":                {"internal/config", "cmd/tern", "sweep", "sweep/kubernetes"},
	"golang.org/x/term":               {"cmd/tern"},
	"golang.org/x/sys":                {"backends/gpu/cuda/internal/driver", "internal/atomicfile", "internal/filelock", "sweep", "internal/mmap", "plugins/internal/process", "plugins/internal/arena"},
	"github.com/ebitengine/purego":    {"backends/gpu/cuda/internal/driver"},
	"github.com/gpustack/":            {},
	"github.com/rogpeppe/go-internal": {},
	"pgregory.net/rapid":              {},
	"testing":                         {"framework/backendtest", "framework/quanttest", "framework/residualtest", "framework/internal/suite"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

// name is the package's path within the module.
func (p pkg) name() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestImportsPointDownwards(t *testing.T) {
	rank := map[string]int{".": 1}
	for i, line := range strings.Split(strings.TrimSpace(layers), "\n") {
		for _, p := range strings.Fields(line) {
			rank[p] = i + 1
		}
	}
	for _, p := range packages(t) {
		me := p.name()
		if rank[me] == 0 {
			t.Errorf("%s is in no layer", me)
		}
		for _, imp := range p.Imports {
			if dep, ok := strings.CutPrefix(imp, module+"/"); ok && rank[dep] >= rank[me] {
				t.Errorf("%s imports %s, which is not below it", me, dep)
			}
		}
	}
}

func TestThirdPartyModulesStayWhereTheyBelong(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.Imports {
			for prefix, allowed := range only {
				if strings.HasPrefix(imp, prefix) && !slices.Contains(allowed, p.name()) {
					t.Errorf("%s imports %s, which only %v may", p.name(), imp, allowed)
				}
			}
		}
	}
}
