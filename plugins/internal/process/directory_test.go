package process

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
)

// socketeer is a variable that makes this test's program a host: it makes a
// directory in the one that it names, with a socket as a plugin's, says which,
// and waits to be killed.
const socketeer = "TERN_TEST_SOCKETS"

func TestMain(m *testing.M) {
	if base := os.Getenv(socketeer); base != "" {
		d, err := newDirectory(base)
		if err != nil {
			os.Exit(1)
		}
		sub, err := os.MkdirTemp(d.path, socketsPrefix)
		if err != nil {
			os.Exit(1)
		}
		if _, err := net.Listen("unix", filepath.Join(sub, "plugin1")); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString(d.path + "\n")
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

// shortDir is a temporary directory in which sockets have short paths.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "t")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func needLocks(t *testing.T) {
	t.Helper()
	d, err := newDirectory(shortDir(t))
	if err != nil {
		t.Fatal(err)
	}
	if d.owner == nil {
		t.Skip("no locks of files here")
	}
	d.remove()
}

func TestTheDirectoryOfAKilledHostIsSweptAndThatOfALiveOneIsNot(t *testing.T) {
	needLocks(t)
	base := shortDir(t)
	host := exec.Command(os.Args[0])
	host.Env = append(os.Environ(), socketeer+"="+base)
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = host.Process.Kill(); _ = host.Wait() })
	path, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	path = strings.TrimSuffix(path, "\n")
	if n := sweep(base); n != 0 {
		t.Errorf("%d directories of a live host swept", n)
	}
	if found, err := filepath.Glob(filepath.Join(path, "*", "plugin1")); err != nil || len(found) != 1 {
		t.Fatalf("the live host's socket: %v, %v", found, err)
	}
	if err := host.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = host.Wait()
	if n := sweep(base); n != 1 {
		t.Errorf("%d directories of a killed host swept", n)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

// abandoned makes the directory of a process that is gone.
func abandoned(t *testing.T, base string) string {
	t.Helper()
	d, err := newDirectory(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.owner.Close(); err != nil {
		t.Fatal(err)
	}
	return d.path
}

func TestOnlyDirectoriesOfSocketsAreSwept(t *testing.T) {
	needLocks(t)
	write := func(name string) func(string) error {
		return func(path string) error { return os.WriteFile(filepath.Join(path, name), nil, 0o600) }
	}
	for name, c := range map[string]struct {
		change func(path string) error
		swept  bool
	}{
		"as a host leaves it":  {func(string) error { return nil }, true},
		"sockets of a plugin":  {func(path string) error { return os.Mkdir(filepath.Join(path, socketsPrefix+"1"), 0o700) }, true},
		"something else in it": {write("letter"), false},
		"no owner":             {func(path string) error { return os.Remove(filepath.Join(path, ownerName)) }, false},
		"others may enter":     {func(path string) error { return os.Chmod(path, 0o755) }, false},
		"of another user":      {func(path string) error { return os.Chown(path, 12345, -1) }, false},
		"more than a host makes": {func(path string) error {
			return errors.Join(write(socketsPrefix+"1")(path), write(socketsPrefix+"2")(path), write(socketsPrefix+"3")(path))
		}, false},
		"with a name of its own": {func(path string) error { return os.Rename(path, filepath.Join(filepath.Dir(path), "tern-bench-1")) }, false},
		"a link to such an one":  {func(path string) error { return relink(path) }, false},
		"the owner is a directory": {func(path string) error {
			return errors.Join(os.Remove(filepath.Join(path, ownerName)), os.Mkdir(filepath.Join(path, ownerName), 0o700))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			base := shortDir(t)
			if err := c.change(abandoned(t, base)); errors.Is(err, os.ErrPermission) {
				t.Skip("only root gives files away")
			} else if err != nil {
				t.Fatal(err)
			}
			n := sweep(base)
			left, err := os.ReadDir(base)
			if err != nil || c.swept != (n == 1) || c.swept != (len(left) == 0) {
				t.Errorf("%d swept, left %v, %v", n, left, err)
			}
		})
	}
}

// relink moves a directory out of the base and leaves a link.
func relink(path string) error {
	elsewhere := filepath.Join(filepath.Dir(path), "elsewhere")
	return errors.Join(os.Rename(path, elsewhere), os.Symlink(elsewhere, path))
}

func TestASweepIsBounded(t *testing.T) {
	needLocks(t)
	base := shortDir(t)
	for range maxSwept + 1 {
		abandoned(t, base)
	}
	if n := sweep(base); n != maxSwept {
		t.Errorf("%d swept, want %d", n, maxSwept)
	}
	if n := sweep(base); n != 1 {
		t.Errorf("then %d swept, want 1", n)
	}
}

// Directories are made while others sweep: none is taken from its owner.
func TestADirectoryInTheMakingIsNotSwept(t *testing.T) {
	needLocks(t)
	base := shortDir(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			sweep(base)
		}
	}()
	for range 300 {
		d, err := newDirectory(base)
		if err != nil {
			t.Error(err)
			break
		}
		if err := os.Mkdir(filepath.Join(d.path, socketsPrefix+"1"), 0o700); err != nil {
			t.Error(err)
			break
		}
		d.remove()
	}
	cancel()
	<-done
}

// A start that is given up before there is a process ends the process as soon as
// it is there.
func TestAProcessThatCameTooLateIsKilled(t *testing.T) {
	path, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip(err)
	}
	image := loading(path, "")
	im, err := image()
	if err != nil {
		t.Fatal(err)
	}
	defer im.close()
	r := &runner{image: image, path: path, tail: newRing(100, nil)}
	if _, err := r.open(nil, &exec.Cmd{}, ""); err != nil {
		t.Fatal(err)
	}
	r.cmd.Args = []string{"sleep", "60"}
	r.killGroup()
	if err := r.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	wait(r.done, 10*time.Second)
	select {
	case <-r.done:
		if r.exit != "signal: killed" {
			t.Errorf("it ended with %s", r.exit)
		}
	default:
		t.Error("it runs")
		r.killGroup()
	}
}
