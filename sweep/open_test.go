package sweep

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/framework"
)

func TestAFrozenPlanIsReadBackAsItWas(t *testing.T) {
	spec := "name: a & b <c>\ngrid: {residual: ['a&b', '<c>', \"d\\u2028e\"]}\nseeds: 2\n"
	spec = strings.ReplaceAll(spec, "\\u2028", "é")
	p := mustPlan(t, spec)
	dir := filepath.Join(t.TempDir(), "new", "plan")
	if err := Freeze(dir, p, []byte(spec)); err != nil {
		t.Fatal(err)
	}
	d := mustOpen(t, dir)
	if diff := cmp.Diff(p, d.Plan); diff != "" {
		t.Error(diff)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "spec.yaml")); err != nil || string(text) != spec {
		t.Errorf("spec.yaml is %q, %v", text, err)
	}
	if got, err := d.Trial(p.Trials[3].ID); err != nil || got.ID != p.Trials[3].ID {
		t.Errorf("trial %v, %v", got.ID, err)
	}
	_, err := d.Trial(p.Trials[3].ID[:15] + "x")
	if !errors.Is(err, framework.ErrUnknown) || !strings.Contains(errors.FlattenHints(err), p.Trials[3].ID) {
		t.Errorf("error %v, hints %s", err, errors.FlattenHints(err))
	}
}

// The ID is that of sha256sum: printf '{"a":1,"b":"x"}' | sha256sum.
func TestTheIDIsTheHashOfTheCompactConfiguration(t *testing.T) {
	for _, text := range []string{`{"a":1,"b":"x"}`, "{\n  \"a\": 1,\n  \"b\": \"x\"\n}"} {
		if id, err := ID(json.RawMessage(text)); err != nil || id != "ecf9e98ec0641e23" {
			t.Errorf("ID %s, %v", id, err)
		}
	}
	if _, err := ID(json.RawMessage("{")); err == nil {
		t.Error("half an object has an ID")
	}
}

func TestFreezeOverwritesNothing(t *testing.T) {
	p := mustPlan(t, "seeds: 2\n")
	dir := t.TempDir()
	if err := Freeze(dir, p, nil); err != nil {
		t.Fatal(err)
	}
	err := Freeze(dir, p, nil)
	if !errors.Is(err, ErrExists) || !strings.Contains(errors.FlattenHints(err), "tern sweep run") {
		t.Errorf("a plan: %v", err)
	}
	other := t.TempDir()
	mustWrite(t, filepath.Join(other, "thesis.txt"), "x")
	if err := Freeze(other, p, nil); !errors.Is(err, ErrExists) {
		t.Errorf("a file: %v", err)
	}
	cut := t.TempDir() // as a planning that was killed leaves it
	mustWrite(t, filepath.Join(cut, "spec.yaml"), "x")
	mustWrite(t, filepath.Join(cut, ".plan.json.tmp-1234"), "{")
	if _, err := Open(cut); !errors.Is(err, ErrPlan) {
		t.Errorf("half a plan opens: %v", err)
	}
	if err := Freeze(cut, p, nil); err != nil {
		t.Errorf("after a planning that was killed: %v", err)
	}
}

// edited is the text of a plan with a change.
func edited(t *testing.T, change func(p *Plan)) []byte {
	t.Helper()
	p := mustPlan(t, "grid: {residual: [a, b]}\nseeds: 2\n")
	change(&p)
	text, err := encodePlan(p)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestDamagedPlansAreRefused(t *testing.T) {
	whole := edited(t, func(*Plan) {})
	if _, err := parsePlan(whole); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"cut":             whole[:len(whole)-40],
		"empty":           nil,
		"no trials":       edited(t, func(p *Plan) { p.Trials = nil }),
		"another config":  bytes.Replace(whole, []byte(`"dim":"32","quant"`), []byte(`"dim":"33","quant"`), 2),
		"a trial twice":   edited(t, func(p *Plan) { p.Trials[1] = p.Trials[0] }),
		"an ID of a path": edited(t, func(p *Plan) { p.Trials[1].ID = "../../../../etc/" }),
		"no such ID":      edited(t, func(p *Plan) { p.Trials[1].ID = "0123456789abcdef" }),
		"bad name":        edited(t, func(p *Plan) { p.Name = "../x" }),
		"escapes":         edited(t, func(p *Plan) { p.Trials[1].Cell = "\x1b[2J" }),
		"baseline":        edited(t, func(p *Plan) { p.Baseline = "c" }),
		"memory":          edited(t, func(p *Plan) { p.Trials[1].Memory = -1 }),
	} {
		_, err := parsePlan(text)
		if !errors.Is(err, ErrPlan) || !strings.Contains(errors.FlattenHints(err), "plan again") {
			t.Errorf("%s: error %v, hints %s", name, err, errors.FlattenHints(err))
		}
	}
}

func TestAPlanOfAnotherVersionIsRefusedByName(t *testing.T) {
	text := edited(t, func(p *Plan) { p.Version = 2 })
	if _, err := parsePlan(text); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), "version 2, this program has 1") {
		t.Errorf("error %v", err)
	}
	// Whatever else is new in it.
	if _, err := parsePlan([]byte(`{"version": 3, "trials": {"by_id": {}}}`)); !errors.Is(err, ErrVersion) {
		t.Errorf("error %v", err)
	}
}

func TestAPlanThatIsNoRegularFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "plan.json"), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrPlan) {
		t.Errorf("error %v", err)
	}
	if _, err := Open(filepath.Join(dir, "nosuch")); !errors.Is(err, ErrPlan) || !strings.Contains(errors.FlattenHints(err), "tern sweep plan") {
		t.Errorf("error %v", err)
	}
}

func FuzzParsePlan(f *testing.F) {
	s, err := ParseSpec("s", []byte("grid: {residual: [a, b]}\n"), testKeys)
	if err != nil {
		f.Fatal(err)
	}
	p, err := New(s, resolveAll)
	if err != nil {
		f.Fatal(err)
	}
	p.Name = "test"
	whole, err := encodePlan(p)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		string(whole), "{}", `{"version":1,"trials":[{}]}`, `{"version":1,"name":"x","trials":[{"id":"44136fa355b3678a","config":{}}]}`,
		`{"version":2}`, `[`, `{"version":1e99}`, `{"version":1,"name":"x","trials":null}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parsePlan(text)
		if err != nil {
			if !errors.IsAny(err, ErrPlan, ErrVersion) {
				t.Fatalf("error %v", err)
			}
			return
		}
		seen := map[string]bool{}
		for _, trial := range p.Trials {
			if seen[trial.ID] || len(trial.ID) != 16 || strings.Trim(trial.ID, "0123456789abcdef") != "" {
				t.Fatalf("ID %q", trial.ID)
			}
			seen[trial.ID] = true
		}
		again, err := encodePlan(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parsePlan(again); err != nil {
			t.Fatalf("written again it is refused: %v", err)
		}
	})
}
