package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"

	"github.com/ternlm/tern/framework"
)

// ErrConfig is returned for a configuration that cannot be used.
var ErrConfig = errors.New("bad configuration")

// The layers, the strongest first. Base layers have names of their own.
const (
	LayerFlag    = "flag"
	LayerEnv     = "env"
	LayerFile    = "file"
	LayerDefault = "default"
)

// Origin says where a value came from.
type Origin struct {
	Layer  string `json:"layer"`            // such as "flag" or "preset"
	Detail string `json:"detail,omitempty"` // the flag, the variable, the line of the file, the preset
}

// String is the layer and the detail.
func (o Origin) String() string { return strings.TrimSpace(o.Layer + " " + o.Detail) }

// Setting is one resolved value.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Origin Origin `json:"origin"`
}

// Set is a set of settings. Each is a flag of Flags; its key is the flag's
// name with underscores, its variable the prefix and the key in capitals.
type Set struct {
	prefix   string
	reserved []string
	flags    *pflag.FlagSet
	given    map[string]given
	origins  map[string]Origin
}

// given is a value that a layer gives to a key, as text.
type given struct {
	value  string
	origin Origin
}

// New returns an empty set whose environment variables begin with prefix.
// Reserved are the names of variables that begin so and are no settings.
func New(prefix string, reserved ...string) *Set {
	return &Set{
		prefix: prefix, reserved: reserved, flags: pflag.NewFlagSet("settings", pflag.ContinueOnError),
		given: map[string]given{}, origins: map[string]Origin{},
	}
}

// Flags returns the flags that define the settings.
func (s *Set) Flags() *pflag.FlagSet { return s.flags }

// key is the name of a flag's setting.
func key(flag string) string { return strings.ReplaceAll(flag, "-", "_") }

// Flag returns the flag of a key, nil where there is none.
func (s *Set) Flag(k string) *pflag.Flag {
	return s.flags.Lookup(strings.ReplaceAll(k, "_", "-"))
}

// Keys returns the keys in the order of their definition.
func (s *Set) Keys() []string {
	var keys []string
	s.flags.SortFlags = false
	s.flags.VisitAll(func(f *pflag.Flag) { keys = append(keys, key(f.Name)) })
	return keys
}

// Load collects what flags (parsed before), the environment and the file, if
// path is not empty, say. Values are not set yet: Apply does that. Unknown keys
// of the file and unknown variables with the prefix are ErrConfig.
func (s *Set) Load(path string, environ []string) error {
	if path != "" {
		values, err := readFile(path)
		if err != nil {
			return err
		}
		for _, k := range slices.Sorted(maps.Keys(values)) {
			v := values[k]
			if s.Flag(k) == nil {
				err := errors.Wrapf(ErrConfig, "%s: unknown key %q", v.origin.Detail, k)
				return errors.WithHint(err, framework.Suggest(k, s.Keys()))
			}
			s.given[key(k)] = v
		}
	}
	if err := s.loadEnv(environ); err != nil {
		return err
	}
	s.flags.VisitAll(func(f *pflag.Flag) { // a command that shares the flags marks them
		if f.Changed {
			s.given[key(f.Name)] = given{f.Value.String(), Origin{LayerFlag, "--" + f.Name}}
		}
	})
	return nil
}

// loadEnv takes the variables with the prefix.
func (s *Set) loadEnv(environ []string) error {
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		k, ok := strings.CutPrefix(name, s.prefix)
		if !ok || slices.Contains(s.reserved, name) {
			continue
		}
		if k = strings.ToLower(k); s.Flag(k) == nil {
			names := slices.Clone(s.reserved)
			for _, known := range s.Keys() {
				names = append(names, s.prefix+strings.ToUpper(known))
			}
			hint := "unset it, or see the names of the settings"
			if near := framework.Nearest(strings.ToUpper(name), names); near != "" {
				hint = fmt.Sprintf("did you mean %s? else unset it", near)
			}
			return errors.WithHint(errors.Wrapf(ErrConfig, "environment: unknown variable %s", name), hint)
		}
		s.given[k] = given{value, Origin{LayerEnv, name}}
	}
	return nil
}

// Given returns the value that a flag, the environment or the file gives to a
// key.
func (s *Set) Given(k string) (value string, ok bool) {
	g, ok := s.given[k]
	return g.value, ok
}

// Value returns the value that Apply will set if no base changes it.
func (s *Set) Value(k string) string {
	if g, ok := s.given[k]; ok {
		return g.value
	}
	return s.Flag(k).DefValue
}

// Base records that the variables of keys were set from o: they keep that
// value unless Apply finds a stronger one.
func (s *Set) Base(o Origin, keys ...string) {
	for _, k := range keys {
		s.origins[k] = o
	}
}

// Apply sets the variables from the layers that Load found.
func (s *Set) Apply() error {
	for _, k := range s.Keys() {
		g, ok := s.given[k]
		if !ok {
			if _, based := s.origins[k]; !based {
				s.origins[k] = Origin{Layer: LayerDefault}
			}
			continue
		}
		f := s.Flag(k)
		if err := f.Value.Set(g.value); err != nil {
			return errors.WithHintf(errors.Wrapf(ErrConfig, "%v: %q is no %s", g.origin, g.value, f.Value.Type()), "%s: %s", k, f.Usage)
		}
		s.origins[k] = g.origin
	}
	return nil
}

// Origin returns where the value of a key came from, after Apply.
func (s *Set) Origin(k string) Origin { return s.origins[k] }

// Settings lists all values in the order of their definition, after Apply.
func (s *Set) Settings() []Setting {
	var out []Setting
	for _, k := range s.Keys() {
		out = append(out, Setting{Key: k, Value: s.Flag(k).Value.String(), Origin: s.origins[k]})
	}
	return out
}
