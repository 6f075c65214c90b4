package sweep

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/filelock"
)

// Exit statuses of a trial's process: those of tern train.
const (
	ExitDone        = 0
	ExitUsage       = 2
	ExitStopped     = 75
	ExitInterrupted = 130
)

// Command is how a trial's process is started.
type Command struct {
	Path string   // of the program
	Args []string // the first is the program's name
	Env  []string // nil is this process's
	// Stop asks the process to save and end when it is closed.
	Stop <-chan struct{}
}

// Outcome is how an execution ended.
type Outcome struct {
	State   State    // Done, Failed or Interrupted
	Failure *Failure // nil where it is Done
	Killed  bool     // the process ended by a signal, or said to have been sent one
}

// Execute runs a trial in a process of its own, to its end, and leaves word of it
// in the trial's directory. The process belongs to a group of its own, so that a
// terminal's interrupt does not reach it: it gets SIGTERM when Stop is closed, and
// saves. Its standard input ends when this process does, however that ends; it is
// expected to save then too. When ctx is done it is killed.
//
// A trial that is done is Done at once; one that another process trains is
// filelock.ErrHeld. An error is of the directory or the program; a trial that
// fails is none.
func (d *Dir) Execute(ctx context.Context, t Trial, c Command) (Outcome, error) {
	state, _, _, err := d.Status(t)
	switch {
	case err != nil:
		return Outcome{}, err
	case state == Done:
		return Outcome{State: Done}, nil
	case state == Running:
		return Outcome{}, errors.Wrapf(filelock.ErrHeld, "trial %s is trained by another process", t.ID)
	}
	if err := os.MkdirAll(d.TrialDir(t.ID), 0o777); err != nil {
		return Outcome{}, explain(errors.Wrap(err, "make the trial's directory"), d.Path)
	}
	// What an earlier process left says nothing of this one.
	if err := os.Remove(filepath.Join(d.TrialDir(t.ID), failureFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return Outcome{}, explain(err, d.Path)
	}
	attempts, err := d.Begin(t.ID)
	if err != nil {
		return Outcome{}, err
	}
	log, err := d.openLog(t.ID, attempts.Count)
	if err != nil {
		return Outcome{}, err
	}
	ended, err := runProcess(ctx, c, log)
	tail := log.tail()
	err = errors.CombineErrors(err, log.Close())
	if err != nil {
		return Outcome{}, errors.Wrapf(err, "trial %s", t.ID)
	}
	return d.conclude(t, ended, attempts.Count, tail)
}

// ending is how a process ended.
type ending struct {
	exit   int // -1 where a signal ended it
	signal string
}

// runProcess starts a process and waits for it.
func runProcess(ctx context.Context, c Command, log *trialLog) (ending, error) {
	cmd := exec.CommandContext(ctx, c.Path)
	cmd.Args, cmd.Env, cmd.Stderr = c.Args, c.Env, log.File
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	isolate(cmd)
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		return ending{}, err
	}
	if err := cmd.Start(); err != nil {
		return ending{}, errors.Wrap(err, "start")
	}
	done := make(chan struct{})
	go func() {
		select {
		case <-c.Stop:
			_ = terminate(cmd.Process) // it may have ended just now
		case <-done:
		}
	}()
	err = cmd.Wait()
	close(done)
	_ = lifeline.Close() // Wait did
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && ctx.Err() == nil {
		return ending{}, err
	}
	return endingOf(cmd.ProcessState), nil
}

// conclude writes down how a process ended.
func (d *Dir) conclude(t Trial, e ending, attempts int, tail string) (Outcome, error) {
	o := Outcome{State: Failed}
	r, err := readRecord[Result](filepath.Join(d.TrialDir(t.ID), resultFile))
	if err != nil {
		return o, err
	}
	switch {
	case r != nil && r.Trial == t.ID:
		o.State = Done // whatever came after
	case e.exit == ExitStopped:
		o.State = Interrupted
	case e.signal != "" || e.exit == ExitInterrupted:
		o.State, o.Killed = Interrupted, true
	}
	end := Attempt{Event: "end", Time: time.Now().UTC(), State: o.State, Exit: e.exit, Signal: e.signal}
	if err := d.note(t.ID, end); err != nil || o.State == Done {
		return o, err
	}
	if e.exit == ExitDone {
		tail = "it ended with status 0 and wrote no result\n" + tail
	}
	o.Failure = &Failure{
		Trial: t.ID, State: o.State, Exit: e.exit, Signal: e.signal, Error: tail,
		Attempts: attempts, Host: hostname(), Time: end.Time,
	}
	return o, d.writeRecord(t.ID, failureFile, o.Failure)
}

// trialLog is what the processes of a trial write to standard error.
type trialLog struct {
	*os.File
	from int64 // where the text of this process begins
}

// openLog opens the log of a trial, with a line that begins the attempt's part.
func (d *Dir) openLog(id string, attempt int) (*trialLog, error) {
	f, err := os.OpenFile(filepath.Join(d.TrialDir(id), logFile), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o666)
	if err != nil {
		return nil, explain(errors.Wrap(err, "open the log"), d.Path)
	}
	l := &trialLog{File: f}
	_, _ = fmt.Fprintf(f, "--- attempt %d on %s, %s\n", attempt, hostname(), time.Now().UTC().Format(time.DateTime))
	l.from, err = f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, errors.CombineErrors(err, f.Close())
	}
	return l, nil
}
