//go:build unix

package sweep

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/filelock"
)

// script is a process that works on a trial: a text for the shell, which runs in
// the trial's directory and knows its $ID.
func script(d *Dir, t Trial, text string) Command {
	text = "cd " + d.TrialDir(t.ID) + "; ID=" + t.ID + "; " + text
	return Command{Path: "/bin/sh", Args: []string{"sh", "-c", text}}
}

// finishes writes a result.
const finishes = `printf '{"trial": "%s"}' $ID > result.json; `

// twoTrials is a plan of two.
func twoTrials(t *testing.T) *Dir { return mustFreeze(t, "grid: {residual: [a, b]}\n") }

func mustState(t *testing.T, d *Dir, trial Trial, want State) (*Result, *Failure) {
	t.Helper()
	state, r, f, err := d.Status(trial)
	if err != nil || state != want {
		t.Errorf("state %s, %v, want %s", state, err, want)
	}
	return r, f
}

func TestHowAProcessEndsIsTheStateOfItsTrial(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		state  State
		exit   int
		killed bool
		err    string
	}{
		"done":                   {finishes, Done, 0, false, ""},
		"done, whatever follows": {finishes + "exit 1", Done, 0, false, ""},
		"no result":              {"echo nothing >&2", Failed, 0, false, "it ended with status 0 and wrote no result\nnothing"},
		"another's result":       {"ID=x; " + finishes, "", 0, false, ""},
		"failed":                 {"echo step 3 >&2; echo 'error: no room' >&2; echo 'hint: make some' >&2; exit 1", Failed, 1, false, "error: no room\nhint: make some"},
		"wrong configuration":    {"exit 2", Failed, 2, false, ""},
		"stopped":                {"exit 75", Interrupted, 75, false, ""},
		"interrupted":            {"exit 130", Interrupted, 130, true, ""},
		"killed":                 {"kill -9 $$", Interrupted, -1, true, ""},
		"crashed":                {"kill -SEGV $$", Interrupted, -1, true, ""},
		"words for a terminal":   {`printf 'error: \033[31mred\r\nx\377\n' >&2; exit 1`, Failed, 1, false, "error: [31mred\n\nx?"},
	} {
		t.Run(name, func(t *testing.T) {
			d := twoTrials(t)
			trial := d.Plan.Trials[1]
			mustState(t, d, trial, Pending)
			o, err := d.Execute(context.Background(), trial, script(d, trial, c.script))
			if c.state == "" {
				if _, _, _, err := d.Status(trial); err == nil || !strings.Contains(err.Error(), "is of trial") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil || o.State != c.state || o.Killed != c.killed {
				t.Fatalf("%+v, %v", o, err)
			}
			_, f := mustState(t, d, trial, c.state)
			if (f != nil) != (c.state != Done) {
				t.Fatalf("failure %+v", f)
			}
			if f != nil && (f.Exit != c.exit || f.Error != c.err || f.Attempts != 1 || f.Trial != trial.ID || f.Host == "") {
				t.Errorf("failure %+v", f)
			}
			mustState(t, d, d.Plan.Trials[0], Pending)
		})
	}
}

func TestALogIsKeptWholeAndItsEndIsTheError(t *testing.T) {
	d := twoTrials(t)
	trial := d.Plan.Trials[0]
	long := "i=0; while [ $i -lt 3000 ]; do echo line $i of many >&2; i=$((i+1)); done; "
	for range 2 {
		if _, err := d.Execute(context.Background(), trial, script(d, trial, long+"exit 1")); err != nil {
			t.Fatal(err)
		}
	}
	_, f := mustState(t, d, trial, Failed)
	if lines := strings.Split(f.Error, "\n"); len(lines) != tailLines || lines[tailLines-1] != "line 2999 of many" || f.Attempts != 2 {
		t.Errorf("%d attempts, error %q", f.Attempts, f.Error)
	}
	log, err := os.ReadFile(filepath.Join(d.TrialDir(trial.ID), "log"))
	if err != nil || strings.Count(string(log), "line 0 of many\n") != 2 || strings.Count(string(log), "--- attempt 2 on ") != 1 {
		t.Errorf("log of %d bytes, %v", len(log), err)
	}
	// The words of one attempt are not those of the next.
	if _, err := d.Execute(context.Background(), trial, script(d, trial, "exit 1")); err != nil {
		t.Fatal(err)
	}
	if _, f = mustState(t, d, trial, Failed); f.Error != "" {
		t.Errorf("error %q", f.Error)
	}
}

