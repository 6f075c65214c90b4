package train

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/atomicfile"
)

// metricsFile appends events to metrics.jsonl, one JSON object a line.
type metricsFile struct {
	f *os.File
}

// openMetrics opens path for events after step done: lines of later steps,
// left by a run that was killed after its last checkpoint, are removed.
func openMetrics(path string, done int) (*metricsFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, errors.Wrap(err, "metrics")
	}
	if old, err := os.ReadFile(path); err == nil {
		kept := keepUntil(old, done)
		if len(kept) != len(old) {
			if err := atomicfile.Write(path, func(w io.Writer) error { _, err := w.Write(kept); return err }); err != nil {
				return nil, errors.Wrap(err, "metrics")
			}
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, errors.Wrap(err, "metrics")
	}
	return &metricsFile{f}, nil
}

// keepUntil returns the whole lines of events up to step done.
func keepUntil(lines []byte, done int) []byte {
	end := 0
	r := bufio.NewReader(bytes.NewReader(lines))
	for {
		line, err := r.ReadBytes('\n')
		var e struct{ Step int }
		if err != nil || json.Unmarshal(line, &e) != nil || e.Step > done {
			return lines[:end]
		}
		end += len(line)
	}
}

func (m *metricsFile) Write(e Event) error {
	line, err := json.Marshal(e)
	if err != nil {
		return errors.Wrap(err, "metrics")
	}
	_, err = m.f.Write(append(line, '\n'))
	return errors.Wrap(err, "metrics")
}

func (m *metricsFile) Close() error { return m.f.Close() }
