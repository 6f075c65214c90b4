package main

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/checkpoint"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

// resolved is the configuration that a checkpoint holds: all that decides what
// is computed, and nothing else.
type resolved struct {
	Model  model.Config `json:"model"`
	Recipe train.Recipe `json:"recipe"`
	Data   string       `json:"data_sha256"` // of the training tokens
	// Plugins are those that the model is made of.
	Plugins []pluginRecord `json:"plugins,omitempty"`
}

// parseResolved reads the configuration of a checkpoint.
func parseResolved(raw json.RawMessage) (*resolved, error) {
	var r resolved
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, errors.Wrapf(checkpoint.ErrMismatch, "its configuration is not tern train's: %v", err)
	}
	return &r, nil
}

// requireSame reports how the configuration of a checkpoint differs from the
// one that a run asks for.
func requireSame(dir string, have, want resolved) error {
	diff := append(differences(have.Model, want.Model), differences(have.Recipe, want.Recipe)...)
	if have.Data != want.Data {
		diff = append(diff, fmt.Sprintf("training data: sha256 %.12s..., now %.12s...", have.Data, want.Data))
	}
	if len(diff) == 0 {
		return nil
	}
	err := errors.Wrapf(checkpoint.ErrMismatch, "%s was made with another configuration: %s", dir, strings.Join(diff, "; "))
	return errors.WithHint(err, "leave these flags out to go on as the checkpoint was made, or train in another directory with --out")
}

// differences lists the fields that two values of one type differ in, by their
// JSON names.
func differences(have, want any) []string {
	a, b := fields(have), fields(want)
	var out []string
	for k, v := range a {
		if !reflect.DeepEqual(v, b[k]) {
			out = append(out, fmt.Sprintf("%s is %v, now %v", k, v, b[k]))
		}
	}
	slices.Sort(out)
	return out
}

func fields(v any) map[string]any {
	text, err := json.Marshal(v)
	m := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		panic(errors.AssertionFailedf("a configuration is JSON: %v", err))
	}
	return m
}
