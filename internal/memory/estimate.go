package memory

import (
	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
)

// Available returns the bytes that the system can give this process, where it
// says so.
func Available() (int64, bool) { return availableMemory() }

// Free returns the bytes that are free in the memory that be computes in: its
// device's own, or this machine's. ok is false where nobody knows.
func Free(be framework.Backend) (free int64, ok bool, err error) {
	r, ok, err := roomOf(be)
	return r.free, ok, err
}

// Estimate is what Check holds against the memory that is free: the bytes of
// the graph's states, of Extra, and of the values as the backend says, which
// count 0 where it does not.
func Estimate(be framework.Backend, l Load) (int64, error) {
	bytes := l.Extra
	for _, n := range l.Graph.States {
		bytes += int64(n.Out[0].Bytes())
	}
	values, err := estimate(be, l.Graph)
	return bytes + values, errors.Wrap(err, "estimate memory")
}
