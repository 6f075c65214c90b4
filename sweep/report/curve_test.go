package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
)

func TestThinCurvesKeepTheSameStepsInAllSeedsAndTheLast(t *testing.T) {
	for at := range 300 {
		n, limit := 1+at/2, 10+at%2
		th := thinner{limit: limit}
		for i := range n {
			th.add(point{step: i + 1, values: map[string]float64{"x": float64(i + 1)}})
		}
		c := th.done()
		if c.Len() > limit+1 || n > limit && c.Len() < 5 || n <= limit && c.Len() != n {
			t.Errorf("%d points became %d", n, c.Len())
		}
		stride := 1
		for (n+stride-1)/stride > limit {
			stride *= 2
		}
		for i, s := range c.Steps {
			if (s-1)%stride != 0 && s != n || c.Values["x"][i] != float64(s) {
				t.Errorf("%d points: step %d, value %v", n, s, c.Values["x"][i])
			}
		}
		if c.Steps[c.Len()-1] != n {
			t.Errorf("%d points: the last kept is %d", n, c.Steps[c.Len()-1])
		}
	}
}

func TestMeanIsOfTheStepsThatAllSeedsHave(t *testing.T) {
	a := Curve{Steps: []int{1, 2, 4}, Tokens: []int64{10, 20, 40}, Seconds: []float64{1, 2, 4}, Values: map[string][]float64{"x": {1, 2, 4}}}
	b := Curve{Steps: []int{1, 3, 4}, Tokens: []int64{10, 30, 40}, Seconds: []float64{3, 5, 8}, Values: map[string][]float64{"x": {3, 5, math.NaN()}}}
	m := mean([]*Curve{&a, &b}, "x")
	if !slices.Equal(m.Steps, []int{1, 4}) || !slices.Equal(m.Seconds, []float64{2, 6}) || m.Values["x"][0] != 2 || !math.IsNaN(m.Values["x"][1]) {
		t.Errorf("%+v", m)
	}
}

func TestMeansLeaveOutSeedsThatFailed(t *testing.T) {
	in := made("usual", usual[:1], 3, 40)
	in.Outcomes[2].State, in.Outcomes[2].Result = sweep.Failed, nil
	o := &in.Outcomes[2]
	for i := range o.Evaluation.Values[validLoss] {
		o.Evaluation.Values[validLoss][i] = 1000
	}
	ch := mustMake(t, in).charts().Charts[0]
	if len(ch.Lines) != 4 || ch.Lines[0].Seed != "" || !ch.Lines[3].Failed || ch.Lines[1].Failed {
		t.Fatalf("%+v", ch.Lines)
	}
	for i, v := range ch.Lines[0].Values {
		if want := (ch.Lines[1].Values[i] + ch.Lines[2].Values[i]) / 2; math.Abs(v-want) > 1e-12 {
			t.Errorf("%v, want %v", v, want)
		}
	}
}

const someMetrics = `{"step":1,"loss":9.5,"grad_norm":1,"tokens":100,"tokens_per_s":50,"seconds":3}
{"step":2,"loss":8,"tokens":200,"tokens_per_s":100,"seconds":9,"valid":{"loss":8.5,"bits_per_byte":3},"diagnosis":{"composite_gain":1.5,"violations":0,"rms":[1,2],"cosine":[{"mean":0.9},{"mean":0.8}],"mixing":[{"ds_error":{"max":0.25}},{"ds_error":{"max":0.125}}],"composite":[{"gain":{"max":1.25}},{"gain":{"max":1.75}}],"sampled_tokens":7,"odd":{"a":1},"none":null,"words":["a"]}}
{"step":4,"loss":7,"tokens":400,"tokens_per_s":100,"seconds":1}
`

func TestMetricsAreReadAsTrainWritesThem(t *testing.T) {
	m, err := readMetrics(strings.NewReader(someMetrics+`{"step":5,"lo`), 100) // being written
	if err != nil {
		t.Fatal(err)
	}
	c, e := m.training.done(), m.evaluation.done()
	// 100 tokens at 50/s, 100 at 100/s, then in a second process 200 at 100/s.
	if !slices.Equal(c.Steps, []int{1, 2, 4}) || !slices.Equal(c.Seconds, []float64{2, 3, 5}) || !slices.Equal(c.Values["loss"], []float64{9.5, 8, 7}) {
		t.Errorf("%+v", c)
	}
	want := map[string]float64{
		validLoss: 8.5, validBits: 3, "composite_gain": 1.5, "violations": 0, "rms.last": 2, "cosine.last": 0.8,
		mixingError: 0.25, compositeMax: 1.75,
	}
	if len(e.Values) != len(want) || e.Len() != 1 {
		t.Errorf("%+v", e)
	}
	for name, v := range want {
		if got := e.Values[name]; len(got) != 1 || got[0] != v {
			t.Errorf("%s: %v, want %v", name, got, v)
		}
	}
	if got := m.last.Depths[compositeGains]; !slices.Equal(got, []float64{1.25, 1.75}) {
		t.Errorf("%v", got)
	}
}