func TestATrialThatIsDoneIsNotRunAgain(t *testing.T) {
	d := twoTrials(t)
	trial := d.Plan.Trials[0]
	for _, text := range []string{finishes, "exit 1"} {
		if o, err := d.Execute(context.Background(), trial, script(d, trial, text)); err != nil || o.State != Done {
			t.Errorf("%+v, %v", o, err)
		}
	}
	if a, err := d.Attempts(trial.ID); err != nil || a.Count != 1 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestATrialThatIsTrainedElsewhereIsLeftAlone(t *testing.T) {
	d := twoTrials(t)
	trial := d.Plan.Trials[0]
	l, err := d.LockTrial(trial.ID)
	if err != nil {
		t.Fatal(err)
	}
	mustState(t, d, trial, Running)
	if _, err := d.Execute(context.Background(), trial, script(d, trial, finishes)); !errors.Is(err, filelock.ErrHeld) {
		t.Errorf("error %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	mustState(t, d, trial, Interrupted) // begun, and no word of its end
}

// A failure of an earlier process says nothing once another one has begun, even
// if that ends without a word.
func TestAnOldFailureGoesWhenAProcessBegins(t *testing.T) {
	d := twoTrials(t)
	trial := d.Plan.Trials[0]
	if _, err := d.Execute(context.Background(), trial, script(d, trial, "exit 1")); err != nil {
		t.Fatal(err)
	}
	c := script(d, trial, "test -e failure.json || touch gone; "+finishes)
	if _, err := d.Execute(context.Background(), trial, c); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(d.TrialDir(trial.ID), "gone")); err != nil {
		t.Error(err)
	}
}

// until waits for a file.
func until(t *testing.T, path string) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 20*time.Second; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
	}
	t.Fatalf("no %s", path)
}

func TestStopAsksTheProcessAndWaitsForIt(t *testing.T) {
	d := twoTrials(t)
	trial := d.Plan.Trials[0]
	c := script(d, trial, "trap 'sleep 0.2; touch saved; exit 130' TERM; touch ready; while :; do sleep 0.05; done")
	stop := make(chan struct{})
	c.Stop = stop
	go func() {
		until(t, filepath.Join(d.TrialDir(trial.ID), "ready"))
		close(stop)
	}()
	o, err := d.Execute(context.Background(), trial, c)
	if err != nil || o.State != Interrupted || o.Failure.Exit != ExitInterrupted {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := os.Stat(filepath.Join(d.TrialDir(trial.ID), "saved")); err != nil {
		t.Error(err)
	}
}

func TestTheEndOfTheContextKillsTheWholeGroup(t *testing.T) {
	d := twoTrials(t)
	trial := d.Plan.Trials[0]
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		until(t, filepath.Join(d.TrialDir(trial.ID), "ready"))
		cancel()
	}()
	o, err := d.Execute(ctx, trial, script(d, trial, "trap '' TERM; sleep 60 2>&- & echo $! > pid; touch ready; wait"))
	if err != nil || o.State != Interrupted || o.Failure.Signal != "killed" {
		t.Fatalf("%+v, %v", o, err)
	}
	text, err := os.ReadFile(filepath.Join(d.TrialDir(trial.ID), "pid"))
	if err != nil {
		t.Fatal(err)
	}
	var alive bool
	for begin := time.Now(); time.Since(begin) < 10*time.Second; time.Sleep(5 * time.Millisecond) {
		if alive = running(strings.TrimSpace(string(text))); !alive {
			return
		}
	}
	t.Error("what the process started lives on")
}

