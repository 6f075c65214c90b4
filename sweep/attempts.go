package sweep

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/cockroachdb/errors"
)

// Attempt is a line of attempts.jsonl: a process that worked on a trial began,
// or ended.
type Attempt struct {
	Event  string    `json:"event"` // "begin" or "end"
	Time   time.Time `json:"time"`
	Host   string    `json:"host"`
	State  State     `json:"state,omitempty"` // of the trial after an end
	Exit   int       `json:"exit,omitempty"`
	Signal string    `json:"signal,omitempty"`
	Peak   int64     `json:"peak_memory,omitempty"` // bytes resident, where the process told
	// Lost is an end that nobody saw: Time is the last sign of life.
	Lost bool `json:"lost,omitempty"`
}

// Attempts sums up what attempts.jsonl says.
type Attempts struct {
	Count   int
	Seconds float64 // of those that ended
	Peak    int64   // the most of those that told
	open    time.Time
}

// Attempts reads the attempts at a trial. Lines that a full disk cut short are
// passed over.
func (d *Dir) Attempts(id string) (Attempts, error) {
	var a Attempts
	text, err := readBounded(filepath.Join(d.TrialDir(id), attemptsFile), maxRecord)
	if errors.Is(err, os.ErrNotExist) {
		return a, nil
	}
	if err != nil {
		return a, err
	}
	for line := range bytes.Lines(text) {
		var r Attempt
		if json.Unmarshal(line, &r) != nil {
			continue
		}
		a.Peak = max(a.Peak, r.Peak)
		switch {
		case r.Event == "begin":
			a.Count++
			a.open = r.Time
		case r.Event == "end" && !a.open.IsZero():
			a.Seconds += max(0, r.Time.Sub(a.open).Seconds())
			a.open = time.Time{}
		}
	}
	return a, nil
}

// Begin notes that a process begins to work on a trial, and an end that nobody
// saw before it.
func (d *Dir) Begin(id string) (Attempts, error) {
	a, err := d.Attempts(id)
	if err != nil {
		return a, err
	}
	if !a.open.IsZero() {
		end := d.lastSign(id)
		if end.Before(a.open) {
			end = a.open
		}
		if err := d.note(id, Attempt{Event: "end", Time: end, State: Interrupted, Lost: true}); err != nil {
			return a, err
		}
		a.Seconds += end.Sub(a.open).Seconds()
	}
	begin := Attempt{Event: "begin", Time: time.Now().UTC()}
	a.Count, a.open = a.Count+1, begin.Time
	return a, d.note(id, begin)
}

// Note adds the peak of this process's memory to the attempts.
func (d *Dir) NotePeak(id string, bytes int64) error {
	return d.note(id, Attempt{Event: "peak", Time: time.Now().UTC(), Peak: bytes})
}

// lastSign is when a process last wrote something that it writes on its way.
func (d *Dir) lastSign(id string) (last time.Time) {
	for _, name := range []string{metricsFile, logFile, "run.json"} {
		if st, err := os.Stat(filepath.Join(d.TrialDir(id), name)); err == nil && st.ModTime().After(last) {
			last = st.ModTime()
		}
	}
	return last.UTC()
}

// note appends a line, whole, so that two writers do not mix theirs.
func (d *Dir) note(id string, a Attempt) error {
	a.Host = hostname()
	line, err := json.Marshal(a)
	if err != nil {
		return errors.Wrap(err, attemptsFile)
	}
	f, err := os.OpenFile(filepath.Join(d.TrialDir(id), attemptsFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return explain(errors.Wrap(err, "note the attempt"), d.Path)
	}
	_, err = f.Write(append(line, '\n'))
	return explain(errors.Wrap(errors.CombineErrors(err, f.Close()), "note the attempt"), d.Path)
}

// hostname is the machine's name.
func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return h
}
