package sweep

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
	"go.yaml.in/yaml/v3"

	"github.com/ternlm/tern/framework"
)

// Keys are the settings that a spec may name.
type Keys struct {
	Known   []string          // with underscores
	Refused map[string]string // those of tern train that are no part of a sweep, with what to do instead
}

// specKeys are those of the file itself.
var specKeys = []string{"name", "base", "grid", "zip", "include", "exclude", "seeds", "baseline"}

// ReadSpec reads the spec at path, and returns its text too.
func ReadSpec(path string, keys Keys) (*Spec, []byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, errors.WithHint(errors.Mark(errors.Wrap(err, "spec"), ErrSpec), "name a YAML file (docs/sweep.md)")
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSpec+1))
	if err != nil {
		return nil, nil, errors.WithHint(errors.Mark(errors.Wrap(err, "spec"), ErrSpec), "name a YAML file (docs/sweep.md)")
	}
	s, err := ParseSpec(path, text, keys)
	return s, text, err
}

// ParseSpec reads the text of a spec; path is for messages. Whatever is wrong
// with it is one ErrSpec with the line, and for a mistyped name the nearest one.
func ParseSpec(path string, text []byte, keys Keys) (*Spec, error) {
	r := &specReader{path: path, keys: keys, spec: &Spec{}, owner: map[string]int{}}
	root, err := r.document(text)
	if err != nil {
		return nil, err
	}
	fields, err := r.mapping(root, "the spec")
	if err != nil {
		return nil, err
	}
	for _, f := range fields {
		if err := r.field(f); err != nil {
			return nil, err
		}
	}
	return r.spec, r.checkWhole()
}

// specReader turns the nodes of a spec into it.
type specReader struct {
	path  string
	keys  Keys
	spec  *Spec
	owner map[string]int // line at which an axis or a base setting is named
	seeds int            // line of seeds, 0 for none
}

// pair is an entry of a mapping.
type pair struct {
	key   string
	line  int
	value *yaml.Node
}

func (r *specReader) errorf(line int, hint, format string, args ...any) error {
	err := errors.Wrapf(ErrSpec, "%s:%d: %s", r.path, line, fmt.Sprintf(format, args...))
	if hint == "" {
		return err
	}
	return errors.WithHint(err, hint)
}

// document returns the root of the one document in text.
func (r *specReader) document(text []byte) (*yaml.Node, error) {
	if len(text) > maxSpec {
		return nil, errors.Wrapf(ErrSpec, "%s is larger than %d bytes", r.path, maxSpec)
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.WithHint(errors.Wrapf(ErrSpec, "%s: %v", r.path, err), "docs/sweep.md has examples")
	}
	if doc.Kind == 0 || len(doc.Content) == 0 {
		return nil, r.errorf(1, "say at least what varies: grid, zip, include or seeds (docs/sweep.md)", "the spec is empty")
	}
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, r.errorf(max(1, more.Line), "write one spec a file", "there is a second document")
	}
	return doc.Content[0], r.refuseAliases(doc.Content[0])
}

// refuseAliases: a few lines of them stand for more than any memory holds.
func (r *specReader) refuseAliases(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return r.errorf(n.Line, "write the values out", "anchors and aliases are not used")
	}
	for _, c := range n.Content {
		if err := r.refuseAliases(c); err != nil {
			return err
		}
	}
	return nil
}

// mapping lists the entries of a mapping, each key once.
func (r *specReader) mapping(n *yaml.Node, what string) ([]pair, error) {
	if n.Kind != yaml.MappingNode {
		return nil, r.errorf(n.Line, "write one \"key: value\" a line", "%s is no mapping of keys to values", what)
	}
	var out []pair
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if k.Kind != yaml.ScalarNode {
			return nil, r.errorf(k.Line, "write one \"key: value\" a line", "a key of %s is no plain word", what)
		}
		key := strings.ReplaceAll(k.Value, "-", "_")
		if line, dup := seen[key]; dup {
			return nil, r.errorf(k.Line, "", "%.60q is there already in line %d", key, line)
		}
		seen[key] = k.Line
		out = append(out, pair{key, k.Line, n.Content[i+1]})
	}
	return out, nil
}

