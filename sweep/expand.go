package sweep

import (
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

// axes lists the settings that differ between cells: those of the dimensions,
// then what include adds.
func (s *Spec) axes() []string {
	var keys []string
	for _, d := range s.Dims {
		for _, a := range d {
			keys = append(keys, a.Key)
		}
	}
	for _, c := range s.Include {
		for _, v := range c.Settings {
			if !slices.Contains(keys, v.Key) {
				keys = append(keys, v.Key)
			}
		}
	}
	return keys
}

// checkCount refuses a plan of too many trials before anything is expanded.
func (s *Spec) checkCount() error {
	cells := big.NewInt(1)
	var factors []string
	for _, d := range s.Dims {
		n := len(d[0].Values)
		cells.Mul(cells, big.NewInt(int64(n)))
		factors = append(factors, fmt.Sprint(n))
	}
	if len(s.Dims) == 0 && len(s.Include) > 0 {
		cells.SetInt64(0) // all cells are included ones
	}
	trials := new(big.Int).Add(cells, big.NewInt(int64(len(s.Include))))
	trials.Mul(trials, big.NewInt(int64(max(1, len(s.Seeds)))))
	if trials.Cmp(big.NewInt(MaxTrials)) <= 0 {
		return nil
	}
	product := strings.Join(factors, " x ")
	if len(factors) > 12 {
		product = strings.Join(factors[:12], " x ") + " x ..."
	}
	err := errors.Wrapf(ErrSpec, "%s = %s cells, with %d seeds and %d included cells %s trials: more than %d",
		product, cells, max(1, len(s.Seeds)), len(s.Include), trials, MaxTrials)
	return errors.WithHint(err, "vary fewer settings at once, or let some go together with zip")
}

// Cells expands the spec: the product of its dimensions, the last one fastest,
// without what exclude drops, then extended by include.
func (s *Spec) Cells() ([]Cell, error) {
	if err := s.checkCount(); err != nil {
		return nil, err
	}
	var cells []Cell
	if len(s.Dims) > 0 || len(s.Include) == 0 {
		cells = []Cell{{}}
	}
	for _, d := range s.Dims {
		var next []Cell
		for _, c := range cells {
			for i := range d[0].Values {
				settings := slices.Clone(c.Settings)
				for _, a := range d {
					settings = append(settings, Setting{a.Key, a.Values[i]})
				}
				next = append(next, Cell{Settings: settings})
			}
		}
		cells = next
	}
	cells, err := s.exclude(cells)
	if err != nil {
		return nil, err
	}
	if cells = s.include(cells); len(cells) == 0 {
		return nil, errors.WithHint(errors.Wrap(ErrSpec, "exclude drops all cells"), "exclude less")
	}
	return cells, nil
}

// exclude drops cells. An entry that drops none is a mistake.
func (s *Spec) exclude(cells []Cell) ([]Cell, error) {
	for _, x := range s.Exclude {
		before := len(cells)
		cells = slices.DeleteFunc(cells, func(c Cell) bool { return matches(c, x.Settings) })
		if len(cells) == before {
			err := errors.Wrapf(ErrSpec, "line %d: exclude %s drops no cell", x.line, cellName(x))
			return nil, errors.WithHint(err, "write values as the grid has them, or leave the entry out")
		}
	}
	return cells, nil
}

// matches reports whether a cell has all of these values.
func matches(c Cell, settings []Setting) bool {
	for _, s := range settings {
		if v, ok := c.Get(s.Key); !ok || v != s.Value {
			return false
		}
	}
	return true
}

// include extends the cells that have an entry's values of the grid's axes by its
// other settings. An entry without such cells, or without other settings, is a
// cell of its own.
func (s *Spec) include(cells []Cell) []Cell {
	grid := map[string]bool{}
	for _, d := range s.Dims {
		for _, a := range d {
			grid[a.Key] = true
		}
	}
	n := len(cells) // only those of the grid are extended
	for _, e := range s.Include {
		var place, more []Setting
		for _, v := range e.Settings {
			if grid[v.Key] {
				place = append(place, v)
			} else {
				more = append(more, v)
			}
		}
		extended := false
		for i := range n {
			if len(more) > 0 && matches(cells[i], place) {
				cells[i] = extend(cells[i], more)
				extended = true
			}
		}
		if !extended {
			cells = append(cells, Cell{Settings: e.Settings})
		}
	}
	return cells
}

// extend sets settings of a cell: a later entry of include wins.
func extend(c Cell, more []Setting) Cell {
	settings := slices.Clone(c.Settings)
	for _, m := range more {
		if i := slices.IndexFunc(settings, func(s Setting) bool { return s.Key == m.Key }); i >= 0 {
			settings[i] = m
		} else {
			settings = append(settings, m)
		}
	}
	return Cell{Settings: settings}
}

// cellName writes the values of a cell in one line.
func cellName(c Cell) string {
	var parts []string
	for _, s := range c.Settings {
		v := s.Value
		if v == "" || strings.ContainsAny(v, " \"") {
			v = fmt.Sprintf("%q", v)
		}
		parts = append(parts, s.Key+"="+v)
	}
	if len(parts) == 0 {
		return "base"
	}
	return strings.Join(parts, " ")
}
