package main

import (
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/cockroachdb/errors"

	_ "github.com/ternlm/tern/backends/all" // the backends that a name may stand for
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	os.Exit(Main(os.Args[1:], os.Stdout, os.Stderr, signals))
}

// Main runs one command and returns its exit status. The first of signals
// cancels it (a training stops after its step), the second ends the process.
func Main(args []string, stdout, stderr io.Writer, signals <-chan os.Signal) int {
	a := &app{stdout: stdout, stderr: &lockedWriter{Writer: stderr}, environ: os.Environ(), stop: make(chan struct{})}
	ctx, done := a.watch(signals)
	defer done()
	a.plugins = newPluginHost(ctx, a)
	root := newRootCmd(a)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	return a.finish(errors.CombineErrors(err, a.plugins.close()))
}
