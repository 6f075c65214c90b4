package checkpoint

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework/tensor"
)

// The errors of this package; test for them with errors.Is.
var (
	// ErrCorrupt reports a checkpoint that is incomplete or not as it was written.
	ErrCorrupt = errors.New("checkpoint: corrupt")
	// ErrNotFound reports that there is no checkpoint, or no usable one.
	ErrNotFound = errors.New("checkpoint: not found")
	// ErrMismatch reports a sound checkpoint of something else: another model,
	// or a later format.
	ErrMismatch = errors.New("checkpoint: mismatch")
	// ErrInvalid reports a snapshot or argument that cannot be saved.
	ErrInvalid = errors.New("checkpoint: invalid snapshot")
)

// Snapshot is what a checkpoint holds.
type Snapshot struct {
	Step      int                        // optimizer steps done, at least 0
	Config    json.RawMessage            // the resolved configuration; any JSON value
	Cursor    uint64                     // position in the training data
	Seed      uint64                     // of the run
	CreatedBy string                     // program and version, such as "tern 0.1.0"
	Extra     map[string]json.RawMessage // whatever else the trainer needs to go on
	Tensors   map[string]*tensor.Tensor  // all state, by name
	// Read, where it is set, fills dst with the named tensor when Save comes to
	// it: those of Tensors are then types without data. So a snapshot never
	// stands in memory as a whole. Save reuses the memory of dst.
	Read func(name string, dst *tensor.Tensor) error
}

// CheckTensors compares the snapshot's tensors with the states that a model
// needs. A missing one, one too many and one of another type are ErrMismatch,
// and the error names them.
func (s *Snapshot) CheckTensors(want map[string]tensor.Type) error {
	var wrong []string
	for name, t := range want {
		switch have, ok := s.Tensors[name]; {
		case !ok:
			wrong = append(wrong, fmt.Sprintf("%s %v is missing", name, t))
		case !have.Type.Equal(t):
			wrong = append(wrong, fmt.Sprintf("%s is %v, not %v", name, have.Type, t))
		}
	}
	for name, t := range s.Tensors {
		if _, ok := want[name]; !ok {
			wrong = append(wrong, fmt.Sprintf("%s %v is not of this model", name, t.Type))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	const shown = 5
	more := ""
	if len(wrong) > shown {
		wrong, more = wrong[:shown], fmt.Sprintf(" and %d more", len(wrong)-shown)
	}
	return errors.WithHint(errors.Wrapf(ErrMismatch, "step %d: %s%s", s.Step, strings.Join(wrong, "; "), more),
		"the checkpoint belongs to another model: resume it with the configuration that it holds, or start in another directory")
}

// Names in a run's directory. Names that begin with a dot are unfinished
// business, which the next Save ends.
const (
	stepPrefix   = "step-"
	tmpPrefix    = ".tmp-" // being written, or being removed
	oldPrefix    = ".old-" // replaced, for as long as its successor is not in place
	tensorsFile  = "tensors.safetensors"
	manifestFile = "manifest.json"
)

// Name returns the name of a step's directory, such as "step-00001200".
func Name(step int) string { return fmt.Sprintf(stepPrefix+"%08d", step) }

// parseName is the inverse of Name.
func parseName(name string) (step int, ok bool) {
	digits, ok := strings.CutPrefix(name, stepPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(digits)
	return n, err == nil && n >= 0 && Name(n) == name
}

// corrupt returns an ErrCorrupt that says what is wrong.
func corrupt(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrCorrupt, format, args...),
		"use an earlier checkpoint, or remove this one; --resume auto takes the newest sound one")
}
