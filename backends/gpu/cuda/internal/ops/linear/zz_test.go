package linear_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fuse"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/linear"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/ops/rows"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/backendtest"
	"github.com/ternlm/tern/framework/graph"
)

func TestZZ(t *testing.T) {
	tab := engine.Table{}
	rows.Add(tab)
	linear.Add(tab)
	skip := map[string]string{}
	for _, op := range graph.Ops() {
		if !strings.Contains(" "+os.Getenv("ZZOPS")+" ", " "+op.Name+" ") {
			skip["ops/"+op.Name] = "not mine"
		}
	}
	r := backendtest.Check(context.Background(), backendtest.Options{
		Open: func() (framework.Backend, error) {
			d, err := engine.OpenDevice(engine.DeviceOptions{Precision: engine.Precision(os.Getenv("ZZP")), Libraries: cudatest.Libraries(t), Cache: cudatest.Cache(t)})
			must(t, err)
			return cudatest.Backend(d, tab, fuse.New(fuse.Options{})), nil
		},
		Modes: strings.Split(os.Getenv("ZZ"), ","), Skip: skip,
	})
	for _, c := range r.Cases {
		if c.Err != nil || c.Took > time.Millisecond {
			t.Log(c.ID(), c.Status(), c.Detail, c.Took)
		}
	}
}