// running reports whether a process lives, and is no zombie.
func running(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestAnEndThatNobodySawIsNotedByTheNextProcess(t *testing.T) {
	d := twoTrials(t)
	id := d.Plan.Trials[0].ID
	if err := os.MkdirAll(d.TrialDir(id), 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Begin(id); err != nil {
		t.Fatal(err)
	}
	metrics := filepath.Join(d.TrialDir(id), "metrics.jsonl")
	mustWrite(t, metrics, "")
	last := time.Now().Add(50 * time.Second)
	if err := os.Chtimes(metrics, last, last); err != nil {
		t.Fatal(err)
	}
	a, err := d.Begin(id)
	if err != nil || a.Count != 2 || a.Seconds < 49 || a.Seconds > 51 {
		t.Errorf("%+v, %v", a, err)
	}
	if err := d.NotePeak(id, 1234); err != nil {
		t.Fatal(err)
	}
	// A line that a full disk cut is passed over.
	f, err := os.OpenFile(filepath.Join(d.TrialDir(id), attemptsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"event":"beg`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if a, err = d.Attempts(id); err != nil || a.Count != 2 || a.Peak != 1234 || a.Seconds < 49 {
		t.Errorf("%+v, %v", a, err)
	}
	mustState(t, d, d.Plan.Trials[0], Interrupted)
}

// What cannot be written is an error that says so, and leaves the plan as it is.
func TestAPlaceThatCannotBeWrittenToIsAnError(t *testing.T) {
	d := twoTrials(t)
	before, err := os.ReadFile(filepath.Join(d.Path, "plan.json"))
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, filepath.Join(d.Path, "trials"), "no directory")
	_, err = d.Execute(context.Background(), d.Plan.Trials[0], Command{Path: "/bin/true"})
	if !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("error %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(d.Path, "plan.json")); err != nil || string(after) != string(before) {
		t.Errorf("the plan changed: %v", err)
	}
	for cause, hint := range map[error]string{syscall.EROFS: "writable", syscall.EACCES: "writable", syscall.ENOSPC: "disk is full"} {
		err := explain(errors.Wrap(&os.PathError{Op: "open", Path: "x", Err: cause}, "log"), "plan")
		if !strings.Contains(errors.FlattenHints(err), hint) {
			t.Errorf("%v: hints %q", cause, errors.FlattenHints(err))
		}
	}
}

func TestAProgramThatIsNotThereIsAnError(t *testing.T) {
	d := twoTrials(t)
	_, err := d.Execute(context.Background(), d.Plan.Trials[0], Command{Path: "/no/such/program", Args: []string{"x"}})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestDamagedRecordsAreErrorsThatSayWhatToDo(t *testing.T) {
	for _, name := range []string{"result.json", "failure.json"} {
		d := twoTrials(t)
		trial := d.Plan.Trials[0]
		mustWrite(t, filepath.Join(d.TrialDir(trial.ID), name), "{")
		_, _, _, err := d.Status(trial)
		if err == nil || !strings.Contains(errors.FlattenHints(err), "remove the file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzStatus reads a trial's directory as anyone may have left it.
func FuzzStatus(f *testing.F) {
	for _, s := range []string{
		"", "{", "null", "{}", `{"trial":"x"}`, `{"state":"failed","error":"\u001b[2J"}`, `{"state":"done"}`, `{"event":"begin","time":"2026-01-01T00:00:00Z"}`,
		`{"event":"end","time":"2026-01-01T00:00:00Z"}` + "\n" + `{"event":"begin"}`, `{"step":3,"loss":1}`, `{"step":1e99}`,
	} {
		for _, name := range []string{resultFile, failureFile, attemptsFile, metricsFile, lockFile} {
			f.Add(name, []byte(s))
		}
	}
	p := Plan{Version: Version, Name: "test"}
	config := []byte(`{"a":1}`)
	id, err := ID(config)
	if err != nil {
		f.Fatal(err)
	}
	p.Trials = []Trial{{ID: id, Config: config}}
	d := &Dir{Path: f.TempDir(), Plan: p}
	f.Fuzz(func(t *testing.T, name string, text []byte) {
		if filepath.Base(name) != name || name == "." || name == ".." || strings.ContainsRune(name, 0) || len(name) > 100 {
			return
		}
		if err := os.RemoveAll(d.TrialDir(id)); err != nil {
			t.Fatal(err)
		}
		mustWrite(t, filepath.Join(d.TrialDir(id), name), string(text))
		state, r, failure, err := d.Status(p.Trials[0])
		if err == nil && ((state == Done) != (r != nil) || state == Done && r.Trial != id) {
			t.Errorf("state %s with %+v", state, r)
		}
		if failure != nil && strings.ContainsRune(failure.Error, 27) {
			t.Errorf("error %q", failure.Error)
		}
		if a, err := d.Attempts(id); err == nil && (a.Seconds < 0 || a.Count < 0) {
			t.Errorf("%+v", a)
		}
		_ = d.Progress(p.Trials[0])
	})
}

func TestProgressIsTheLastWholeLine(t *testing.T) {
	d := twoTrials(t)
	trial := d.Plan.Trials[0]
	if p := d.Progress(trial); p.Step != 0 || p.Steps != 8 {
		t.Errorf("before: %+v", p)
	}
	path := filepath.Join(d.TrialDir(trial.ID), "metrics.jsonl")
	mustWrite(t, path, strings.Repeat(`{"step":3,"loss":2.5,"steps":8}`+"\n", 5000)+`{"step":4,"loss":2.25,"tokens_per_s":9,"eta_s":3}`+"\n{}\n"+`{"step":5,"lo`)
	if p := d.Progress(trial); p != (Progress{Step: 4, Steps: 8, Loss: 2.25, PerSecond: 9, ETA: 3}) {
		t.Errorf("%+v", p)
	}
}

func TestASecondSchedulerIsRefused(t *testing.T) {
	d := twoTrials(t)
	l, err := d.Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	host, _ := os.Hostname()
	_, err = mustOpen(t, d.Path).Lock()
	if !errors.Is(err, filelock.ErrHeld) || !strings.Contains(err.Error(), host) || !strings.Contains(errors.FlattenHints(err), "tern sweep watch") {
		t.Errorf("error %v", err)
	}
}