// field reads one key of the file.
func (r *specReader) field(f pair) (err error) {
	switch f.key {
	case "name":
		if r.spec.Name, err = r.scalar(f.value, "name"); err == nil {
			err = r.at(f.line, CheckName(r.spec.Name))
		}
	case "base":
		if r.spec.Base, err = r.cell(f.value, "base"); err == nil {
			for _, s := range r.spec.Base.Settings {
				if err = r.own(s.Key, f.line); err != nil {
					return err
				}
			}
		}
	case "grid":
		err = r.grid(f)
	case "zip":
		err = r.zip(f)
	case "include":
		r.spec.Include, err = r.cells(f)
	case "exclude":
		r.spec.Exclude, err = r.cells(f)
	case "seeds":
		r.seeds = f.line
		err = r.readSeeds(f)
	case "baseline":
		r.spec.Baseline, err = r.cell(f.value, "baseline")
	default:
		return r.errorf(f.line, framework.Suggest(f.key, specKeys), "unknown key %.60q", f.key)
	}
	return err
}

// at adds the place to an error of a value.
func (r *specReader) at(line int, err error) error {
	return errors.Wrapf(err, "%s:%d", r.path, line)
}

// scalar reads a plain value as the text that it is written as.
func (r *specReader) scalar(n *yaml.Node, what string) (string, error) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return "", r.errorf(n.Line, "write a plain value", "%s has no plain value", what)
	}
	return n.Value, r.at(n.Line, checkValue(n.Value))
}

// setting checks the name of a setting.
func (r *specReader) setting(key string, line int) error {
	if hint, refused := r.keys.Refused[key]; refused {
		return r.errorf(line, hint, "%s is no setting of a sweep", key)
	}
	if !slices.Contains(r.keys.Known, key) {
		return r.errorf(line, framework.Suggest(key, r.keys.Known), "tern train has no setting %.60q", key)
	}
	return nil
}

// own refuses a setting that two parts of the spec decide.
func (r *specReader) own(key string, line int) error {
	if other, taken := r.owner[key]; taken {
		return r.errorf(line, "name it in one place", "%s is set in line %d already", key, other)
	}
	r.owner[key] = line
	return nil
}

// cell reads settings.
func (r *specReader) cell(n *yaml.Node, what string) (Cell, error) {
	entries, err := r.mapping(n, what)
	c := Cell{line: n.Line}
	if err != nil {
		return c, err
	}
	for _, e := range entries {
		if err := r.setting(e.key, e.line); err != nil {
			return c, err
		}
		v, err := r.scalar(e.value, e.key)
		if err != nil {
			return c, err
		}
		c.Settings = append(c.Settings, Setting{e.key, v})
	}
	return c, nil
}

// cells reads a list of cells.
func (r *specReader) cells(f pair) ([]Cell, error) {
	if f.value.Kind != yaml.SequenceNode {
		return nil, r.errorf(f.line, "write one \"- {key: value}\" a line", "%s is no list", f.key)
	}
	var out []Cell
	for _, n := range f.value.Content {
		c, err := r.cell(n, "an entry of "+f.key)
		if err != nil {
			return nil, err
		}
		if len(c.Settings) == 0 {
			return nil, r.errorf(n.Line, "", "an entry of %s is empty", f.key)
		}
		out = append(out, c)
	}
	return out, nil
}

// checkWhole checks what only the whole spec shows.
func (r *specReader) checkWhole() error {
	s := r.spec
	if line, set := r.owner["seed"]; set && len(s.Seeds) > 0 {
		return r.errorf(line, "leave it out of base", "seed is set beside seeds (line %d)", r.seeds)
	}
	if len(s.Dims) == 0 && len(s.Include) == 0 && len(s.Seeds) < 2 {
		return r.errorf(1, "add grid, zip, include or seeds (docs/sweep.md)", "nothing varies")
	}
	for _, c := range s.Include {
		if _, some := c.Get("seed"); some {
			return r.errorf(c.line, "write seeds: [1, 2, 3]", "seed is no axis: trials of one cell differ in their seed")
		}
	}
	axes := s.axes()
	for what, cells := range map[string][]Cell{"exclude": s.Exclude, "baseline": {s.Baseline}} {
		for _, c := range cells {
			for _, v := range c.Settings {
				if !slices.Contains(axes, v.Key) {
					return r.errorf(c.line, framework.Suggest(v.Key, axes), "%s names %s, which does not vary", what, v.Key)
				}
			}
		}
	}
	if err := s.checkCount(); err != nil {
		return errors.Wrap(err, r.path)
	}
	return nil
}
