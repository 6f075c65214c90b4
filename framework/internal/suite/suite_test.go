package suite

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func entries() []Entry {
	return []Entry{
		{Mode: "a", Name: "good", Rule: "holds", Run: func(context.Context) (string, error) { return "worst 1e-9", nil }},
		{Mode: "a", Name: "bad", Rule: "fails", Fix: "kernel", Run: func(context.Context) (string, error) { return "", errors.New("off by one") }},
		{Mode: "b", Name: "panics", Rule: "stays alive", Run: func(context.Context) (string, error) { panic("boom") }},
		{Mode: "b", Name: "skipped", Rule: "not run", Run: func(context.Context) (string, error) { panic("must not run") }},
	}
}

func TestReportTellsGoodFromBad(t *testing.T) {
	r := Check(context.Background(), entries(), map[string]string{"b/skipped": "not here"})
	var got []string
	for _, c := range r.Cases {
		got = append(got, c.ID()+"="+c.Status())
	}
	if s := strings.Join(got, " "); s != "a/good=ok a/bad=FAIL b/panics=FAIL b/skipped=skip" {
		t.Error(s)
	}
	if r.OK() || len(r.Failed()) != 2 || (Report{}).OK() {
		t.Error("a failing or an empty report is ok")
	}
	var table strings.Builder
	if err := r.Write(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"off by one", "look: kernel", "panic: boom", "not here", "worst 1e-9", "4 cases, 2 failed, 1 skipped"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("table lacks %q:\n%s", want, table.String())
		}
	}
	js, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"id":"a/bad"`, `"status":"FAIL"`, `"detail":"off by one"`, `"skipped":"not here"`} {
		if !strings.Contains(string(js), want) {
			t.Errorf("JSON lacks %s: %s", want, js)
		}
	}
}

func TestCanceledContextFailsWhatIsLeft(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := Check(ctx, entries()[:1], nil)
	if !errors.Is(r.Cases[0].Err, context.Canceled) {
		t.Error(r.Cases[0].Err)
	}
}
