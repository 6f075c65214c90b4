package report

import "math"

// MaxPoints is the most points of a curve that are kept.
const MaxPoints = 400

// Curve is what a trial logged, in columns of one length.
type Curve struct {
	Steps   []int
	Tokens  []int64
	Seconds []float64            // of training alone, over all processes
	Values  map[string][]float64 // by name; NaN where a line has none
}

// Len is the number of points.
func (c *Curve) Len() int { return len(c.Steps) }

// add appends a point; names that come later are NaN before.
func (c *Curve) add(step int, tokens int64, seconds float64, values map[string]float64) {
	n := len(c.Steps)
	c.Steps, c.Tokens, c.Seconds = append(c.Steps, step), append(c.Tokens, tokens), append(c.Seconds, seconds)
	if c.Values == nil {
		c.Values = map[string][]float64{}
	}
	for name, v := range values {
		if c.Values[name] == nil && len(c.Values) < maxNames {
			c.Values[name] = nans(n)
		}
		if column := c.Values[name]; len(column) == n && column != nil {
			c.Values[name] = append(column, v)
		}
	}
	for name, column := range c.Values {
		if len(column) == n {
			c.Values[name] = append(column, math.NaN())
		}
	}
}

// maxNames bounds the columns of a curve.
const maxNames = 64

func nans(n int) []float64 {
	x := make([]float64, n, n+1)
	for i := range x {
		x[i] = math.NaN()
	}
	return x
}

// keep drops the points at whose place ok is false.
func (c *Curve) keep(ok func(i int) bool) {
	to := 0
	for i := range c.Steps {
		if !ok(i) {
			continue
		}
		c.Steps[to], c.Tokens[to], c.Seconds[to] = c.Steps[i], c.Tokens[i], c.Seconds[i]
		for _, column := range c.Values {
			column[to] = column[i]
		}
		to++
	}
	c.Steps, c.Tokens, c.Seconds = c.Steps[:to], c.Tokens[:to], c.Seconds[:to]
	for name, column := range c.Values {
		c.Values[name] = column[:to]
	}
}

// thinner keeps every so manieth of the points that it is given, and the last.
// The seeds of a cell log the same steps, so the same of them are kept.
type thinner struct {
	curve  Curve
	limit  int // at most so many points, and the last
	stride int
	count  int
	last   *point // that was left out
}

type point struct {
	step    int
	tokens  int64
	seconds float64
	values  map[string]float64
}

func (t *thinner) add(p point) {
	t.stride = max(t.stride, 1)
	at := t.count
	t.count++
	if at%t.stride != 0 {
		t.last = &p
		return
	}
	t.last = nil
	t.curve.add(p.step, p.tokens, p.seconds, p.values)
	if t.curve.Len() > t.limit {
		if t.curve.Len()%2 == 0 {
			t.last = &p
		}
		t.curve.keep(func(i int) bool { return i%2 == 0 })
		t.stride *= 2
	}
}

// done returns the curve.
func (t *thinner) done() Curve {
	if t.last != nil {
		t.curve.add(t.last.step, t.last.tokens, t.last.seconds, t.last.values)
		t.last = nil
	}
	return t.curve
}

// mean is the mean of curves at the steps that all of them have, by name; NaN
// where one has no value.
func mean(curves []*Curve, name string) Curve {
	if len(curves) == 1 {
		return Curve{curves[0].Steps, curves[0].Tokens, curves[0].Seconds, map[string][]float64{name: curves[0].Values[name]}}
	}
	type sum struct {
		n              int
		tokens         int64
		value, seconds float64
	}
	sums := map[int]*sum{}
	for _, c := range curves {
		for i, step := range c.Steps {
			s := sums[step]
			if s == nil {
				s = &sum{tokens: c.Tokens[i]}
				sums[step] = s
			}
			s.n++
			s.seconds += c.Seconds[i]
			if column := c.Values[name]; column != nil {
				s.value += column[i]
			} else {
				s.value = math.NaN()
			}
		}
	}
	var out Curve
	if len(curves) == 0 {
		return out
	}
	for _, step := range curves[0].Steps {
		if s := sums[step]; s.n == len(curves) {
			n := float64(s.n)
			out.add(step, s.tokens, s.seconds/n, map[string]float64{name: s.value / n})
		}
	}
	return out
}
