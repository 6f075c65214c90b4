package train

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// ErrMemory is returned when a training would not fit in memory.
var ErrMemory = errors.New("not enough memory")

// checkMemory estimates what training takes before anything is allocated:
// states and twice the parameters for moments, and what the backend says that
// the step's values take.
func checkMemory(be framework.Backend, r Recipe, g *graph.Graph) error {
	available, ok := availableMemory()
	if !ok {
		return nil
	}
	need := int64(0)
	for _, n := range g.States {
		need += int64(n.Out[0].Bytes())
		if n.IsParam() {
			need += 2 * int64(n.Out[0].Bytes())
		}
	}
	if e, ok := be.(framework.Estimator); ok {
		b, err := e.Estimate(g)
		if err != nil {
			return errors.Wrap(err, "estimate memory")
		}
		need += b
	}
	if need <= available {
		return nil
	}
	const mib = 1 << 20
	err := errors.Wrapf(ErrMemory, "training takes about %d MiB, %d MiB are free", need/mib, available/mib)
	return errors.WithHintf(err, "lower batch (now %d; raise accum to keep the step's size) or window (now %d)", r.Batch, r.Window)
}

// availableMemory returns the bytes that the system can give out, where it
// says so.
func availableMemory() (int64, bool) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), "MemAvailable:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb << 10, err == nil
		}
	}
	return 0, false
}
