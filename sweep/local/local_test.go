//go:build unix

package local

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"

	"github.com/ternlm/tern/sweep"
)

// plan is a frozen plan of n trials, whose estimates are given in MiB.
func plan(t *testing.T, mib ...int64) *sweep.Dir {
	t.Helper()
	p := sweep.Plan{Version: sweep.Version, Name: "test", Axes: []string{"dim"}}
	for i, m := range mib {
		config := json.RawMessage(fmt.Sprintf(`{"dim":%d}`, i))
		id, err := sweep.ID(config)
		if err != nil {
			t.Fatal(err)
		}
		p.Trials = append(p.Trials, sweep.Trial{ID: id, Cell: fmt.Sprintf("dim=%d", i), Config: config, Memory: m << 20})
	}
	dir := t.TempDir()
	if err := sweep.Freeze(dir, p, nil); err != nil {
		t.Fatal(err)
	}
	return open(t, dir)
}

func open(t *testing.T, dir string) *sweep.Dir {
	t.Helper()
	d, err := sweep.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// shell returns commands that run a text for the shell in the trial's directory;
// $N is the trial's place in the plan, $THREADS its threads.
func shell(d *sweep.Dir, text string) func(sweep.Trial, int) sweep.Command {
	return func(t sweep.Trial, threads int) sweep.Command {
		vars := fmt.Sprintf("cd %s; ID=%s N=%s THREADS=%d; ", d.TrialDir(t.ID), t.ID, strings.TrimPrefix(t.Cell, "dim="), threads)
		return sweep.Command{Path: "/bin/sh", Args: []string{"sh", "-c", vars + text}}
	}
}

const finish = `printf '{"trial": "%s"}' $ID > result.json; `

// recorder notes what a pool tells.
type recorder struct {
	lines   []string
	now     int
	most    int
	threads []int
}

func (r *recorder) event(e Event) {
	line := e.Trial.Cell + " " + string(e.State)
	if e.Again {
		line += " again"
	}
	r.lines = append(r.lines, line)
	if e.State == sweep.Running {
		r.now++
		r.most = max(r.most, r.now)
		r.threads = append(r.threads, e.Threads)
	} else {
		r.now--
	}
}

func run(t *testing.T, d *sweep.Dir, o Options) (Summary, *recorder) {
	t.Helper()
	r := &recorder{}
	o.Observe = r.event
	s, err := Run(context.Background(), d, o)
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

func TestAFailureStopsNoOtherTrialAndIsLeftUnlessRetried(t *testing.T) {
	d := plan(t, 1, 1, 1, 1)
	o := Options{Jobs: 1, Command: shell(d, "test $N = 1 && exit 1; "+finish)}
	s, r := run(t, d, o)
	want := []string{
		"dim=0 running", "dim=0 done", "dim=1 running", "dim=1 failed", "dim=2 running", "dim=2 done", "dim=3 running", "dim=3 done",
	}
	if diff := cmp.Diff(want, r.lines); diff != "" {
		t.Error(diff)
	}
	counts := map[sweep.State]int{sweep.Done: 3, sweep.Failed: 1}
	if diff := cmp.Diff(Summary{States: counts}, s); diff != "" {
		t.Error(diff)
	}

	o.Command = shell(d, finish)
	if s, r = run(t, d, o); len(r.lines) > 0 || !cmp.Equal(s.States, counts) {
		t.Errorf("again: %v, %+v", r.lines, s)
	}
	o.Retry = true
	s, r = run(t, d, o)
	if diff := cmp.Diff([]string{"dim=1 running", "dim=1 done"}, r.lines); diff != "" || s.States[sweep.Done] != 4 {
		t.Errorf("retried: %s, %+v", diff, s)
	}
}

func TestATrialThatIsKilledGoesOnButNotForEver(t *testing.T) {
	d := plan(t, 1, 1)
	s, r := run(t, d, Options{Jobs: 1, Command: shell(d, "test $N = 0 && kill -9 $$; "+finish)})
	want := []string{
		"dim=0 running", "dim=0 interrupted again", "dim=1 running", "dim=1 done",
		"dim=0 running", "dim=0 interrupted again", "dim=0 running", "dim=0 interrupted",
	}
	if diff := cmp.Diff(want, r.lines); diff != "" {
		t.Error(diff)
	}
	if s.States[sweep.Interrupted] != 1 || s.States[sweep.Done] != 1 {
		t.Errorf("%+v", s)
	}
	// The next run tries it anew.
	if s, _ := run(t, d, Options{Jobs: 1, Command: shell(d, finish)}); s.States[sweep.Done] != 2 {
		t.Errorf("%+v", s)
	}
}

func TestJobsAndMemoryBoundWhatRunsAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		mib  []int64
		o    Options
		most int
	}{
		"jobs":                   {[]int64{1, 1, 1, 1, 1, 1}, Options{Jobs: 3}, 3},
		"one job":                {[]int64{1, 1, 1}, Options{Jobs: 1}, 1},
		"memory":                 {[]int64{10, 10, 10, 10}, Options{Jobs: 4, Memory: 25 << 20}, 2},
		"memory of the process":  {[]int64{10, 10, 10, 10}, Options{Jobs: 4, Memory: 50 << 20, Base: 10 << 20}, 2},
		"what fits nowhere":      {[]int64{100, 100}, Options{Jobs: 4, Memory: 25 << 20}, 1},
		"small ones pass by":     {[]int64{20, 20, 5}, Options{Jobs: 4, Memory: 25 << 20}, 2},
		"no limit of the memory": {[]int64{1 << 20, 1 << 20, 1 << 20}, Options{Jobs: 4}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			d := plan(t, c.mib...)
			c.o.Command = shell(d, finish)
			s, r := run(t, d, c.o)
			if r.most != c.most || s.States[sweep.Done] != len(c.mib) {
				t.Errorf("%d at once, %+v\n%s", r.most, s, strings.Join(r.lines, "\n"))
			}
		})
	}
}

