// Package memory refuses, before anything is allocated, what would not fit in
// the memory that a backend computes in: its device's own, or this machine's.
package memory

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
)

// ErrNotEnough is returned when a graph would not fit in memory.
var ErrNotEnough = errors.New("not enough memory")

// Load is what will be run, for Check.
type Load struct {
	What  string // such as "training"
	Graph *graph.Graph
	Extra int64  // bytes beside the graph's, such as the optimizer's moments
	Lower string // hint: what makes the values smaller
	Model string // hint where the states alone do not fit; "" names a model's sizes
}

// smallerModel is the hint where the batch is not to blame.
const smallerModel = "the model itself is too large: lower dim, layers, ffn or the vocabulary (tokenizer)"

// room is the memory that a backend computes in.
type room struct {
	free, total int64
	device      string // "" is this machine
}

// roomOf returns the memory of be: its device's own where it has such, else this
// machine's. ok is false where nobody knows.
func roomOf(be framework.Backend) (r room, ok bool, err error) {
	if own, ok := be.(framework.OwnMemory); ok {
		r.device = be.Name()
		if d, ok := be.(framework.Describer); ok && d.Describe().Device != "" {
			r.device = d.Describe().Device
		}
		r.free, r.total, err = own.Memory()
		return r, err == nil, errors.Wrap(err, "free memory of the device")
	}
	r.free, ok = availableMemory()
	return r, ok, nil
}

// fits reports whether so many bytes are free.
func (r *room) fits(bytes int64) bool {
	if bytes > r.free && r.device == "" {
		debug.FreeOSMemory() // garbage is not taken
		r.free, _ = availableMemory()
	}
	return bytes <= r.free
}

// Check estimates what l takes before anything is allocated: the graph's
// states, and what the backend says that its values take. It returns ErrNotEnough
// with a hint where that is more than is free in the memory that be computes in,
// and nil where nobody knows.
func Check(be framework.Backend, l Load) error {
	r, ok, err := roomOf(be)
	if err != nil || !ok {
		return err
	}
	states := l.Extra
	for _, n := range l.Graph.States {
		states += int64(n.Out[0].Bytes())
	}
	need, hint := states, l.Model
	if hint == "" {
		hint = smallerModel
	}
	if r.fits(states) {
		values, err := estimate(be, l.Graph)
		if err != nil {
			return errors.Wrap(err, "estimate memory")
		}
		if need, hint = states+values, l.Lower; r.fits(need) {
			return nil
		}
	}
	return r.refuse(l.What, need, states, hint)
}

// refuse is the error of what does not fit.
func (r *room) refuse(what string, need, states int64, hint string) error {
	const mib = 1 << 20
	if r.device == "" {
		err := errors.Wrapf(ErrNotEnough, "%s takes at least %d MiB (%d for its states), %d MiB are free", what, need/mib, states/mib, r.free/mib)
		return errors.WithHint(err, hint)
	}
	err := errors.Wrapf(ErrNotEnough, "%s takes at least %d MiB (%d for its states), %d of %d MiB are free on %s",
		what, need/mib, states/mib, r.free/mib, r.total/mib, r.device)
	if need <= r.total { // it is others that are in the way
		hint += "; or end what else uses the device"
	}
	return errors.WithHint(err, hint)
}

// unaddressable is more than a processor can address: backends plan no more.
const unaddressable = 1 << 46

// estimate asks the backend, which refuses what no machine could hold.
func estimate(be framework.Backend, g *graph.Graph) (int64, error) {
	e, ok := be.(framework.Estimator)
	if !ok {
		return 0, nil
	}
	bytes, err := e.Estimate(g)
	if errors.Is(err, framework.ErrUnsupported) && valueBytes(g) > unaddressable {
		return unaddressable, nil
	}
	return bytes, err
}

// valueBytes is the size of all values of g, a float because it may be beyond
// any integer.
func valueBytes(g *graph.Graph) (sum float64) {
	for _, n := range g.Nodes {
		for _, t := range n.Out {
			sum += float64(t.Bytes())
		}
	}
	return sum
}

// Untraceable is the error of a graph of a sound model that cannot be traced:
// its sizes are beyond any memory.
func Untraceable(err error, what, lower string) error {
	return errors.WithHint(errors.Wrapf(ErrNotEnough, "%s: %v", what, err), lower)
}

// availableMemory returns the bytes that the system can give out, where it
// says so: to anyone, and to this process under the limits of its groups.
func availableMemory() (int64, bool) {
	free, ok := memAvailable("/proc/meminfo")
	if !ok {
		return 0, false
	}
	if left, limited := cgroupFree("/proc/self/cgroup", "/sys/fs/cgroup"); limited {
		free = min(free, left)
	}
	return free, true
}

// memAvailable reads the field of that name in a file such as /proc/meminfo.
func memAvailable(path string) (int64, bool) {
	kb, ok := field(path, "MemAvailable:")
	return kb << 10, ok
}

// cgroupFree returns what the memory limits (version 2) of a process leave: the
// least of its group's and the groups' above it. self lists its groups; where
// it cannot be read, only the limit at root counts.
func cgroupFree(self, root string) (free int64, limited bool) {
	group := "/"
	if text, err := os.ReadFile(self); err == nil {
		for line := range strings.Lines(string(text)) {
			if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
				group = filepath.Clean("/" + path)
			}
		}
	}
	for ; ; group = filepath.Dir(group) {
		dir := filepath.Join(root, group)
		limit, ok := number(filepath.Join(dir, "memory.max")) // a word where there is none
		used, known := number(filepath.Join(dir, "memory.current"))
		if ok && known {
			// Pages of files count as used, and are given up when others need them.
			for _, cache := range []string{"active_file", "inactive_file"} {
				bytes, _ := field(filepath.Join(dir, "memory.stat"), cache)
				used -= bytes
			}
			if left := max(0, limit-max(0, used)); !limited || left < free {
				free, limited = left, true
			}
		}
		if group == "/" {
			return free, limited
		}
	}
}

// number reads a file that holds one.
func number(path string) (int64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// field reads the number after name in a file of such lines.
func field(path, name string) (int64, bool) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if words := strings.Fields(sc.Text()); len(words) > 1 && words[0] == name {
			n, err := strconv.ParseInt(words[1], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
