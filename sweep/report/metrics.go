package report

import (
	"bufio"
	"encoding/json"
	"io"
	"math"

	"github.com/cockroachdb/errors"
)

// ErrMetrics is returned for a metrics.jsonl that is damaged.
var ErrMetrics = errors.New("bad metrics")

// Bounds of a metrics.jsonl.
const (
	maxMetrics = 1 << 30
	maxLine    = 4 << 20
)

// event is a line of metrics.jsonl (train.Event), as far as it is drawn.
type event struct {
	Step      int      `json:"step"`
	Tokens    int64    `json:"tokens"`
	Loss      *float64 `json:"loss"`
	GradNorm  *float64 `json:"grad_norm"`
	PerSecond float64  `json:"tokens_per_s"`
	Valid     *struct {
		Loss        *float64 `json:"loss"`
		BitsPerByte *float64 `json:"bits_per_byte"`
	} `json:"valid"`
	Diagnosis *Diagnosis `json:"diagnosis"`
}

// metrics are the curves of a trial.
type metrics struct {
	training, evaluation thinner
	last                 *Diagnosis
	step                 int
	tokens               int64
	seconds              float64
}

// readMetrics reads a metrics.jsonl, keeping at most about limit points of
// each curve. A last line that is not whole is left out: the process may be
// writing it. With ErrMetrics comes what was read before the damage.
func readMetrics(r io.Reader, limit int) (*metrics, error) {
	m := &metrics{training: thinner{limit: limit}, evaluation: thinner{limit: limit}}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 1<<16), maxLine)
	var bad error // of the line before, which is not the last
	n := 0
	for lines.Scan() {
		if bad != nil {
			return m, bad
		}
		n++
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			bad = errors.Wrapf(ErrMetrics, "line %d: %v", n, err)
			continue
		}
		if err := m.add(e); err != nil {
			return m, errors.Wrapf(err, "line %d", n)
		}
	}
	if err := lines.Err(); err != nil {
		return m, errors.Wrapf(ErrMetrics, "after line %d: %v", n, err)
	}
	return m, nil
}

func (m *metrics) add(e event) error {
	if e.Step <= m.step || e.Tokens < m.tokens {
		return errors.Wrapf(ErrMetrics, "step %d, tokens %d after step %d, tokens %d", e.Step, e.Tokens, m.step, m.tokens)
	}
	// Event.Seconds begins anew with each process; the rate is of training alone.
	if e.PerSecond > 0 {
		if s := float64(e.Tokens-m.tokens) / e.PerSecond; !math.IsInf(s, 0) {
			m.seconds += s
		}
	}
	m.step, m.tokens = e.Step, e.Tokens
	p := point{step: e.Step, tokens: e.Tokens, seconds: m.seconds, values: map[string]float64{}}
	set(p.values, trainLoss, e.Loss)
	set(p.values, "grad_norm", e.GradNorm)
	m.training.add(p)
	if e.Valid == nil && e.Diagnosis == nil {
		return nil
	}
	p.values = map[string]float64{}
	if e.Diagnosis != nil {
		m.last = e.Diagnosis
		p.values = e.Diagnosis.flat()
	}
	if e.Valid != nil {
		set(p.values, validLoss, e.Valid.Loss)
		set(p.values, validBits, e.Valid.BitsPerByte)
	}
	m.evaluation.add(p)
	return nil
}

func set(values map[string]float64, name string, v *float64) {
	if v != nil {
		values[name] = *v
	}
}
