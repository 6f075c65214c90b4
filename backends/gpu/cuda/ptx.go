package cuda

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io"
	"path"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/kernel"
)

// ptx has the PTX of every source, for machines without NVRTC: the driver
// compiles it further for the device. It is made by
//
//	NVRTC_DIR=... go test ./backends/gpu/cuda -run PTX -update
//
// with NVRTC 12.0 (nvidia-cuda-nvrtc-cu12==12.0.140 of PyPI), whose PTX every driver
// that is taken knows.
//
//go:embed ptx
var ptx embed.FS

// maxPTX bounds what one file of ours unpacks to.
const maxPTX = 64 << 20

// embedded gives the PTX of a source by its name.
type embedded struct{}

// PTX implements kernel.PTX.
func (embedded) PTX(name string) ([]byte, bool) {
	packed, err := ptx.ReadFile(path.Join("ptx", name+".ptx.gz"))
	if err != nil {
		return nil, false
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, false
	}
	code, err := io.ReadAll(io.LimitReader(r, maxPTX))
	return code, err == nil
}

var _ kernel.PTX = embedded{}
