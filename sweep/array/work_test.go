//go:build unix

package array_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/array"
)

// shell has the trials be scripts, which run in their directories.
func shell(d *sweep.Dir, scripts map[string]string) func(sweep.Trial) sweep.Command {
	const prelude = `cd "$1"; finish() { echo "{\"trial\": \"$2\"}" >result.json; }; `
	return func(t sweep.Trial) sweep.Command {
		text := prelude + strings.ReplaceAll(scripts[t.ID], "finish", `finish "$1" "$2"`)
		return sweep.Command{Path: "/bin/sh", Args: []string{"sh", "-c", text, "trial", d.TrialDir(t.ID), t.ID}}
	}
}

const done = "echo x >>ran; finish"

func TestWorkEndsAsItsTrialsDo(t *testing.T) {
	for _, c := range []struct {
		name    string
		scripts []string
		want    array.Report
		exit    int
	}{
		{"all done", []string{done, done}, array.Report{Done: 2}, 0},
		{"one fails and stops no other", []string{"exit 1", done}, array.Report{Done: 1, Failed: 1}, 1},
		{"wrong configurations", []string{"exit 2", "exit 2"}, array.Report{Failed: 2, Misled: 2}, 2},
		{"wrong configuration and a fault", []string{"exit 2", "exit 1"}, array.Report{Failed: 2, Misled: 1}, 1},
		{"a trial that stops itself goes on later", []string{"exit 75", done}, array.Report{Done: 1, Interrupted: 1}, 75},
		{"killed each time", []string{"kill -9 $$", done}, array.Report{Done: 1, Killed: 1}, 1},
		{"killed once", []string{"test -e ran && { finish; exit; }; echo x >ran; kill -9 $$"}, array.Report{Done: 1}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := trials(t, len(c.scripts), 1, 1)
			d := freeze(t, list)
			scripts := map[string]string{}
			for i, s := range c.scripts {
				scripts[list[i].ID] = s
			}
			w := array.Work{Dir: d, Trials: list, Command: shell(d, scripts), Note: t.Logf}
			r, err := w.Run(context.Background())
			if err != nil || !reflect.DeepEqual(r, c.want) || r.Exit() != c.exit {
				t.Errorf("%+v, status %d, %v; want %+v, status %d", r, r.Exit(), err, c.want, c.exit)
			}
			for i, s := range c.scripts {
				if a, err := d.Attempts(list[i].ID); s == "kill -9 $$" && (err != nil || a.Count != 3) {
					t.Errorf("%d attempts at a trial that is killed each time, %v", a.Count, err)
				}
			}
		})
	}
}

func TestNotesSayWhatWasWrong(t *testing.T) {
	for script, want := range map[string]string{
		"echo step 1 >&2; echo 'error: no room' >&2; echo 'hint: make some' >&2; exit 1": ": failed: no room",
		"echo 'interrupted: saved in x' >&2; echo 'hint: go on' >&2; exit 75":            ": interrupted: saved in x",
		"echo first >&2; echo last >&2; exit 1":                                          ": failed: last",
		"exit 1":                                                                         ": failed: ",
		done:                                                                             ": done",
	} {
		list := trials(t, 1, 1, 1)
		d := freeze(t, list)
		var note string
		w := array.Work{Dir: d, Trials: list, Note: func(format string, args ...any) { note = fmt.Sprintf(format, args...) }}
		w.Command = shell(d, map[string]string{list[0].ID: script})
		if _, err := w.Run(context.Background()); err != nil || !strings.HasSuffix(note, want) {
			t.Errorf("%s\n%q, %v; want %q", script, note, err, want)
		}
	}
}

func TestWorkIsNotDoneTwice(t *testing.T) {
	list := trials(t, 2, 1, 1)
	d := freeze(t, list)
	w := array.Work{Dir: d, Trials: list, Note: t.Logf}
	w.Command = shell(d, map[string]string{list[0].ID: done, list[1].ID: "echo x >>ran; exit 1"})
	for range 2 {
		if r, err := w.Run(context.Background()); err != nil || r.Done != 1 || r.Failed != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	w.Retry = func(f *sweep.Failure) bool { return f.Exit == 1 }
	if r, err := w.Run(context.Background()); err != nil || r.Failed != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	for i, want := range []string{"x\n", "x\nx\n"} {
		if got, err := os.ReadFile(filepath.Join(d.TrialDir(list[i].ID), "ran")); err != nil || string(got) != want {
			t.Errorf("trial %d ran %q, %v", i, got, err)
		}
	}
}

func TestStopSavesTheTrialAndBeginsNoOther(t *testing.T) {
	for name, n := range map[string]int{"of several": 3, "the last one": 2} {
		t.Run(name, func(t *testing.T) {
			list := trials(t, n, 1, 1)
			d := freeze(t, list)
			begun := filepath.Join(d.TrialDir(list[1].ID), "begun")
			stop := make(chan struct{})
			w := array.Work{Dir: d, Trials: list, Stop: stop, Note: t.Logf}
			scripts := map[string]string{list[0].ID: done, list[n-1].ID: done}
			scripts[list[1].ID] = `trap 'echo x >saved; exit 130' TERM; echo x >begun; while :; do sleep 0.02; done`
			w.Command = shell(d, scripts)
			go func() {
				for {
					if _, err := os.Stat(begun); err == nil {
						close(stop)
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}()
			r, err := w.Run(context.Background())
			if want := (array.Report{Done: 1, Interrupted: n - 1, Stopped: true}); err != nil || r != want || r.Exit() != sweep.ExitStopped {
				t.Errorf("%+v, status %d, %v; want %+v", r, r.Exit(), err, want)
			}
			if _, err := os.Stat(filepath.Join(d.TrialDir(list[1].ID), "saved")); err != nil {
				t.Errorf("the trial was not told to save: %v", err)
			}
			if n == 2 {
				return
			}
			if _, err := os.Stat(d.TrialDir(list[2].ID)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the trial after it began: %v", err)
			}
		})
	}
}

func TestATrialThatIsHeldIsWaitedFor(t *testing.T) {
	list := trials(t, 2, 1, 1)
	d := freeze(t, list)
	lock, err := d.LockTrial(list[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	w := array.Work{Dir: d, Trials: list, Pause: time.Millisecond, Note: t.Logf}
	w.Command = shell(d, map[string]string{list[0].ID: done, list[1].ID: done})
	r, err := w.Run(context.Background())
	if want := (array.Report{Done: 1, Held: 1}); err != nil || r != want || r.Exit() != sweep.ExitStopped {
		t.Errorf("without patience: %+v, status %d, %v", r, r.Exit(), err)
	}
	w.Patience = time.Hour
	time.AfterFunc(50*time.Millisecond, func() { _ = lock.Release() })
	if r, err = w.Run(context.Background()); err != nil || r.Done != 2 {
		t.Errorf("after the other process let it go: %+v, %v", r, err)
	}
}
