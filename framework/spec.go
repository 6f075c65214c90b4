package framework

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"
)

// ErrOption is returned for an option that is malformed, unknown or out of
// range.
var ErrOption = errors.New("bad option")

// Options are the key=value pairs of a spec. Reading one marks it as known.
type Options struct {
	values map[string]string
	read   map[string]bool
}

// ParseSpec splits "name:key=value,key=value".
func ParseSpec(spec string) (name string, o Options, err error) {
	o = Options{values: map[string]string{}, read: map[string]bool{}}
	name, rest, some := strings.Cut(spec, ":")
	if name == "" {
		return "", o, errors.WithHint(errors.Wrapf(ErrOption, "spec %q has no name", spec), "write name or name:key=value,key=value")
	}
	if !some || rest == "" {
		return name, o, nil
	}
	for f := range strings.SplitSeq(rest, ",") {
		k, v, ok := strings.Cut(f, "=")
		if !ok || k == "" || v == "" {
			return "", o, errors.WithHint(errors.Wrapf(ErrOption, "%q in %q", f, spec), "write name:key=value,key=value")
		}
		if _, dup := o.values[k]; dup {
			return "", o, errors.Wrapf(ErrOption, "%q is given twice in %q", k, spec)
		}
		o.values[k] = v
	}
	return name, o, nil
}

// String returns the value of key, or def.
func (o Options) String(key, def string) string {
	o.mark(key)
	if v, ok := o.values[key]; ok {
		return v
	}
	return def
}

// Int returns the integer value of key, or def.
func (o Options) Int(key string, def int) (int, error) {
	o.mark(key)
	v, ok := o.values[key]
	if !ok {
		return def, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, errors.Wrapf(ErrOption, "%s=%s is no integer", key, v)
	}
	return n, nil
}

// Float returns the numeric value of key, or def.
func (o Options) Float(key string, def float64) (float64, error) {
	o.mark(key)
	v, ok := o.values[key]
	if !ok {
		return def, nil
	}
	f, err := strconv.ParseFloat(v, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, errors.Wrapf(ErrOption, "%s=%s is no finite number", key, v)
	}
	return f, nil
}

// Choice returns the value of key, which must be one of the choices; the
// first of them is the default.
func (o Options) Choice(key string, choices ...string) (string, error) {
	v := o.String(key, choices[0])
	if !slices.Contains(choices, v) {
		return "", errors.WithHint(errors.Wrapf(ErrOption, "%s=%s", key, v), Suggest(v, choices))
	}
	return v, nil
}

func (o Options) mark(key string) {
	if o.read != nil {
		o.read[key] = true
	}
}

// Unused returns an error for an option that nobody read. Registry.Open asks
// when the implementation is open; one that takes long to open asks before.
func (o Options) Unused() error {
	for k := range o.values {
		if !o.read[k] {
			known := make([]string, 0, len(o.read))
			for r := range o.read {
				known = append(known, r)
			}
			slices.Sort(known)
			return errors.WithHint(errors.Wrapf(ErrOption, "%q", k), Suggest(k, known))
		}
	}
	return nil
}
