package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
)

// baseline finds the cell that a cell is compared with.
type baseline struct {
	name  string            // as given
	fixed map[string]string // values by axis
	cells map[string]string // cell by its values, as key writes them
	axes  []string
}

// newBaseline looks up a baseline by a cell's name or by values of axes,
// "AXIS=VALUE" separated by blanks. It returns ErrBaseline.
func newBaseline(name string, axes []string, cells []*Cell) (*baseline, error) {
	b := &baseline{name: name, fixed: map[string]string{}, cells: map[string]string{}, axes: axes}
	for _, c := range cells {
		b.cells[b.key(c.Axes)] = c.Name
		if c.Name == name {
			b.fixed = c.Axes
		}
	}
	if name == "" {
		b.name, b.fixed = cells[0].Name, cells[0].Axes
	}
	if len(b.fixed) > 0 || len(axes) == 0 && (name == "" || name == cells[0].Name) {
		return b, nil
	}
	for part := range strings.FieldsSeq(name) {
		axis, value, ok := strings.Cut(part, "=")
		if !ok || !slices.Contains(axes, axis) {
			return nil, errors.WithHint(errors.Wrapf(ErrBaseline, "%q: no axis %q", name, axis), suggest(axis, axes))
		}
		values := map[string]bool{}
		for _, c := range cells {
			values[c.Axes[axis]] = true
		}
		if !values[value] {
			return nil, errors.WithHint(errors.Wrapf(ErrBaseline, "%q: no cell has %s %q", name, axis, value),
				suggest(value, slices.Sorted(maps.Keys(values))))
		}
		b.fixed[axis] = value
	}
	if len(b.fixed) == 0 {
		return nil, errors.WithHint(errors.Wrapf(ErrBaseline, "%q", name), "name a cell, or AXIS=VALUE")
	}
	return b, nil
}

// suggest names what there is, of many only the nearest.
func suggest(name string, known []string) string {
	if near := framework.Nearest(name, known); len(known) > 30 && near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return framework.Suggest(name, known[:min(len(known), 30)])
}

// of returns the cell that c is compared with; it is c itself for a baseline,
// and ok is false where the plan has no such cell.
func (b *baseline) of(c *Cell) (name string, ok bool) {
	values := maps.Clone(c.Axes)
	if values == nil {
		values = map[string]string{}
	}
	maps.Copy(values, b.fixed)
	name, ok = b.cells[b.key(values)]
	return name, ok
}

// key writes values in the order of the axes, quoted: "a","bc" and "ab","c"
// stay apart.
func (b *baseline) key(values map[string]string) string {
	var s strings.Builder
	for _, a := range b.axes {
		v, set := values[a]
		fmt.Fprintf(&s, "%t%q", set, v)
	}
	return s.String()
}
