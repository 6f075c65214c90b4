package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ternlm/tern/data"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/infer"
	"github.com/ternlm/tern/internal/config"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/plugins/store"
	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/tokenizer"
	"github.com/ternlm/tern/train"
)

// Exit statuses.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitStopped     = 75
	exitInterrupted = 130
)

// errUsage is returned for a command line that cannot be used.
var errUsage = errors.New("usage")

// errTimeLimit is returned by a run that saved and stopped at its time limit.
var errTimeLimit = errors.New("time limit")

// app is what the commands share.
type app struct {
	stdout      io.Writer
	stderr      *lockedWriter // the handling of signals writes too
	environ     []string
	verbose     bool
	stop        chan struct{} // closed by the first signal
	graceful    atomic.Bool   // the command obeys stop, so its context lives on
	interrupted atomic.Bool
	plugins     *pluginHost
}

// sameSignal is the time in which a signal only repeats the first: programs
// such as timeout send one to the process and to its group.
const sameSignal = time.Second

// watch turns signals into the end of the context that it returns.
func (a *app) watch(signals <-chan os.Signal) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
		a.interrupted.Store(true)
		close(a.stop)
		if a.graceful.Load() {
			a.note("\nfinishing the step, then saving; interrupt again to quit at once")
		} else {
			cancel()
		}
		first := time.Now()
		for range signals {
			if time.Since(first) > sameSignal {
				os.Exit(exitInterrupted)
			}
		}
	}()
	return ctx, cancel
}

// finish reports err and returns the exit status.
func (a *app) finish(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errDiffer):
		return exitFailed
	}
	interrupted := a.interrupted.Load() && errors.IsAny(err, context.Canceled, train.ErrStopped)
	switch {
	case interrupted:
		a.note("interrupted: %v", err)
	case errors.Is(err, errTimeLimit):
		a.note("stopped: %v", err)
	case a.verbose:
		a.note("error: %+v", err)
	default:
		a.note("error: %s", message(err))
	}
	for _, h := range errors.GetAllHints(err) {
		a.note("hint: %s", h)
	}
	switch {
	case interrupted:
		return exitInterrupted
	case errors.Is(err, errTimeLimit):
		return exitStopped
	case errors.IsAny(err, usageErrors...):
		return exitUsage
	}
	return exitFailed
}

// usageErrors are the errors that better arguments would have avoided.
var usageErrors = []error{
	errUsage, config.ErrConfig, framework.ErrUnknown, framework.ErrOption, model.ErrConfig, train.ErrRecipe,
	tokenizer.ErrUnknown, data.ErrOption, infer.ErrSampling, store.ErrName, store.ErrNotFound,
	sweep.ErrSpec, sweep.ErrPlan, sweep.ErrVersion, sweep.ErrExists,
}

// message is the text of err without the word that marks it as wrong usage.
func message(err error) string { return strings.TrimSuffix(err.Error(), ": "+errUsage.Error()) }

// usagef returns an errUsage.
func usagef(hint, format string, args ...any) error {
	err := errors.Wrapf(errUsage, format, args...)
	if hint == "" {
		return err
	}
	return errors.WithHint(err, hint)
}

// note writes a line to standard error.
func (a *app) note(format string, args ...any) { fmt.Fprintf(a.stderr, format+"\n", args...) }

// printf writes to standard output.
func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.stdout, format, args...) }

// json writes v to standard output, indented.
func (a *app) json(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// getenv looks up an environment variable.
func (a *app) getenv(name string) string {
	for _, e := range a.environ {
		if k, v, _ := strings.Cut(e, "="); k == name {
			return v
		}
	}
	return ""
}

// terminal returns the width of standard error where it is a terminal that
// may be written over.
func (a *app) terminal() (width int, ok bool) {
	f, isFile := a.stderr.Writer.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) || a.getenv("NO_COLOR") != "" || a.getenv("TERM") == "dumb" {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if width < 20 { // such as 0, where nobody set it
		width = 80
	}
	return width, err == nil
}

// lockedWriter may be written to from several goroutines.
type lockedWriter struct {
	io.Writer
	mu sync.Mutex
}

func (w *lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Writer.Write(p)
}

// self is how the user started this program.
func self() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/tern"
	}
	return "tern"
}

func newRootCmd(a *app) *cobra.Command {
	root := newGroup("tern", "Train, export and run ternary language models",
		newTrainCmd(a), newEvalCmd(a), newExportCmd(a), newConvertCmd(a), newGenerateCmd(a), newInspectCmd(a),
		newDataCmd(a), newBackendCmd(a), newPluginCmd(a), newBenchCmd(a), newConfigCmd(a), newVersionCmd(a),
		newSweepCmd(a),
	)
	root.Long = "tern trains language models whose weights are -1, 0 and 1, exports them, and runs them.\n\n" +
		"Start with:\n  tern train       trains a small model on stories, in minutes\n  tern generate    writes a story with the model that ships with tern"
	root.SilenceUsage, root.SilenceErrors = true, true
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "say more; show errors in full")
	a.plugins.addTo(root.PersistentFlags())
	root.SetFlagErrorFunc(flagError)
	if err := completeFlags(root); err != nil {
		panic(errors.AssertionFailedf("completion: %v", err))
	}
	return root
}
