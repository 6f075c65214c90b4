package plugins

import (
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// roomy is a backend with memory of its own.
type roomy struct {
	framework.Backend
	free, total int64
	err         error
}

func (r roomy) Memory() (free, total int64, err error) { return r.free, r.total, r.err }

// weighed is one that also estimates.
type weighed struct{ roomy }

func (weighed) Estimate(*graph.Graph) (int64, error) { return 7, nil }

// serveWrapped serves be in this process and opens it from here.
func serveWrapped(t *testing.T, be func(framework.Backend) framework.Backend) framework.Backend {
	t.Helper()
	p := scalarPlugin
	p.Open = func(o framework.Options) (framework.Backend, error) {
		inner, err := scalarPlugin.Open(o)
		return be(inner), err
	}
	return serveBackend(t, false, p).open(t, "")
}

func TestOptionalInterfacesAreThoseOfThePlugin(t *testing.T) {
	type interfaces struct{ estimates, memory bool }
	for name, c := range map[string]struct {
		make func(framework.Backend) framework.Backend
		want interfaces
	}{
		"neither":   {func(b framework.Backend) framework.Backend { return struct{ framework.Backend }{b} }, interfaces{}},
		"estimates": {func(b framework.Backend) framework.Backend { return b }, interfaces{estimates: true}},
		"memory":    {func(b framework.Backend) framework.Backend { return roomy{b, 3, 5, nil} }, interfaces{memory: true}},
		"both":      {func(b framework.Backend) framework.Backend { return weighed{roomy{b, 3, 5, nil}} }, interfaces{true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			be := serveWrapped(t, c.make)
			_, estimates := be.(framework.Estimator)
			m, memory := be.(framework.OwnMemory)
			if got := (interfaces{estimates, memory}); got != c.want {
				t.Fatalf("implements %+v, want %+v", got, c.want)
			}
			if !memory {
				return
			}
			if free, total, err := m.Memory(); free != 3 || total != 5 || err != nil {
				t.Errorf("%d of %d free, error %v", free, total, err)
			}
			if err := be.Close(); err != nil {
				t.Fatal(err)
			}
			if _, _, err := m.Memory(); !errors.Is(err, framework.ErrClosed) {
				t.Errorf("after close: error %v", err)
			}
		})
	}
}

func TestMemoryThatCannotBeIsRefused(t *testing.T) {
	for _, c := range []struct{ free, total int64 }{{-1, 5}, {6, 5}} {
		be := serveWrapped(t, func(b framework.Backend) framework.Backend { return roomy{b, c.free, c.total, nil} })
		if _, _, err := be.(framework.OwnMemory).Memory(); !errors.Is(err, ErrReply) {
			t.Errorf("%d of %d: error %v", c.free, c.total, err)
		}
	}
}

// What a device's libraries say reaches the user in its own words, with what to
// do about it.
func TestErrorsOfADeviceKeepTheirWordsAndHints(t *testing.T) {
	full := errors.WithHint(errors.New("cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY: 8 bytes, 1 of 4 are free"), "end other programs that use the device")
	be := serveWrapped(t, func(b framework.Backend) framework.Backend { return roomy{b, 0, 0, full} })
	_, _, err := be.(framework.OwnMemory).Memory()
	if err == nil || !strings.HasSuffix(err.Error(), full.Error()) {
		t.Errorf("error %v does not end with %q", err, full)
	}
	if h := errors.GetAllHints(err); len(h) != 1 || h[0] != "end other programs that use the device" {
		t.Errorf("hints %q", h)
	}
}
