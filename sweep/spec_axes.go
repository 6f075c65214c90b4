package sweep

import (
	"slices"
	"strconv"

	"github.com/cockroachdb/errors"
	"go.yaml.in/yaml/v3"
)

// axes reads a mapping from axes to lists.
func (r *specReader) axes(n *yaml.Node, what string) ([]Axis, error) {
	entries, err := r.mapping(n, what)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, r.errorf(n.Line, "write \"axis: [value, value]\", or leave it out", "%s is empty", what)
	}
	var out []Axis
	for _, e := range entries {
		if e.key == "seed" {
			return nil, r.errorf(e.line, "write seeds: [1, 2, 3] beside "+what, "seed is no axis: trials of one cell differ in their seed")
		}
		if err := errors.CombineErrors(r.setting(e.key, e.line), r.own(e.key, e.line)); err != nil {
			return nil, err
		}
		if e.value.Kind != yaml.SequenceNode || len(e.value.Content) == 0 {
			return nil, r.errorf(e.line, "write "+e.key+": [value, value]", "%s has no list of values", e.key)
		}
		a := Axis{Key: e.key, line: e.line}
		for _, v := range e.value.Content {
			text, err := r.scalar(v, e.key)
			if err != nil {
				return nil, err
			}
			a.Values = append(a.Values, text)
		}
		out = append(out, a)
	}
	return out, nil
}

func (r *specReader) grid(f pair) error {
	axes, err := r.axes(f.value, "grid")
	for _, a := range axes {
		r.spec.Dims = append(r.spec.Dims, Dim{a})
	}
	return err
}

// zip reads one group of axes, or a list of them.
func (r *specReader) zip(f pair) error {
	groups := []*yaml.Node{f.value}
	if f.value.Kind == yaml.SequenceNode {
		groups = f.value.Content
	}
	if len(groups) == 0 {
		return r.errorf(f.line, "write \"axis: [value, value]\", or leave it out", "zip is empty")
	}
	for _, g := range groups {
		axes, err := r.axes(g, "a group of zip")
		if err != nil {
			return err
		}
		for _, a := range axes[1:] {
			if len(a.Values) != len(axes[0].Values) {
				return r.errorf(a.line, "axes of one group go together: give them equally many values", "%s has %d values, %s has %d",
					a.Key, len(a.Values), axes[0].Key, len(axes[0].Values))
			}
		}
		r.spec.Dims = append(r.spec.Dims, axes)
	}
	return nil
}

// readSeeds reads N, which is 1 to N, or a list.
func (r *specReader) readSeeds(f pair) error {
	nodes := f.value.Content
	if f.value.Kind == yaml.ScalarNode {
		n, err := strconv.ParseUint(f.value.Value, 10, 64)
		if err != nil || n == 0 {
			return r.errorf(f.line, "seeds: 5 is the seeds 1 to 5", "seeds %.40q is no number from 1 on", f.value.Value)
		}
		if n > MaxTrials {
			return r.errorf(f.line, "name fewer", "%d seeds are more than %d trials", n, MaxTrials)
		}
		for i := range n {
			r.spec.Seeds = append(r.spec.Seeds, i+1)
		}
		return nil
	}
	if f.value.Kind != yaml.SequenceNode || len(nodes) == 0 {
		return r.errorf(f.line, "write seeds: 5 or seeds: [3, 7]", "seeds is no number and no list of numbers")
	}
	for _, n := range nodes {
		seed, err := strconv.ParseUint(n.Value, 10, 64)
		if n.Kind != yaml.ScalarNode || err != nil {
			return r.errorf(n.Line, "write seeds: 5 or seeds: [3, 7]", "seed %.40q is no integer from 0 on", n.Value)
		}
		if slices.Contains(r.spec.Seeds, seed) {
			return r.errorf(n.Line, "", "seed %d is there twice", seed)
		}
		r.spec.Seeds = append(r.spec.Seeds, seed)
	}
	return nil
}
