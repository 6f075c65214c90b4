package sweep

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/atomicfile"
	"github.com/ternlm/tern/internal/filelock"
)

// ErrExists is returned for a directory that holds something already.
var ErrExists = errors.New("exists already")

func formatSeed(s uint64) string { return strconv.FormatUint(s, 10) }

// Freeze writes a plan and the text of its spec into dir, which is made, or is
// empty. The plan is there whole or not at all. ErrExists for another directory.
func Freeze(dir string, p Plan, spec []byte) (err error) {
	if err := p.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return errors.WithHint(errors.Wrap(err, "make the directory of the plan"), "choose a place that you may write to")
	}
	if err := refuseUsed(dir); err != nil {
		return err
	}
	l, err := filelock.Acquire(filepath.Join(dir, lockFile))
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, l.Release()) }()
	if err := refuseUsed(dir); err != nil {
		return err
	}
	text, err := encodePlan(p)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(filepath.Join(dir, specFile), spec); err != nil {
		return err
	}
	return atomicfile.WriteBytes(filepath.Join(dir, planFile), text)
}

// refuseUsed reports a directory that holds more than a planning that was cut
// short leaves.
func refuseUsed(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return errors.Wrap(err, "directory of the plan")
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case name == planFile:
			err := errors.Wrapf(ErrExists, "%s: a plan", dir)
			return errors.WithHint(err, "run it with tern sweep run "+dir+", or choose another directory")
		case name == specFile, name == lockFile, strings.HasPrefix(name, "."):
		default:
			return errors.WithHint(errors.Wrapf(ErrExists, "%s: %s", dir, name), "choose a directory that is new or empty")
		}
	}
	return nil
}

// encodePlan writes a trial a line, for people and for diff.
func encodePlan(p Plan) ([]byte, error) {
	trials := p.Trials
	p.Trials = []Trial{}
	head, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, errors.Wrap(err, planFile)
	}
	const empty = `"trials": []`
	at := bytes.LastIndex(head, []byte(empty))
	var b bytes.Buffer
	b.Write(head[:at+len(empty)-1])
	for i, t := range trials {
		line, err := json.Marshal(t)
		if err != nil {
			return nil, errors.Wrap(err, planFile)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("\n    ")
		b.Write(line)
	}
	b.WriteString("\n  ")
	b.Write(head[at+len(empty)-1:])
	b.WriteByte('\n')
	return b.Bytes(), nil
}
