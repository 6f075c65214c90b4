package cu

import (
	_ "embed"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
)

//go:embed tern.cuh
var header string

// Source is a source that includes tern.cuh.
func Source(name, code string) driver.Source {
	return driver.Source{Name: name, Code: code, Headers: map[string]string{"tern.cuh": header}}
}
