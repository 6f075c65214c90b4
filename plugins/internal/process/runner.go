package process

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"
	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin/runner"
)

// allowed are the variables of the host's environment that a plugin sees. Those
// of CUDA say which devices there are and where the toolkit lies; they are no
// secrets, so every plugin gets them, whatever it calls itself.
var allowed = []string{
	"PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ", "XDG_CACHE_HOME",
	"GOMAXPROCS", "GOMEMLIMIT", "GODEBUG", "GOTRACEBACK", "GOCOVERDIR",
	"CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_PATH", "CUDA_HOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH",
	"SYSTEMROOT", "TEMP", "TMP", "USERPROFILE", "LOCALAPPDATA", // Windows
}

// Allowed lists the variables of the host's environment that a plugin sees.
func Allowed() []string { return slices.Clone(allowed) }

// environment is what of env a plugin may see.
func environment(env []string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		for _, a := range allowed {
			if name == a || runtime.GOOS == "windows" && strings.EqualFold(name, a) {
				out = append(out, kv)
			}
		}
	}
	return out
}

// launches starts processes from one thread that never ends: on Linux a child
// with a parent-death signal gets it when the thread that forked it ends.
var launches = sync.OnceValue(func() chan<- func() {
	c := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range c {
			f()
		}
	}()
	return c
})

// runner is the process as go-plugin wants it.
type runner struct {
	image func() (*image, error) // waits for the verified copy
	files []*os.File
	path  string
	tail  *ring

	cmd            *exec.Cmd
	stdout, stderr *os.File
	first          firstLine
	done           chan struct{}
	drained        chan struct{} // closed at the end of standard error
	exit           string

	mu       sync.Mutex
	unwanted bool // it was to be killed, perhaps before it was there
	reaped   bool
}

// open takes over the command that go-plugin has made the environment of. Nothing
// runs before the image is there and is the one that was asked for.
func (r *runner) open(_ hclog.Logger, cmd *exec.Cmd, _ string) (goplugin.Runner, error) {
	im, err := r.image()
	if err != nil {
		return nil, err
	}
	r.cmd = &exec.Cmd{
		Path:       im.path,
		Args:       []string{r.path},
		Env:        append(environment(os.Environ()), cmd.Env...),
		Stdin:      nil, // the null device
		ExtraFiles: r.files,
	}
	isolate(r.cmd)
	return r, nil
}

// Start starts the process.
func (r *runner) Start(context.Context) error {
	outR, outW, err := os.Pipe()
	if err != nil {
		return err
	}
	errR, errW, err := os.Pipe()
	if err != nil {
		_, _ = outR.Close(), outW.Close()
		return err
	}
	r.stdout, r.stderr, r.drained = outR, errR, make(chan struct{})
	r.cmd.Stdout, r.cmd.Stderr = outW, errW
	started := make(chan error, 1)
	launches() <- func() { started <- r.cmd.Start() }
	err = <-started
	_, _ = outW.Close(), errW.Close()
	if err != nil {
		_, _ = outR.Close(), errR.Close()
		return errors.Wrap(err, "exec")
	}
	done := make(chan struct{})
	r.mu.Lock()
	r.done = done
	if r.unwanted {
		killGroup(r.cmd.Process)
	}
	r.mu.Unlock()
	go r.reap(done)
	return nil
}

// reap waits for the process, then ends what is left of its group, so that
// nobody holds its pipes.
func (r *runner) reap(done chan<- struct{}) {
	if !awaitExit(r.cmd.Process.Pid) { // its number is not free yet
		_ = r.cmd.Wait()
	}
	r.mu.Lock()
	r.reaped = true
	killGroup(r.cmd.Process)
	r.mu.Unlock()
	_ = r.cmd.Wait()
	r.exit = r.cmd.ProcessState.String()
	close(done)
}

// killGroup ends the process and its group, if they still are, or as soon as they
// come to be.
func (r *runner) killGroup() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unwanted = true
	if r.done != nil && !r.reaped {
		killGroup(r.cmd.Process)
	}
}

// Wait waits until the process has ended.
func (r *runner) Wait(context.Context) error {
	<-r.done
	return nil
}

// Kill ends the process.
func (r *runner) Kill(context.Context) error {
	r.killGroup()
	return nil
}

// Stdout is read for the handshake.
func (r *runner) Stdout() io.ReadCloser { return tee{io.TeeReader(r.stdout, &r.first), r.stdout} }

// Stderr goes to the ring.
func (r *runner) Stderr() io.ReadCloser {
	return tee{&toEnd{r: io.TeeReader(r.stderr, r.tail), ended: r.drained}, r.stderr}
}

// Name is the path of the program.
func (r *runner) Name() string { return r.path }

// ID is the number of the process, "" before it is there.
func (r *runner) ID() string {
	if r.cmd == nil || r.cmd.Process == nil {
		return ""
	}
	return strconv.Itoa(r.cmd.Process.Pid)
}

// Diagnose has nothing to add: explain does.
func (r *runner) Diagnose(context.Context) string { return "" }

// PluginToHost and HostToPlugin are the same on one machine.
func (r *runner) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin is PluginToHost.
func (r *runner) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}

type tee struct {
	io.Reader
	io.Closer
}

// toEnd closes ended at the end of r.
type toEnd struct {
	r     io.Reader
	ended chan struct{}
	once  sync.Once
}

func (t *toEnd) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil {
		t.once.Do(func() { close(t.ended) })
	}
	return n, err
}

// firstLine keeps the beginning of standard output.
type firstLine struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (f *firstLine) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if room := 200 - f.buf.Len(); room > 0 {
		f.buf.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (f *firstLine) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	line, _, _ := strings.Cut(f.buf.String(), "\n")
	return line
}
