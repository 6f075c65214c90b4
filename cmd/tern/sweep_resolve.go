package main

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/train"
)

// trialConfig is what decides the bits that a trial computes and reports: what
// a checkpoint holds, and what it is evaluated on and computed by.
type trialConfig struct {
	resolved
	Valid         string         `json:"valid_sha256"`
	FinalWindows  int            `json:"final_windows"`
	Backend       string         `json:"backend"` // without threads
	BackendPlugin []pluginRecord `json:"backend_plugins,omitempty"`
}

// resolver settles the settings of trials.
type resolver struct {
	ctx      context.Context
	a        *app
	config   string // --config
	texts    map[string]text
	backends map[string]framework.Backend
	sizes    map[string]sweep.Resolved // by configuration without seed
}

func newResolver(ctx context.Context, a *app, config string) *resolver {
	return &resolver{ctx, a, config, map[string]text{}, map[string]framework.Backend{}, map[string]sweep.Resolved{}}
}

// close gives texts and backends back.
func (r *resolver) close() (err error) {
	for _, t := range r.texts {
		err = errors.CombineErrors(err, t.Close())
	}
	for _, be := range r.backends {
		err = errors.CombineErrors(err, be.Close())
	}
	return err
}

// resolve is a sweep.Resolver: what a spec gives is as flags are, over variables,
// the file, the preset and the recipe.
func (r *resolver) resolve(given map[string]string) (out sweep.Resolved, err error) {
	if err := r.ctx.Err(); err != nil {
		return out, err
	}
	s := newSettings()
	if err := s.give(given); err != nil {
		return out, err
	}
	s.configFile = r.config
	if err := s.load(r.a); err != nil {
		return out, err
	}
	if err := s.resolve(nil); err != nil {
		return out, err
	}
	c, be, err := r.trialConfig(s)
	if err != nil {
		return out, err
	}
	if out, err = r.size(s, c, be); err != nil {
		return out, err
	}
	if out.Config, err = json.Marshal(c); err != nil {
		return out, errors.Wrap(err, "configuration")
	}
	out.Seed, out.Settings = s.Recipe.Seed, map[string]string{}
	for _, v := range s.set.Settings() {
		out.Settings[v.Key] = v.Value
	}
	out.Settings["backend"] = c.Backend
	delete(out.Settings, "precision") // it is an option of the backend now
	for key := range refusedKeys {
		delete(out.Settings, key)
	}
	return out, absolute(out.Settings, "data", "valid")
}

// give sets settings as flags do.
func (s *settings) give(values map[string]string) error {
	for k, v := range values {
		f := s.set.Flag(k)
		if f == nil {
			return usagef(framework.Suggest(k, s.set.Keys()), "tern train has no setting %q", k)
		}
		if err := s.set.Flags().Set(f.Name, v); err != nil {
			return usagef(f.Usage, "%s: %q is no %s", k, v, kindOfFlag(f.Value.Type()))
		}
	}
	return nil
}

// absolute makes paths mean the same from everywhere.
func absolute(settings map[string]string, keys ...string) error {
	for _, k := range keys {
		if settings[k] == "" {
			continue
		}
		path, err := filepath.Abs(settings[k])
		if err != nil {
			return err
		}
		settings[k] = path
	}
	return nil
}

// trialConfig reads what the settings name.
func (r *resolver) trialConfig(s *settings) (c trialConfig, be framework.Backend, err error) {
	var train, valid dataInfo
	if train, err = r.text("train", s.Run.Data, s.Model.Tokenizer, openTrainText); err != nil {
		return c, nil, err
	}
	if valid, err = r.text("valid", s.Run.Valid, s.Model.Tokenizer, openValidText); err != nil {
		return c, nil, err
	}
	spec, be, err := r.backend(s)
	if err != nil {
		return c, nil, err
	}
	return trialConfig{
		resolved: resolved{Model: s.Model, Recipe: s.Recipe, Data: train.SHA256, Plugins: modelPlugins(s.Model)},
		Valid:    valid.SHA256, FinalWindows: s.Run.FinalWindows, Backend: spec, BackendPlugin: hosts.Load().records(spec),
	}, be, nil
}

// textKey is the key of a text.
func textKey(which, path, tok string) string { return which + "\n" + path + "\n" + tok }

// text opens a text once.
func (r *resolver) text(which, path, tok string, open func(context.Context, string, string) (text, error)) (dataInfo, error) {
	key := textKey(which, path, tok)
	t, ok := r.texts[key]
	if !ok {
		var err error
		if t, err = open(r.ctx, path, tok); err != nil {
			return dataInfo{}, err
		}
		r.texts[key] = t
	}
	return t.info()
}

// backend opens the backend that trials will compute by, and returns its spec
// without threads, and with its own name for auto.
func (r *resolver) backend(s *settings) (string, framework.Backend, error) {
	_, given := s.set.Given("threads")
	spec, _, err := r.a.chooseBackend(s.Run.Backend, s.Run.Precision, s.Run.Threads, given)
	if err != nil {
		return "", nil, err
	}
	be := r.backends[spec]
	if be == nil {
		if be, err = openBackend(spec, 0); err != nil {
			return "", nil, err
		}
		r.backends[spec] = be
	}
	if rest, ok := strings.CutPrefix(spec, "auto"); ok {
		spec = be.Name() + rest
	}
	return spec, be, nil
}

// size counts and estimates, once for all seeds.
func (r *resolver) size(s *settings, c trialConfig, be framework.Backend) (out sweep.Resolved, err error) {
	c.Recipe.Seed = 0
	key, err := json.Marshal(c)
	if err != nil {
		return out, errors.Wrap(err, "configuration")
	}
	if known, ok := r.sizes[string(key)]; ok {
		return known, nil
	}
	m, err := model.New(s.Model)
	if err != nil {
		return out, err
	}
	if _, err := s.Recipe.Batches(r.texts[textKey("train", s.Run.Data, s.Model.Tokenizer)].Tokens); err != nil {
		return out, err
	}
	n, err := sizesIn(m)
	if err != nil {
		return out, err
	}
	muon, err := muonWork(s.Model, s.Recipe)
	if err != nil {
		return out, err
	}
	out = sweep.Resolved{Parameters: n.parameters, StepFLOPs: n.trainWork(s.Recipe, muon).all()}
	if out.Memory, err = train.Estimate(be, m, s.Recipe); err != nil {
		return out, err
	}
	r.sizes[string(key)] = out
	return out, nil
}
