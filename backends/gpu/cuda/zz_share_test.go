package cuda

import (
	"fmt"
	"os"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/roofline"
	"github.com/ternlm/tern/model"
)

func TestZZShare(t *testing.T) {
	be, err := opener(t, engine.BF16)()
	must(t, err)
	defer be.Close()
	c, err := model.Preset("nano-125m")
	must(t, err)
	m, err := model.New(c)
	must(t, err)
	g, err := m.Accumulate(64, 256, 1)
	must(t, err)
	p, err := be.(*engine.Backend).Plan(g)
	must(t, err)
	var floor float64
	n := 0
	for _, x := range p.Graph.Nodes {
		if x.IsInput() || x.IsState() || x.Op.View {
			continue
		}
		n++
		floor += float64(roofline.Of(x, true).Floor(roofline.H200).Nanoseconds()) / 1e3
	}
	fmt.Printf("nodes %d arena %d MiB floor %.0f us inplace %d\n", n, p.Arena>>20, floor, p.InPlace)
	f, _ := os.Create(os.Getenv("ZZDUMP"))
	p.Graph.WriteTo(f)
	f.Close()
}
