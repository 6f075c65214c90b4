package memory

import (
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// device is a backend with memory of its own, which is all that is asked of it.
type device struct {
	framework.Backend
	free, total, values int64
	err                 error
}

func (d device) Name() string                         { return "device" }
func (d device) Describe() framework.Info             { return framework.Info{Device: "Device 9000"} }
func (d device) Memory() (int64, int64, error)        { return d.free, d.total, d.err }
func (d device) Estimate(*graph.Graph) (int64, error) { return d.values, nil }

func TestTheDevicesOwnMemoryIsTheBound(t *testing.T) {
	const gib = 1 << 30
	host, _ := Available()                              // 0 where it is not known
	states, err := graph.Trace(func(b *graph.Builder) { // of 3 GiB, which nobody allocates
		b.Output("sum", b.Sum(b.GlobalParam("w", graph.Init{}, 3*gib/4), 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		be    device
		fits  bool
		hints []string
	}{
		"it fits":                         {device{free: 4 * gib, total: 8 * gib, values: gib}, true, nil},
		"to the byte":                     {device{free: 4 * gib, total: 4 * gib, values: 1 * gib}, true, nil},
		"others are in the way":           {device{free: 3 * gib, total: 8 * gib, values: gib}, false, []string{"fewer windows", "what else uses the device"}},
		"it never would":                  {device{free: 3 * gib, total: 3 * gib, values: gib}, false, []string{"fewer windows"}},
		"the states alone do not":         {device{free: gib, total: 2 * gib}, false, []string{"a smaller model"}},
		"more than the host has, it fits": {device{free: host + 8*gib, total: host + 8*gib, values: host + gib}, true, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := Check(c.be, Load{What: "training", Graph: states, Lower: "fewer windows", Model: "a smaller model"})
			if (err == nil) != c.fits || err != nil && !errors.Is(err, ErrNotEnough) {
				t.Fatalf("error %v, want none: %v", err, c.fits)
			}
			hints := strings.Join(errors.GetAllHints(err), "; ")
			for _, h := range c.hints {
				if !strings.Contains(hints, h) {
					t.Errorf("hints %q lack %q", hints, h)
				}
			}
			if err != nil && !strings.Contains(err.Error(), "Device 9000") {
				t.Errorf("%v does not name the device", err)
			}
		})
	}
}

func TestADeviceThatCannotSayWhatIsFreeIsAnError(t *testing.T) {
	lost := errors.New("the device's context is lost")
	if err := Check(device{err: lost}, Load{Graph: &graph.Graph{}}); !errors.Is(err, lost) {
		t.Errorf("error %v", err)
	}
}
