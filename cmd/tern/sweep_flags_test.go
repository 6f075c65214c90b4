package main

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/sweep"
)

func TestCommasPartValuesButNotTheOptionsOfASpec(t *testing.T) {
	for given, want := range map[string][]string{
		"standard":                              {"standard"},
		"standard,mhclite,mhc":                  {"standard", "mhclite", "mhc"},
		"mhclite:streams=4,init=report,scaled":  {"mhclite:streams=4,init=report", "scaled"},
		"a,mhclite:streams=4,b:x=1,y=2,z=3":     {"a", "mhclite:streams=4", "b:x=1,y=2,z=3"},
		"plugin:mine:group=32,threshold=0.5,x":  {"plugin:mine:group=32,threshold=0.5", "x"},
		"plugin:mine,group=32":                  {"plugin:mine,group=32"},
		"0.1,0.2":                               {"0.1", "0.2"},
		"gpt2:4096,gpt2":                        {"gpt2:4096", "gpt2"},
		"a,b=1":                                 {"a", "b=1"}, // nothing before it is a spec with options
		"a,b=1,c=2":                             {"a", "b=1,c=2"},
		"ternary:group=32,ternary:group=row":    {"ternary:group=32", "ternary:group=row"},
		"ternary:group=32,ternary:group=row,k=": {"ternary:group=32", "ternary:group=row,k="},
	} {
		got, err := splitValues(given)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%s: %v %s", given, err, d)
		}
	}
	for _, bad := range []string{"", ",", "a,", ",a", "a,,b"} {
		if _, err := splitValues(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestADifferenceOfTwoTrainingsIsNamed(t *testing.T) {
	run := func(change func(r *shortRun)) shortRun {
		r := shortRun{losses: []float64{3, 2.5}, norms: []float64{1, 2}, model: []byte("GGUF....")}
		change(&r)
		return r
	}
	base := run(func(*shortRun) {})
	for want, other := range map[string]shortRun{
		"":                              run(func(*shortRun) {}),
		"2 and 1 steps":                 run(func(r *shortRun) { r.losses = r.losses[:1] }),
		"the loss of step 2 is 2.5 and": run(func(r *shortRun) { r.losses[1] = math.Nextafter(2.5, 3) }),
		"the gradient norm of step 1":   run(func(r *shortRun) { r.norms[0] = 1.5 }),
		"model.gguf differs from byte 5": run(func(r *shortRun) {
			r.model[5]++
		}),
		"model.gguf has 8 and 9 bytes": run(func(r *shortRun) { r.model = append(r.model, 0) }),
	} {
		if got := base.difference(other); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAFewRowsAreThoseWhereSomethingHappens(t *testing.T) {
	loss := 2.0
	var rows []trialRow
	for _, s := range []sweep.State{sweep.Done, sweep.Pending, sweep.Running, sweep.Failed, sweep.Done} {
		rows = append(rows, trialRow{Cell: "c-" + string(s), State: s, Valid: &loss, Error: strings.Repeat("x", 500)})
	}
	text := watchTable(rows, 2)
	for _, want := range []string{"c-running", "c-failed", "and 3 more", "2 of 5 done, 1 running, 1 failed, 1 pending"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if strings.Contains(text, "c-done") || strings.Contains(text, strings.Repeat("x", 100)) {
		t.Error(text)
	}
}
