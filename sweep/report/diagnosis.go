package report

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"
)

// Diagnosis holds the numbers of a train.Diagnosis by their JSON names,
// whatever those are: one of another version is shown too.
type Diagnosis struct {
	Values map[string]float64   // one for the model
	Depths map[string][]float64 // one for each sub-layer, or layer
}

// maxDepth bounds the numbers of a list.
const maxDepth = 4096

// UnmarshalJSON takes the numbers and the lists of an object: lists of
// numbers, of ranges (their means) and of matrices (diagnose.Matrix: gain and
// error). What else is in it is left out.
func (d *Diagnosis) UnmarshalJSON(data []byte) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return errors.Wrap(err, "diagnosis")
	}
	*d = Diagnosis{Values: map[string]float64{}, Depths: map[string][]float64{}}
	for _, name := range slices.Sorted(maps.Keys(fields)) { // which of too many are left out is no chance
		if len(d.Values)+len(d.Depths) >= maxNames {
			break
		}
		raw := bytes.TrimSpace(fields[name])
		if len(raw) > 0 && raw[0] == '[' {
			d.list(name, raw)
			continue
		}
		var v *float64
		if name != sampled && json.Unmarshal(raw, &v) == nil && v != nil {
			d.Values[name] = *v
		}
	}
	return nil
}

// list takes the field name, a JSON array.
func (d *Diagnosis) list(name string, raw []byte) {
	var numbers []*float64
	if json.Unmarshal(raw, &numbers) == nil {
		d.depths(name, numbers)
		return
	}
	var objects []struct {
		Mean  *float64
		Gain  struct{ Max *float64 }
		Error struct{ Max *float64 } `json:"ds_error"`
	}
	if json.Unmarshal(raw, &objects) != nil {
		return
	}
	var means, gains, off []*float64
	for _, o := range objects {
		means, gains, off = append(means, o.Mean), append(gains, o.Gain.Max), append(off, o.Error.Max)
	}
	d.depths(name, means)
	switch name {
	case "composite":
		if d.depths(compositeGains, gains) {
			d.Values[compositeMax] = slices.Max(d.Depths[compositeGains])
		}
	case "mixing":
		if d.depths(mixingErrors, off) {
			d.Values[mixingError] = slices.Max(d.Depths[mixingErrors])
		}
	}
}

// sampled says over how many tokens the others are: no result.
const sampled = "sampled_tokens"

// Names of what is derived.
const (
	compositeGains = "composite.gain"
	compositeMax   = "composite_gain_max"
	mixingErrors   = "mixing.ds_error"
	mixingError    = "ds_error"
)

// depths takes a list in which no number is missing.
func (d *Diagnosis) depths(name string, list []*float64) bool {
	if len(list) == 0 || len(list) > maxDepth || slices.Contains(list, nil) {
		return false
	}
	for _, v := range list {
		d.Depths[name] = append(d.Depths[name], *v)
	}
	return true
}

// flat gives each list by its last number: what leaves the last sub-layer.
func (d *Diagnosis) flat() map[string]float64 {
	m := make(map[string]float64, len(d.Values)+len(d.Depths))
	for name, v := range d.Values {
		m[name] = v
	}
	for name, list := range d.Depths {
		if name == compositeGains || name == mixingErrors { // there are values of these
			continue
		}
		m[name+lastOf] = list[len(list)-1]
	}
	return m
}

// lastOf marks the last number of a list.
const lastOf = ".last"

// known are the diagnoses that have a title, in the order in which they are
// shown.
var known = []struct{ name, title string }{
	{"composite_gain", "composite gain"},
	{compositeMax, "composite gain (largest)"},
	{mixingError, "doubly-stochastic violation"},
	{"violations", "matrices in violation"},
	{"divergence", "divergence of the streams"},
	{"rms", "RMS of the streams' mean"},
	{"stream_rms", "RMS of the streams"},
	{"gradient_rms", "RMS of the gradient"},
	{"dominant", "share of the strongest stream"},
	{"cosine", "cosine of streams"},
	{compositeGains, "composite gain (largest)"},
	{mixingErrors, "doubly-stochastic violation"},
	{"zeros", "share of zero codes"},
	{"flips", "share of codes changed"},
}

// titleOf is a diagnosis in words.
func titleOf(name string) string {
	base, isLast := strings.CutSuffix(name, lastOf)
	title := oneLine(base, 60)
	for _, k := range known {
		if k.name == base {
			title = k.title
		}
	}
	if isLast {
		title += ", last sub-layer"
	}
	return title
}

// inOrder sorts names: the known first, then the others by name.
func inOrder(names []string) []string {
	rank := func(name string) int {
		for i, k := range known {
			if name == k.name || name == k.name+lastOf {
				return i
			}
		}
		return len(known)
	}
	slices.Sort(names)
	slices.SortStableFunc(names, func(a, b string) int { return rank(a) - rank(b) })
	return names
}

// Diagnosed is the last diagnosis of a cell, over its seeds.
type Diagnosed struct {
	Seeds  int                  `json:"seeds"`
	Mean   map[string]float64   `json:"mean,omitempty"`
	Max    map[string]float64   `json:"max,omitempty"`
	Depths map[string][]float64 `json:"mean_by_depth,omitempty"` // of lists that are equally long in all seeds
}

// diagnosed takes the mean and the largest of diagnoses.
func diagnosed(all []*Diagnosis) *Diagnosed {
	if len(all) == 0 {
		return nil
	}
	d := &Diagnosed{Seeds: len(all), Mean: map[string]float64{}, Max: map[string]float64{}, Depths: map[string][]float64{}}
	n := map[string]int{}
	for _, one := range all {
		for name, v := range one.Values {
			if n[name]++; n[name] == 1 {
				d.Max[name] = v
			}
			d.Mean[name] += (v - d.Mean[name]) / float64(n[name])
			d.Max[name] = math.Max(d.Max[name], v)
		}
		for name := range one.Depths {
			d.Depths[name] = nil
		}
	}
	for name := range d.Depths {
		if list := meanOfLists(all, name); list != nil {
			d.Depths[name] = list
		} else {
			delete(d.Depths, name)
		}
	}
	return d
}

func meanOfLists(all []*Diagnosis, name string) []float64 {
	var out []float64
	for i, one := range all {
		list := one.Depths[name]
		if i == 0 {
			out = make([]float64, len(list))
		}
		if len(list) != len(out) || len(list) == 0 {
			return nil
		}
		for j, v := range list {
			out[j] += v / float64(len(all))
		}
	}
	return out
}
