package sweep

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
)

// ErrSpec is returned for a spec that cannot be planned.
var ErrSpec = errors.New("bad spec")

// Limits of what is read.
const (
	maxSpec   = 1 << 20 // bytes of a spec
	maxValue  = 4096    // bytes of a value
	maxName   = 100     // bytes of a sweep's name
	MaxTrials = 10_000  // of a plan
)

// Spec says what an ablation varies. Keys are those of tern train's settings,
// with underscores; values are text, as flags have them.
type Spec struct {
	Name     string
	Base     Cell  // settings of all trials
	Dims     []Dim // whose product is the grid, in the order of the file
	Include  []Cell
	Exclude  []Cell
	Seeds    []uint64 // none: the one that Base or the recipe has
	Baseline Cell
}

// Dim is a dimension of the grid: one axis, or several that go together and
// have equally many values.
type Dim []Axis

// Axis is a setting with the values that it takes in turn.
type Axis struct {
	Key    string
	Values []string
	line   int // of the spec
}

// Setting is a value of a setting.
type Setting struct{ Key, Value string }

// Cell is a list of settings, which may leave some open.
type Cell struct {
	Settings []Setting
	line     int
}

// Get returns the value of a key.
func (c Cell) Get(key string) (string, bool) {
	for _, s := range c.Settings {
		if s.Key == key {
			return s.Value, true
		}
	}
	return "", false
}

// CheckName reports why name cannot be that of a sweep.
func CheckName(name string) error {
	bad := func(why string) error {
		err := errors.Wrapf(ErrSpec, "name %.40q %s", name, why)
		return errors.WithHint(err, "use letters, digits, spaces, dots, dashes and underscores")
	}
	switch {
	case name == "" || len(name) > maxName:
		return bad("must have 1 to 100 bytes")
	case strings.ContainsAny(name, `/\:`):
		return bad("must not hold / \\ or :")
	case name[0] == '.' || strings.Contains(name, ".."):
		return bad("must not begin with a dot or hold two in a row")
	}
	return errors.Wrap(checkText(name), "name")
}

// checkText reports why a text from outside cannot stand in tables and logs.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.Wrapf(ErrSpec, "%.40q is no UTF-8", s)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return errors.Wrapf(ErrSpec, "%.40q holds a character that does not print (%U)", s, r)
		}
	}
	return nil
}

// checkValue is checkText for a setting, which must be no NaN and no infinity.
func checkValue(s string) error {
	if len(s) > maxValue {
		return errors.Wrapf(ErrSpec, "%.20q... is longer than %d bytes", s, maxValue)
	}
	if err := checkText(s); err != nil {
		return err
	}
	f, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimLeft(s, "+-"), "."), 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) { // out of range is an infinity
		return nil
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return errors.Wrapf(ErrSpec, "%q is no finite number", s)
	}
	return nil
}
