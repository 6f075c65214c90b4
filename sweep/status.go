package sweep

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/atomicfile"
	"github.com/ternlm/tern/internal/filelock"
)

// Status tells where a trial stands, with its result where it is done, and how
// its last process ended where that failed or was interrupted and left word.
func (d *Dir) Status(t Trial) (State, *Result, *Failure, error) {
	dir := d.TrialDir(t.ID)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return Pending, nil, nil, nil
	}
	r, err := readRecord[Result](filepath.Join(dir, resultFile))
	if err != nil || r != nil {
		if r != nil && r.Trial != t.ID {
			err = errors.Newf("%s is of trial %.40q", filepath.Join(dir, resultFile), r.Trial)
			return "", nil, nil, errors.WithHint(err, "remove the file to run the trial again")
		}
		return Done, r, nil, err
	}
	_, running, err := filelock.Held(filepath.Join(dir, lockFile))
	if err != nil || running {
		return Running, nil, nil, err
	}
	f, err := readRecord[Failure](filepath.Join(dir, failureFile))
	if err != nil {
		return "", nil, nil, err
	}
	if f != nil && (f.State == Failed || f.State == Interrupted) {
		f.Error = printable(f.Error) // a directory may come from anywhere
		return f.State, nil, f, nil
	}
	for _, name := range []string{attemptsFile, lockFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return Interrupted, nil, nil, nil
		}
	}
	return Pending, nil, nil, nil
}

// readRecord reads a JSON file, nil where there is none.
func readRecord[T any](path string) (*T, error) {
	text, err := readBounded(path, maxRecord)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, errors.WithHint(errors.Wrapf(err, "%s is damaged", path), "remove the file to run the trial again")
	}
	return v, nil
}

// WriteResult makes a trial done.
func (d *Dir) WriteResult(r Result) error { return d.writeRecord(r.Trial, resultFile, r) }

func (d *Dir) writeRecord(id, name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return errors.Wrap(err, name)
	}
	return atomicfile.WriteBytes(filepath.Join(d.TrialDir(id), name), append(text, '\n'))
}
