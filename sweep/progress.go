package sweep

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// Progress is the last line of a trial's metrics.
type Progress struct {
	Step      int     `json:"step"`
	Steps     int     `json:"steps"`
	Loss      float64 `json:"loss"` // of training
	PerSecond float64 `json:"tokens_per_s"`
	ETA       float64 `json:"eta_s"`
}

// metricsTail is what is read of the end of metrics: more than a line has.
const metricsTail = 64 << 10

// Progress reads how far a trial has come. Without metrics that is no step.
func (d *Dir) Progress(t Trial) Progress {
	p := Progress{Steps: t.Steps()}
	f, err := os.Open(filepath.Join(d.TrialDir(t.ID), metricsFile))
	if err != nil {
		return p
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return p
	}
	text := []byte(readFrom(f, max(0, size-metricsTail), size))
	lines := bytes.Split(text, []byte{'\n'})
	for i := len(lines) - 1; i >= 0; i-- {
		var last Progress
		if json.Unmarshal(lines[i], &last) == nil && last.Step > 0 { // one may be half written
			last.Steps = p.Steps
			return last
		}
	}
	return p
}

// Steps is the number of optimizer steps of a trial.
func (t Trial) Steps() int {
	n, _ := strconv.Atoi(t.Settings["steps"]) // 0 where a plan says nothing
	return max(0, n)
}
