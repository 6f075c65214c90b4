package report

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/sweep"
)

var update = flag.Bool("update", false, "write the golden files")

func mustMake(t *testing.T, in Input) *Report {
	t.Helper()
	r, err := Make(in)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReportsOfATroubledSweepAreAsBefore(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, troubled()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.md", "report.json", "results.csv"} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(golden, got, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s (-want +got, -update writes it):\n%s", name, d)
		}
	}
	for _, name := range Files {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// losses makes a sweep of one axis from losses by seed; NaN is a trial that
// failed.
func losses(cells map[string][]float64) Input {
	var in Input
	in.Plan.Axes = []string{"lr"}
	for _, name := range []string{"base", "a", "b", "c"} {
		for s, v := range cells[name] {
			id := name + string(rune('1'+s))
			in.Plan.Trials = append(in.Plan.Trials, sweep.Trial{ID: id, Cell: "lr=" + name, Seed: uint64(s + 1), Axes: map[string]string{"lr": name}})
			o := Outcome{Trial: id, State: sweep.Done, Result: &sweep.Result{Loss: v, BitsPerByte: 10 - v}}
			if math.IsNaN(v) {
				o.State, o.Result, o.Failure = sweep.Failed, nil, &sweep.Failure{Error: "diverged"}
			}
			in.Outcomes = append(in.Outcomes, o)
		}
	}
	return in
}

func TestPairsAreOfEqualSeedsAndTheMissingOnesAreNamed(t *testing.T) {
	nan := math.NaN()
	r := mustMake(t, losses(map[string][]float64{
		"base": {1.0, 2.0, 3.0, nan},
		"a":    {1.1, 2.3, nan, 9, 9}, // seeds 1 and 2 are pairs
		"b":    {nan, nan, 3.5},
		"c":    {nan},
	}))
	a, b, c := r.Cells[1].Comparison, r.Cells[2].Comparison, r.Cells[3].Comparison
	if a.Paired.N != 2 || math.Abs(a.Paired.Mean-0.2) > 1e-12 { // (0.1 + 0.3) / 2
		t.Errorf("%+v", a.Paired)
	}
	if !slices.Equal(a.NotDone, []uint64{3}) || !slices.Equal(a.NotDoneBaseline, []uint64{4, 5}) {
		t.Errorf("not done: %v, in the baseline %v", a.NotDone, a.NotDoneBaseline)
	}
	// d = 0.1, 0.3: t = 0.2 / (0.1414/sqrt 2) = 2; p = 1 - 2/pi atan 2 with one degree of freedom.
	if want := 1 - 2/math.Pi*math.Atan(2); math.Abs(a.Paired.T.P-want) > 1e-9 || math.Abs(*a.Holm-want) > 1e-9 {
		t.Errorf("p %v, corrected %v, want %v: b and c test nothing and do not count", a.Paired.T.P, *a.Holm, want)
	}
	if b.Paired.N != 1 || b.Paired.T != nil || b.Holm != nil || b.Verdict != TooSmall {
		t.Errorf("one pair: %+v", b)
	}
	if c.Paired != nil || c.Verdict != TooSmall {
		t.Errorf("no pair: %+v", c)
	}
	text := r.String()
	for _, want := range []string{
		"2; without seed 3; baseline without seed 4, 5", "n too small", "4 of 5 (1 failed)",
		"cannot be below 0.5", "12.7 standard errors",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if n := len(r.Unfinished); n != 5 {
		t.Errorf("%d trials are listed as not done, want 5", n)
	}
}

func TestHolmCountsAllComparisonsOfTheReport(t *testing.T) {
	r := mustMake(t, losses(map[string][]float64{
		"base": {1, 1, 1, 1},
		"a":    {1.11, 1.12, 1.13, 1.12},
		"b":    {0.9, 1.1, 0.95, 1.2},
		"c":    {0.8, 0.82, 0.79, 0.81},
	}))
	a, b, c := r.Cells[1].Comparison, r.Cells[2].Comparison, r.Cells[3].Comparison
	if a.Verdict != Higher || b.Verdict != Unclear || c.Verdict != Lower {
		t.Errorf("%s, %s, %s", a.Verdict, b.Verdict, c.Verdict)
	}
	if b.Paired.T.P != *b.Holm { // the largest p is multiplied by one
		t.Errorf("the largest p %v became %v", b.Paired.T.P, *b.Holm)
	}
	least := min(a.Paired.T.P, c.Paired.T.P)
	if got := min(*a.Holm, *c.Holm); math.Abs(got-3*least) > 1e-15 {
		t.Errorf("the least p %v became %v, not three times it", least, got)
	}
	words := strings.Join(r.Words, "\n")
	for _, want := range []string{"Of 3 cells", ", 2 can be told from it", "lr=c is lower by 0.1950", "Not to be told from the baseline with these seeds: lr=b", "does not bear this out", "cannot be below 0.125", "with 7 after the correction for 3 comparisons"} {
		if !strings.Contains(words, want) {
			t.Errorf("no %q in\n%s", want, words)
		}
	}
}

func TestMetricChoosesWhatIsCompared(t *testing.T) {
	in := losses(map[string][]float64{"base": {1, 1.1}, "a": {1.2, 1.3}})
	in.Metric = BitsPerByte // 10 - loss: the other way round
	if got := mustMake(t, in).Cells[1].Comparison.Paired.Mean; math.Abs(got+0.2) > 1e-12 {
		t.Errorf("%v, want -0.2", got)
	}
	in.Metric = "los"
	if _, err := Make(in); !errors.Is(err, ErrMetric) || !strings.Contains(errors.FlattenHints(err), `"loss"`) {
		t.Error(err, errors.FlattenHints(err))
	}
}

func TestBaselineOfSomeAxesKeepsTheOthers(t *testing.T) {
	in := made("usual", usual, 2, 4)
	with := func(base string) (list []string) {
		in.Baseline = base
		for _, c := range mustMake(t, in).Cells {
			if c.Comparison == nil {
				list = append(list, "-")
			} else {
				list = append(list, c.Comparison.With)
			}
		}
		return list
	}
	const sn, st = "residual=standard quant=none", "residual=standard quant=ternary"
	for base, want := range map[string][]string{
		"":                                      {"-", sn, sn, sn, sn, sn},
		st:                                      {st, st, st, "-", st, st},
		"residual=standard":                     {"-", sn, sn, "-", st, st},
		"quant=none residual=mhclite:streams=2": slices.Repeat([]string{"residual=mhclite:streams=2 quant=none"}, 6),
	} {
		got := with(base)
		if len(want) == 6 && want[2] == "residual=mhclite:streams=2 quant=none" {
			want[2] = "-"
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", base, got, want)
		}
	}
	in.Plan.Baseline = st
	if got := with(""); got[3] != "-" {
		t.Errorf("the plan's baseline: %q", got)
	}
	for base, hint := range map[string]string{"residul=standard": `"residual"`, "residual=standart": `"standard"`, "standard": "residual", " ": "AXIS=VALUE"} {
		in.Baseline = base
		if _, err := Make(in); !errors.Is(err, ErrBaseline) || !strings.Contains(errors.FlattenHints(err), hint) {
			t.Errorf("%q: %v, hint %q", base, err, errors.FlattenHints(err))
		}
	}
}

func TestACellWithoutBaselineIsSaidToBe(t *testing.T) {
	in := made("usual", []cellOf{usual[0], usual[1], {"mhclite", "ternary", 0, true}}, 2, 4)
	in.Baseline = "residual=standard"
	r := mustMake(t, in)
	if c := r.Cells[2].Comparison; c.With != "" || c.Verdict != TooSmall {
		t.Errorf("%+v", c)
	}
	if !strings.Contains(strings.Join(r.Warnings, ""), "no baseline cell for 1 cell") {
		t.Errorf("%q", r.Warnings)
	}
}

func TestSweepsWithNothingToCompareAreReported(t *testing.T) {
	one := made("one", usual[:1], 3, 8)
	none := made("none", usual, 2, 4)
	for i := range none.Outcomes {
		none.Outcomes[i] = Outcome{Trial: none.Outcomes[i].Trial, State: sweep.Pending}
	}
	bare := made("bare", usual, 2, 4)
	bare.Outcomes = nil
	nameless := losses(map[string][]float64{"base": {1, 2}})
	nameless.Plan.Axes = nil
	for i := range nameless.Plan.Trials {
		nameless.Plan.Trials[i].Cell, nameless.Plan.Trials[i].Axes = "", nil
	}
	for want, in := range map[string]Input{"has one cell": one, "None of 12 trials": none, "0 failed, 12 missing": bare, "All 2 trials": nameless} {
		dir := t.TempDir()
		if err := Write(dir, in); err != nil {
			t.Errorf("%s: %v", want, err)
			continue
		}
		text, _ := os.ReadFile(filepath.Join(dir, "report.md"))
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("no %q in\n%s", want, text)
		}
		if _, err := os.Stat(filepath.Join(dir, differenceFile)); !os.IsNotExist(err) {
			t.Errorf("%s: differences are drawn of nothing: %v", want, err)
		}
	}
}

func TestPicturesOfAnEarlierReportAreRemoved(t *testing.T) {
	dir := t.TempDir()
	if err := Write(dir, made("a", usual, 2, 8)); err != nil {
		t.Fatal(err)
	}
	in := made("a", usual, 2, 8)
	in.Outcomes = nil
	if err := Write(dir, in); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*.svg"))
	if len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

func TestOutcomesThatDoNotFitAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Input){
		"not of the plan":  func(in *Input) { in.Outcomes[0].Trial = "other" },
		"without a result": func(in *Input) { in.Outcomes[0].Result = nil },
		"its loss is NaN":  func(in *Input) { in.Outcomes[0].Result.Loss = math.NaN() },
		"+Inf":             func(in *Input) { in.Outcomes[0].Result.BitsPerByte = math.Inf(1) },
		"planned twice":    func(in *Input) { in.Plan.Trials[1].Seed = in.Plan.Trials[0].Seed },
		"no trials":        func(in *Input) { in.Plan.Trials = nil },
	} {
		in := made("usual", usual, 2, 4)
		spoil(&in)
		if _, err := Make(in); !errors.Is(err, ErrInput) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDifferentScoringIsWarnedOf(t *testing.T) {
	in := made("usual", usual, 2, 4)
	in.Outcomes[3].Result.ValidTokens++
	in.Outcomes[4].Result.Program = "tern v2"
	in.Outcomes[5].Result.Host = "other"
	in.Outcomes[6].Problem = "line 3: nonsense"
	got := strings.Join(mustMake(t, in).Warnings, "\n")
	for _, want := range []string{"numbers of tokens", "versions of the program", "different machines", "line 3: nonsense"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if r := mustMake(t, made("usual", usual, 2, 4)); r.Warnings != nil {
		t.Errorf("%q", r.Warnings)
	}
}

func TestCSVHasEveryTrialAndNoFormula(t *testing.T) {
	in := troubled()
	last := len(in.Plan.Trials)
	in.Plan.Trials[last-1].Cell = "=1+1" // whatever the plan says, it is text
	var b bytes.Buffer
	if err := mustMake(t, in).CSV(&b); err != nil {
		t.Fatal(err)
	}
	lines, err := csv.NewReader(&b).ReadAll()
	if err != nil || len(lines) != len(in.Plan.Trials)+1 {
		t.Fatal(len(lines), err)
	}
	for _, line := range lines {
		for _, s := range line {
			if s != "" && strings.ContainsRune("=+@", rune(s[0])) {
				t.Errorf("a spreadsheet runs %q", s)
			}
		}
	}
	if lines[last][1] != "'=1+1" {
		t.Errorf("%q", lines[last][1])
	}
	if at := slices.Index(lines[0], "difference"); !strings.HasPrefix(lines[5][at], "-0.0") { // not taken for a formula
		t.Errorf("%q", lines[5])
	}
}

func TestJSONReadsBackAsItWas(t *testing.T) {
	r := mustMake(t, troubled())
	var b bytes.Buffer
	if err := r.writeJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Cells[1].Comparison.Paired.Mean != r.Cells[1].Comparison.Paired.Mean || len(back.Unfinished) != len(r.Unfinished) || back.Cells[6].Name != r.Cells[6].Name {
		t.Errorf("%+v", back.Cells[1])
	}
	if bytes.Contains(b.Bytes(), []byte(`\u003c`)) {
		t.Error("a file of JSON needs no escapes of HTML")
	}
}