func TestDamagedMetricsAreAnErrorWithTheirLine(t *testing.T) {
	for text, want := range map[string]string{
		"nonsense\n" + someMetrics:                                      "line 1",
		someMetrics + someMetrics:                                       "line 4: step 1",
		`{"step":1,"tokens":5}` + "\n" + `{"step":2,"tokens":4}` + "\n": "line 2",
		someMetrics + strings.Repeat("x", maxLine+1):                    "after line 3",
		`{"step":0}` + "\n":                                             "line 1",
	} {
		m, err := readMetrics(strings.NewReader(text), 100)
		if !errors.Is(err, ErrMetrics) || !strings.Contains(err.Error(), want) || m == nil {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

func FuzzReadMetrics(f *testing.F) {
	f.Add([]byte(someMetrics))
	f.Add([]byte(`{"step":1,"loss":null,"tokens_per_s":1e-320,"tokens":9223372036854775807,"valid":{},"diagnosis":{"a":[]}}`))
	f.Add([]byte("{}\n\n[1]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := readMetrics(bytes.NewReader(data), 8)
		if err != nil && !errors.Is(err, ErrMetrics) {
			t.Fatal(err)
		}
		for _, c := range []Curve{m.training.done(), m.evaluation.done()} {
			if c.Len() > 9 || !slices.IsSorted(c.Steps) {
				t.Fatalf("%+v", c)
			}
			for name, column := range c.Values {
				if len(column) != c.Len() || len(c.Seconds) != c.Len() {
					t.Fatalf("%s has %d of %d", name, len(column), c.Len())
				}
				for _, v := range append(column, c.Seconds...) {
					if math.IsInf(v, 0) {
						t.Fatal(name, v)
					}
				}
			}
		}
	})
}

func TestCellsHaveTheMeanOfTheirLastDiagnoses(t *testing.T) {
	in := made("usual", usual[1:2], 3, 4)
	for i, raw := range []string{`{"violations":0,"rms":[1,2],"divergence":[1]}`, `{"violations":3,"rms":[3,4],"divergence":[1,2]}`, `{"violations":0,"rms":[5,9]}`} {
		in.Outcomes[i].Result.Diagnosis = json.RawMessage(raw)
	}
	d := mustMake(t, in).Cells[0].Diagnosis
	if d.Seeds != 3 || d.Mean["violations"] != 1 || d.Max["violations"] != 3 || !slices.Equal(d.Depths["rms"], []float64{3, 5}) {
		t.Errorf("%+v", d)
	}
	if _, ok := d.Depths["divergence"]; ok {
		t.Error("lists of different lengths have a mean")
	}
	in.Outcomes[0].Result.Diagnosis = nil
	in.Outcomes[0].Last = &Diagnosis{Values: map[string]float64{"violations": 9}}
	if d := mustMake(t, in).Cells[0].Diagnosis; d.Max["violations"] != 9 {
		t.Errorf("the last of the metrics stands in: %+v", d)
	}
}

func TestPageOfTheLargestPlanIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 trials")
	}
	var cells []cellOf
	for i := range 2000 {
		cells = append(cells, cellOf{fmt.Sprintf("r%d", i), "none", float64(i%7) / 100, i%2 == 0})
	}
	in := made("large", cells, 5, 8)
	for i := range 3000 { // of which none may be left out
		in.Outcomes[i].State, in.Outcomes[i].Result = sweep.Failed, nil
		in.Outcomes[i].Failure = &sweep.Failure{State: sweep.Failed, Exit: 1, Error: fmt.Sprintf("error: the %dth diverged", i)}
	}
	r := mustMake(t, in)
	c := r.charts()
	var b bytes.Buffer
	if err := r.html(&b, c); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if len(text) > 8<<20 {
		t.Errorf("the page has %d bytes", len(text))
	}
	for i, rest := 0, text; i < 3000; i++ {
		var there bool
		if _, rest, there = strings.Cut(rest, fmt.Sprintf("the %dth diverged", i)); !there {
			t.Fatalf("the %dth failed trial is not there", i)
		}
	}
	for _, ch := range c.Charts {
		points := 0
		for _, l := range ch.Lines {
			points += len(l.Steps)
		}
		if len(ch.Lines) > maxCells+maxThin || points > maxDrawn {
			t.Errorf("%s: %d lines, %d points", ch.Name, len(ch.Lines), points)
		}
	}
	for _, want := range []string{"Of 2,000 cells with curves the first 40", "The first 200 of 2000 cells are shown", "at most 4 have a thin line"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestChartsOfManyLinesHaveFewerPoints(t *testing.T) {
	var c Curve
	for i := range MaxPoints {
		c.add(i+1, 0, 0, map[string]float64{validLoss: 1})
	}
	cells := make([]*Cell, maxCells)
	for i := range cells {
		cells[i] = &Cell{}
		for range 6 {
			cells[i].trials = append(cells[i].trials, &trial{Trial: &sweep.Trial{}, Outcome: Outcome{State: sweep.Done, Evaluation: c}})
		}
	}
	for want, n := range map[int]int{MaxPoints: 10, maxDrawn / 200: maxCells} {
		ch := newChart(validLoss, cells[:n], 4)
		if len(ch.Lines) != 5*n || len(ch.Lines[0].Steps) != want {
			t.Errorf("%d lines of %d points, want %d of %d", len(ch.Lines), len(ch.Lines[0].Steps), 5*n, want)
		}
	}
}

func TestLinesOfCurvesAreThinned(t *testing.T) {
	l := line{Steps: make([]int, 1000), Seconds: make(numbers, 1000), Values: make(numbers, 1000)}
	for i := range l.Steps {
		l.Steps[i] = i
	}
	l.thin(50)
	if len(l.Steps) != 50 || l.Steps[0] != 0 || l.Steps[49] != 999 {
		t.Errorf("%v", l.Steps)
	}
	text, err := json.Marshal(numbers{1, math.NaN(), 0.123456789, math.Inf(1)})
	if err != nil || string(text) != "[1,null,0.123457,null]" {
		t.Errorf("%s %v", text, err)
	}
}

// planned writes a plan's directory with two cells of two seeds.
func planned(t *testing.T) (string, []sweep.Trial) {
	t.Helper()
	dir := t.TempDir()
	p := sweep.Plan{Version: sweep.Version, Name: "loaded", Created: created, Axes: []string{"lr"}}
	for i := range 4 {
		lr := []string{"1", "2"}[i/2]
		config := json.RawMessage(fmt.Sprintf(`{"n":%d}`, i))
		id, err := sweep.ID(config)
		if err != nil {
			t.Fatal(err)
		}
		p.Trials = append(p.Trials, sweep.Trial{ID: id, Cell: "lr=" + lr, Seed: uint64(i%2 + 1), Axes: map[string]string{"lr": lr}, Config: config})
	}
	put(t, filepath.Join(dir, "plan.json"), p)
	return dir, p.Trials
}

func put(t *testing.T, path string, v any) {
	t.Helper()
	text, isText := v.(string)
	if !isText {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestLoadReadsWhatTheTrialsLeft(t *testing.T) {
	dir, trials := planned(t)
	at := func(i int, name string) string { return filepath.Join(dir, "trials", trials[i].ID, name) }
	put(t, at(0, "result.json"), sweep.Result{Trial: trials[0].ID, Loss: 1.5, Diagnosis: json.RawMessage("null")})
	put(t, at(0, "metrics.jsonl"), someMetrics)
	put(t, at(1, "failure.json"), sweep.Failure{Trial: trials[1].ID, State: sweep.Failed, Exit: 1, Error: "diverged"})
	put(t, at(1, "log"), "diverged\n")
	put(t, at(1, "metrics.jsonl"), "{\n"+someMetrics)
	put(t, at(2, "result.json"), "{damaged")
	in, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	o := in.Outcomes
	if o[0].State != sweep.Done || o[0].Result.Loss != 1.5 || o[0].Training.Len() != 3 || o[0].Last == nil || o[0].Problem != "" {
		t.Errorf("done: %+v", o[0])
	}
	if o[1].State != sweep.Failed || o[1].Failure.Error != "diverged" || o[1].Log != at(1, "log") || !strings.Contains(o[1].Problem, "line 1") {
		t.Errorf("failed: %+v", o[1])
	}
	if o[2].State == sweep.Done || o[2].Result != nil || !strings.Contains(o[2].Problem, "damaged") {
		t.Errorf("damaged: %+v", o[2])
	}
	if o[3].State != sweep.Pending || o[3].Log != "" {
		t.Errorf("pending: %+v", o[3])
	}
	r := mustMake(t, in)
	if r.Cells[0].Diagnosis == nil || r.Counts != (Counts{4, 1, 1, 2}) || !strings.Contains(r.Unfinished[1].Error, "damaged") {
		t.Errorf("%+v", r)
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, sweep.ErrPlan) {
		t.Error(err)
	}
}
