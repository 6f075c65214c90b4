package main

import (
	"fmt"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/checkpoint"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/modelfile"
	"github.com/ternlm/tern/plugins"
	"github.com/ternlm/tern/plugins/store"
)

// pluginRecord says which plugin a run used.
type pluginRecord struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // of the binary
	Spec    string `json:"spec"`
	Dev     bool   `json:"dev,omitempty"` // built from source when the run began
}

// records are the plugins that specs name. They have been opened.
func (h *pluginHost) records(specs ...string) []pluginRecord {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []pluginRecord
	for _, spec := range specs {
		scheme, rest, _ := strings.Cut(spec, ":")
		name, _, _ := strings.Cut(rest, ":")
		p := h.open[name]
		if i, ok := h.of[scheme]; ok {
			all = append(all, pluginRecord{string(i.Kind), i.Name, i.Version, i.SHA256, spec, false})
			continue
		}
		if scheme != pluginScheme || p == nil {
			continue
		}
		i := p.Info()
		all = append(all, pluginRecord{string(i.Kind), i.Name, i.Version, i.SHA256, spec, p.source != ""})
	}
	return all
}

// modelPlugins are the plugins that decide what a model computes.
func modelPlugins(m model.Config) []pluginRecord { return hosts.Load().records(m.Quant, m.Residual) }

// filePlugins are the plugins that a file of a model names.
func filePlugins(m model.Config) (list []modelfile.Plugin) {
	for _, r := range modelPlugins(m) {
		list = append(list, modelfile.Plugin{Kind: r.Kind, Name: r.Name, Version: r.Version, SHA256: r.SHA256})
	}
	return list
}

// requirePlugins compares the plugins of a checkpoint with those of now. Another
// version or binary is refused, or told with --accept-plugin.
func requirePlugins(dir string, have, now []pluginRecord) error {
	var diff []string
	for _, n := range now {
		for _, o := range have {
			if o.Kind != n.Kind || o.Name != n.Name {
				continue
			}
			if o.Version != n.Version {
				diff = append(diff, fmt.Sprintf("%s is version %s, now %s", n.Name, o.Version, n.Version))
			}
			if o.SHA256 != n.SHA256 {
				diff = append(diff, fmt.Sprintf("%s has sha256 %.12s..., now %.12s...", n.Name, o.SHA256, n.SHA256))
			}
		}
	}
	if len(diff) == 0 {
		return nil
	}
	text := strings.Join(diff, "; ")
	if h := hosts.Load(); h.accept {
		h.a.note("warning: %s was made with another plugin: %s", dir, text)
		return nil
	}
	err := errors.Wrapf(checkpoint.ErrMismatch, "%s was made with another plugin: %s", dir, text)
	return errors.WithHint(err, "install the plugin that it was made with, or go on with this one: --accept-plugin")
}

// pluginSpecs are the specs of the pinned plugins of a kind.
func pluginSpecs(kind plugins.Kind) []string {
	h := hosts.Load()
	if h == nil {
		return nil
	}
	s, err := h.store()
	if err != nil {
		return nil
	}
	l, err := s.ReadLock()
	if err != nil {
		return nil // the command that uses it says why
	}
	var specs []string
	for _, p := range l.Pins {
		if p.Kind == string(kind) && p.Platform == store.Platform() {
			specs = append(specs, pluginScheme+":"+p.Name)
		}
	}
	return specs
}