// Memory that killed a trial is reckoned with when it goes on.
func TestAKilledTrialNeedsMoreRoom(t *testing.T) {
	d := plan(t, 10, 10)
	// The first is killed at once, the second waits until that is seen.
	seen := filepath.Join(d.TrialDir(d.Plan.Trials[0].ID), "failure.json")
	s, r := run(t, d, Options{Jobs: 2, Memory: 25 << 20, Command: shell(d, `
		test $N = 0 -a ! -e was && { touch was; kill -9 $$; }
		i=0; while test $N = 1 -a ! -e `+seen+` -a $i -lt 500; do i=$((i+1)); sleep 0.02; done; `+finish)})
	again := slices.Index(r.lines[1:], "dim=0 running")
	if other := slices.Index(r.lines[1:], "dim=1 done"); again < other || s.States[sweep.Done] != 2 {
		t.Errorf("%+v\n%s", s, strings.Join(r.lines, "\n"))
	}
}

func TestProcessorsAreSharedOutAmongThoseThatRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	for name, c := range map[string]struct {
		mib  []int64
		o    Options
		want []int
	}{
		"more trials than processors": {make([]int64, 10), Options{Jobs: 8}, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
		"few trials":                  {make([]int64, 2), Options{}, []int{4, 4}},
		"one trial":                   {make([]int64, 1), Options{}, []int{8}},
		"few jobs":                    {make([]int64, 4), Options{Jobs: 2}, []int{4, 4, 4, 4}},
		"memory for two":              {[]int64{10, 10}, Options{Memory: 20 << 20}, []int{4, 4}},
		"memory for one":              {[]int64{10, 10}, Options{Memory: 15 << 20}, []int{8, 8}},
		"as told":                     {make([]int64, 2), Options{Threads: 3}, []int{3, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			d := plan(t, c.mib...)
			c.o.Command = shell(d, finish)
			_, r := run(t, d, c.o)
			if diff := cmp.Diff(c.want, r.threads); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// until waits for a file.
func until(path string) {
	for begin := time.Now(); time.Since(begin) < 20*time.Second; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
}

func TestStopHasTheTrialsSaveAndBeginsNoOther(t *testing.T) {
	d := plan(t, 1, 1, 1)
	stop := make(chan struct{})
	go func() {
		for _, trial := range d.Plan.Trials[:2] {
			until(filepath.Join(d.TrialDir(trial.ID), "ready"))
		}
		close(stop)
	}()
	s, r := run(t, d, Options{
		Jobs: 2, Stop: stop, Command: shell(d, "trap 'touch saved; exit 130' TERM; touch ready; while :; do sleep 0.02; done"),
	})
	if !s.Stopped || s.States[sweep.Interrupted] != 2 || s.States[sweep.Pending] != 1 {
		t.Errorf("%+v\n%s", s, strings.Join(r.lines, "\n"))
	}
	for _, trial := range d.Plan.Trials[:2] {
		if _, err := os.Stat(filepath.Join(d.TrialDir(trial.ID), "saved")); err != nil {
			t.Error(err)
		}
	}
	if s, _ = run(t, d, Options{Command: shell(d, finish)}); s.Stopped || s.States[sweep.Done] != 3 {
		t.Errorf("then: %+v", s)
	}
}

// A process that a killed scheduler left behind is waited for, and its work kept.
func TestATrialThatAnotherProcessTrainsIsWaitedFor(t *testing.T) {
	d := plan(t, 1, 1)
	orphan := d.Plan.Trials[0]
	l, err := d.LockTrial(orphan.ID)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		until(filepath.Join(d.TrialDir(d.Plan.Trials[1].ID), "result.json"))
		_ = d.WriteResult(sweep.Result{Trial: orphan.ID})
		_ = l.Release()
	}()
	s, _ := run(t, d, Options{Jobs: 2, Command: shell(d, "touch ran; "+finish)})
	if s.States[sweep.Done] != 2 {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(filepath.Join(d.TrialDir(orphan.ID), "ran")); err == nil {
		t.Error("it was run a second time")
	}
}

func TestAProgramThatIsNotThereEndsTheRun(t *testing.T) {
	d := plan(t, 1, 1, 1, 1)
	r := &recorder{}
	none := func(sweep.Trial, int) sweep.Command {
		return sweep.Command{Path: "/no/such/program", Args: []string{"x"}}
	}
	_, err := Run(context.Background(), d, Options{Jobs: 1, Command: none, Observe: r.event})
	if !errors.Is(err, os.ErrNotExist) || len(r.lines) != 1 {
		t.Errorf("error %v after %v", err, r.lines)
	}
}
