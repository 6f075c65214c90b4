package framework

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"
)

// ErrUnknown is returned when a name is in no registry.
var ErrUnknown = errors.New("unknown name")

// The registries of the three kinds of plugin.
var (
	Backends   = NewRegistry[Backend]("backend")
	Quantizers = NewRegistry[Quantizer]("quantizer")
	Residuals  = NewRegistry[Residual]("residual")
)

// Registry finds implementations by name. It may be used from several
// goroutines.
type Registry[T any] struct {
	kind     string
	mu       sync.RWMutex
	open     map[string]func(Options) (T, error)
	delegate map[string]func(rest string) (T, error)
}

// NewRegistry returns an empty registry; kind is the word used in errors.
func NewRegistry[T any](kind string) *Registry[T] {
	return &Registry[T]{kind: kind, open: map[string]func(Options) (T, error){}, delegate: map[string]func(string) (T, error){}}
}

// Register adds an implementation. It panics when the name is taken.
func (r *Registry[T]) Register(name string, open func(Options) (T, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mustBeFree(name)
	r.open[name] = open
}

// Delegate has open find the implementations whose specs begin with name and a
// colon, such as "plugin:mine:streams=4"; it gets what follows as it stands,
// "mine:streams=4". It panics when the name is taken.
func (r *Registry[T]) Delegate(name string, open func(rest string) (T, error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mustBeFree(name)
	r.delegate[name] = open
}

func (r *Registry[T]) mustBeFree(name string) {
	if r.open[name] != nil || r.delegate[name] != nil {
		panic(fmt.Sprintf("framework: %s %q is registered twice", r.kind, name))
	}
}

// Names returns the registered names, sorted, without those delegated.
func (r *Registry[T]) Names() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := make([]string, 0, len(r.open))
	for n := range r.open {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Open makes the implementation that spec names, "name" or
// "name:key=value,key=value". Every option must be known to it.
func (r *Registry[T]) Open(spec string) (T, error) {
	var zero T
	if open, rest := r.delegated(spec); open != nil {
		v, err := open(rest)
		return v, errors.Wrapf(err, "%s %q", r.kind, spec)
	}
	name, opts, err := ParseSpec(spec)
	if err != nil {
		return zero, errors.Wrapf(err, "%s", r.kind)
	}
	r.mu.RLock()
	open := r.open[name]
	r.mu.RUnlock()
	if open == nil {
		err := errors.Wrapf(ErrUnknown, "%s %q", r.kind, name)
		return zero, errors.WithHint(err, Suggest(name, r.Names()))
	}
	v, err := open(opts)
	if err == nil {
		if err = opts.Unused(); err != nil {
			err = errors.CombineErrors(err, shut(v))
		}
	}
	if err != nil {
		return zero, errors.Wrapf(err, "%s %q", r.kind, spec)
	}
	return v, nil
}

// shut closes what holds something, such as a device.
func shut(v any) error {
	if c, ok := v.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

// delegated returns who opens spec, if its name is delegated, and the rest of it.
func (r *Registry[T]) delegated(spec string) (open func(string) (T, error), rest string) {
	name, rest, _ := strings.Cut(spec, ":")
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.delegate[name], rest
}

// Nearest returns the name of known that is closest to a mistyped one, or ""
// when none is near. The beginning of a name is near it: of several the
// shortest.
func Nearest(name string, known []string) string {
	best, dist := "", 1+len(name)/2
	for _, k := range known {
		if name != "" && strings.HasPrefix(k, name) && (best == "" || len(k) < len(best)) {
			best = k
		}
	}
	if best != "" {
		return best
	}
	for _, k := range known {
		if d := editDistance(name, k); d < dist {
			best, dist = k, d
		}
	}
	return best
}

// Suggest is a hint that lists what there is, the nearest match of name first.
func Suggest(name string, known []string) string {
	best := Nearest(name, known)
	list := "known: " + strings.Join(known, ", ")
	if len(known) == 0 {
		list = "there are none"
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q? %s", best, list)
	}
	return list
}

// editDistance is the Levenshtein distance in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
