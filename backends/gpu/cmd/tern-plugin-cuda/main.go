// Command tern-plugin-cuda computes on a CUDA device. tern starts it for --backend
// gpu; by hand,
//
//	tern-plugin-cuda check      says which libraries and devices are found, and what is missing
//	tern-plugin-cuda describe   says what the plugin is
package main

import (
	"os"

	"github.com/ternlm/tern/backends/gpu/cuda"
	"github.com/ternlm/tern/plugins"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "check" {
		os.Exit(check(os.Args[2:], os.Stdout, os.Stderr))
	}
	plugins.ServeBackend(plugins.Backend{Meta: plugins.Meta{
		Name: "cuda", Version: "0.1.0", Help: "Computes on a CUDA device; with the argument check it says what is there.",
		Options: []plugins.Option{
			{Name: "device", Type: "int", Default: "0", Help: "of those that are visible"},
			{Name: "precision", Type: "choice", Default: "bf16", Choices: []string{"bf16", "f32"}, Help: "of values and products; states stay f32"},
			{Name: "libraries", Type: "string", Help: "directory in which libcuda, NVRTC and cuBLASLt are looked for first"},
			{Name: "cache", Type: "string", Help: "directory of compiled kernels; without it tern/cuda in the user's cache"},
			{Name: "generate", Type: "choice", Default: "auto", Choices: []string{"auto", "never"}, Help: "whether chains of elementwise ops become kernels of their own"},
		},
	}, Open: cuda.Open})
}
