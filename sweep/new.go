package sweep

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/cockroachdb/errors"
)

// Resolved is what settings come to.
type Resolved struct {
	Settings   map[string]string // all of them
	Seed       uint64
	Config     json.RawMessage // what decides the bits, see Trial
	Parameters int
	Memory     int64
	StepFLOPs  float64
}

// Resolver settles all settings of a trial from those that a spec gives.
type Resolver func(settings map[string]string) (Resolved, error)

// ID returns the ID of a trial of a configuration.
func ID(config json.RawMessage) (string, error) {
	var b bytes.Buffer
	if err := json.Compact(&b, config); err != nil {
		return "", errors.Wrap(err, "configuration of a trial")
	}
	sum := sha256.Sum256(b.Bytes())
	return hex.EncodeToString(sum[:8]), nil
}

// New expands a spec and resolves its trials. Seeds are the outer loop: a sweep
// that is cut short has compared all cells. The caller fills in the plan's name,
// times and command.
func New(s *Spec, resolve Resolver) (Plan, error) {
	cells, err := s.Cells()
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Version: Version, Name: s.Name, Axes: s.axes()}
	seen := map[string]Trial{}
	seeds := s.Seeds
	if len(seeds) == 0 {
		seeds = []uint64{0}
	}
	for _, seed := range seeds {
		for _, c := range cells {
			t, err := s.trial(c, seed, resolve)
			if err != nil {
				return Plan{}, err
			}
			if other, dup := seen[t.ID]; dup {
				err := errors.Wrapf(ErrSpec, "cells %q and %q compute the same (seed %d)", other.Cell, t.Cell, t.Seed)
				return Plan{}, errors.WithHint(err, "drop one of them with exclude, or write the values that differ")
			}
			seen[t.ID] = t
			p.Trials = append(p.Trials, t)
		}
	}
	p.Baseline, err = s.baseline(p.Trials)
	return p, err
}

// trial resolves one trial.
func (s *Spec) trial(c Cell, seed uint64, resolve Resolver) (Trial, error) {
	settings := map[string]string{}
	for _, list := range [][]Setting{s.Base.Settings, c.Settings} {
		for _, v := range list {
			settings[v.Key] = v.Value
		}
	}
	if len(s.Seeds) > 0 {
		settings["seed"] = formatSeed(seed)
	}
	r, err := resolve(settings)
	if err != nil {
		return Trial{}, errors.Wrapf(err, "cell %s", cellName(c))
	}
	full := Cell{}
	axes := map[string]string{}
	for _, k := range s.axes() {
		v, ok := c.Get(k)
		if !ok {
			v = r.Settings[k] // what the others of its column vary
		}
		axes[k] = v
		full.Settings = append(full.Settings, Setting{k, v})
	}
	id, err := ID(r.Config)
	return Trial{
		ID: id, Cell: cellName(full), Seed: r.Seed, Axes: axes, Settings: r.Settings, Config: r.Config,
		Parameters: r.Parameters, Memory: r.Memory, StepFLOPs: r.StepFLOPs,
	}, err
}

// baseline is the first cell with the values that the spec names.
func (s *Spec) baseline(trials []Trial) (string, error) {
	for _, t := range trials {
		same := true
		for _, v := range s.Baseline.Settings {
			same = same && t.Axes[v.Key] == v.Value
		}
		if same {
			return t.Cell, nil
		}
	}
	err := errors.Wrapf(ErrSpec, "baseline %s is no cell", cellName(s.Baseline))
	return "", errors.WithHint(err, "write values as the cells have them")
}
