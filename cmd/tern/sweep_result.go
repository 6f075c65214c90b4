package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/train"
)

// maxMetrics bounds what is read of metrics.jsonl, in bytes.
const maxMetrics = 1 << 30

func joined(parts []string) string { return strings.Join(parts, "; ") }

// result is what a trial reports.
func (j *job) result(t sweep.Trial, done trainResult) (sweep.Result, error) {
	s := j.s
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	r := sweep.Result{
		Trial: t.ID, Steps: s.Recipe.Steps, Tokens: int64(s.Recipe.Steps) * int64(s.Recipe.TokensPerStep()),
		Loss: done.Exported.Loss, BitsPerByte: done.Exported.BitsPerByte, TrainedLoss: done.Trained.Loss, ValidTokens: done.Exported.Tokens,
		Bytes: done.Bytes, Backend: j.info.Backend.Name + " on " + j.device(), Threads: j.info.Backend.Threads, Host: host,
		Program: j.info.Program.String(), Finished: time.Now().UTC(),
	}
	for what, v := range map[string]float64{"trained": r.TrainedLoss, "exported": r.Loss} {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return r, errors.Wrapf(train.ErrDiverged, "the loss of the %s model is %v", what, v)
		}
	}
	if r.PerSecond, r.Diagnosis, err = readMetrics(filepath.Join(s.Run.Out, "metrics.jsonl")); err != nil {
		return r, err
	}
	r.ModelSHA256, err = fileSHA256(done.GGUF)
	return r, err
}

// readMetrics returns the median of the rates and the last diagnosis.
func readMetrics(path string) (rate float64, diagnosis json.RawMessage, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil, errors.Wrap(err, "metrics")
	}
	defer f.Close()
	var rates []float64
	sc := bufio.NewScanner(io.LimitReader(f, maxMetrics))
	sc.Buffer(nil, 4<<20)
	for sc.Scan() {
		var e struct {
			PerSecond float64         `json:"tokens_per_s"`
			Diagnosis json.RawMessage `json:"diagnosis"`
		}
		if err := json.Unmarshal(sc.Bytes(), &e); err != nil {
			return 0, nil, errors.Wrapf(err, "metrics %s", path)
		}
		rates = append(rates, e.PerSecond)
		if e.Diagnosis != nil {
			diagnosis = e.Diagnosis
		}
	}
	return median(rates), diagnosis, errors.Wrap(sc.Err(), "metrics")
}

// median of values, 0 of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// fileSHA256 is the checksum of a file.
func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", errors.Wrap(err, "checksum")
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", errors.Wrap(err, "checksum")
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
