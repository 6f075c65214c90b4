//go:build unix

package slurm

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// submitted prepares a plan and submits it.
func submitted(t *testing.T, d *sweep.Dir, o Options) (string, Prepared, error) {
	t.Helper()
	o.Program = "/opt/tern"
	p, err := Prepare(context.Background(), d, o, noon)
	if err != nil {
		return "", p, err
	}
	id, err := Submit(context.Background(), d, o, &p)
	return id, p, err
}

func TestSubmissionIsFrozen(t *testing.T) {
	calls := fakes(t, map[string]string{
		"sbatch": "echo 'site: welcome'; echo '4711;main'", "scontrol": config(1001), "squeue": "true",
	})
	d := plan(t, "it's a plan", 5)
	finish(t, d, 1)
	id, p, err := submitted(t, d, Options{PerTask: 2})
	if err != nil || id != "4711" {
		t.Fatalf("job %q, %v", id, err)
	}
	s, err := Load(d, p.Submission.Name)
	if err != nil {
		t.Fatal(err)
	}
	var shares []string
	for i := range s.Tasks {
		trials, err := s.Trials(d, i)
		if err != nil {
			t.Fatal(err)
		}
		var at []string
		for _, tr := range trials {
			at = append(at, tr.Cell)
		}
		shares = append(shares, strings.Join(at, " "))
	}
	// Trial 1 is done: 0, 2, 3 and 4 are left, for two tasks.
	if want := []string{"n= n=xxx", "n=xx n=xxxx"}; !slices.Equal(shares, want) {
		t.Errorf("tasks %q, want %q", shares, want)
	}
	if _, err := s.Trials(d, 2); !errors.Is(err, ErrSubmission) {
		t.Errorf("task 2 of 2: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(d.Path, "slurm", s.Name, "script.sh"))
	if err != nil || string(text) != p.Script {
		t.Errorf("the script is not the one that was prepared: %v\n%s", err, text)
	}
	if c := calls(); !strings.Contains(c, "<--array=0-1>") || !strings.Contains(c, "it's a plan/slurm/"+s.Name+"/script.sh>\n") {
		t.Errorf("calls:\n%s", c)
	}
}

// finish makes a trial done.
func finish(t *testing.T, d *sweep.Dir, i int) {
	t.Helper()
	id := d.Plan.Trials[i].ID
	if err := os.MkdirAll(d.TrialDir(id), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteResult(sweep.Result{Trial: id}); err != nil {
		t.Fatal(err)
	}
}

func TestASecondArrayWaitsForTheFirst(t *testing.T) {
	const gone = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
	for _, c := range []struct {
		name, squeue string
		err          error
	}{
		{"running", "echo RUNNING; echo PENDING", ErrQueued},
		{"ended", "true", nil},
		{"forgotten", gone, nil},
		{"nobody knows", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", ErrRefused},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := fakes(t, map[string]string{"sbatch": "echo 12", "scontrol": config(1001), "squeue": c.squeue})
			d := plan(t, "plan", 3)
			if _, _, err := submitted(t, d, Options{}); err != nil {
				t.Fatal(err)
			}
			_, p, err := submitted(t, d, Options{})
			if !errors.Is(err, c.err) {
				t.Errorf("%v, want %v", err, c.err)
			}
			if c.err == ErrQueued && !strings.Contains(errors.FlattenHints(err), "scancel 12") {
				t.Errorf("hints: %s", errors.FlattenHints(err))
			}
			if n := strings.Count(calls(), "sbatch"); (n == 2) != (c.err == nil) {
				t.Errorf("sbatch was called %d times", n)
			}
			if c.err == nil && p.Submission.Name != "20261128-120000-2" {
				t.Errorf("the second submission of that second is called %s", p.Submission.Name)
			}
		})
	}
}

// A process that ended between sbatch and writing down the number is found by the
// job's name.
func TestAnArrayWithoutANumberIsFoundByItsName(t *testing.T) {
	calls := fakes(t, map[string]string{"sbatch": "echo 12", "scontrol": config(1001), "squeue": "echo PENDING"})
	d := plan(t, "plan", 3)
	_, p, err := submitted(t, d, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(d.Path, "slurm", p.Submission.Name, "job")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := submitted(t, d, Options{}); !errors.Is(err, ErrQueued) {
		t.Errorf("%v", err)
	}
	if c := calls(); !strings.Contains(c, "squeue <--me> <--name=tern-a_sweep-20261128-120000>") {
		t.Errorf("calls:\n%s", c)
	}
}

func TestWhatSbatchRefusesIsSaidInItsWords(t *testing.T) {
	const words = "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified"
	fakes(t, map[string]string{"sbatch": "echo '" + words + "' >&2; exit 1", "scontrol": config(1001)})
	d := plan(t, "plan", 3)
	_, _, err := submitted(t, d, Options{})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), words) {
		t.Errorf("%v", err)
	}
	if names, err := list(d); err != nil || len(names) != 0 {
		t.Errorf("submissions that were refused: %v, %v", names, err)
	}
}

func TestWithoutSlurmItSaysWhatToDo(t *testing.T) {
	fakes(t, nil)
	t.Setenv("PATH", t.TempDir())
	_, _, err := submitted(t, plan(t, "plan", 3), Options{})
	if !errors.Is(err, ErrMissing) || !strings.Contains(errors.FlattenHints(err), "--engine local") {
		t.Errorf("%v\n%s", err, errors.FlattenHints(err))
	}
}

func TestAnswersThatAreNoJob(t *testing.T) {
	for _, answer := range []string{"Submitted batch job 12", "", "-3", "12 13"} {
		fakes(t, map[string]string{"sbatch": "echo '" + answer + "'", "scontrol": config(1001)})
		if id, _, err := submitted(t, plan(t, "plan", 2), Options{}); err == nil {
			t.Errorf("%q is job %q", answer, id)
		}
	}
}

func TestArraysAreNoLargerThanTheClusterTakes(t *testing.T) {
	fakes(t, map[string]string{"scontrol": config(5)})
	d := plan(t, "plan", 12)
	p, err := Prepare(context.Background(), d, Options{Program: "/opt/tern"}, noon)
	if err != nil || len(p.Submission.Tasks) != 4 { // three trials each
		t.Errorf("%d tasks, %v", len(p.Submission.Tasks), err)
	}
	_, err = Prepare(context.Background(), d, Options{Program: "/opt/tern", PerTask: 2}, noon)
	if !errors.Is(err, ErrOption) || !strings.Contains(errors.FlattenHints(err), "--trials-per-task 3") {
		t.Errorf("%v\n%s", err, errors.FlattenHints(err))
	}
}

func TestPrepareWritesNothing(t *testing.T) {
	fakes(t, map[string]string{"scontrol": "exit 1"})
	d := plan(t, "plan", 2)
	if _, err := Prepare(context.Background(), d, Options{Program: "/opt/tern"}, noon); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(d.Path, "slurm")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("slurm: %v", err)
	}
	finish(t, d, 0)
	finish(t, d, 1)
	if _, err := Prepare(context.Background(), d, Options{Program: "/opt/tern"}, noon); !errors.Is(err, ErrNone) {
		t.Errorf("a plan that is done: %v", err)
	}
}

func TestOptionsThatCannotBe(t *testing.T) {
	for name, o := range map[string]Options{
		"a limit before which there is no warning": {Program: "/t", Time: time.Minute},
		"a relative program":                       {Program: "tern"},
		"no program":                               {},
		"a word that sbatch takes for the script":  {Program: "/t", Args: []string{"--account", "lab"}},
		"fewer than no trials":                     {Program: "/t", PerTask: -1},
	} {
		if err := o.check(); !errors.Is(err, ErrOption) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, dir := range []string{"/a\\b", "/a\nb"} {
		if err := checkPath(dir); !errors.Is(err, ErrOption) {
			t.Errorf("%q: %v", dir, err)
		}
	}
}
