package filelock

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
)

// helper is a variable that makes this test's program lock the file that it
// names, say so, and wait to be killed.
const helper = "TERN_TEST_LOCK"

func TestMain(m *testing.M) {
	if path := os.Getenv(helper); path != "" {
		if _, err := Acquire(path); err != nil {
			os.Exit(1)
		}
		os.Stdout.WriteString("locked\n")
		time.Sleep(time.Minute)
	}
	os.Exit(m.Run())
}

// locker starts a process that has the lock.
func locker(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helper+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd
}

func TestALockOfAnotherProcessIsRefusedWithItsHolder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	other := locker(t, path)
	_, err := Acquire(path)
	if !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), "process "+strconv.Itoa(other.Process.Pid)+" on ") {
		t.Errorf("error %v", err)
	}
	h, held, err := Held(path)
	if err != nil || !held || h.PID != other.Process.Pid {
		t.Errorf("held %v by %+v, %v", held, h, err)
	}
}

func TestAKilledProcessLetsItsLockGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	other := locker(t, path)
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	if _, held, err := Held(path); held || err != nil {
		t.Errorf("held %v, %v", held, err)
	}
	l, err := Acquire(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Error(err)
	}
}

func TestAReleasedLockCanBeHadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if _, held, err := Held(path); held || err != nil {
		t.Errorf("no file: held %v, %v", held, err)
	}
	for range 2 {
		l, err := Acquire(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, held, err := Held(path); !held || err != nil {
			t.Errorf("held %v, %v", held, err)
		}
		if err := l.Release(); err != nil {
			t.Fatal(err)
		}
		if err := l.Release(); err != nil {
			t.Errorf("twice: %v", err)
		}
	}
}

// Looking takes the lock for a moment, which must not look like a holder.
func TestLookingDoesNotStandInTheWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var end atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !end.Load() {
			_, _, _ = Held(path)
		}
	}()
	for range 200 {
		l, err := Acquire(path)
		if err != nil {
			t.Error(err)
			break
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}
	end.Store(true)
	<-done
}

func TestALockInNoDirectoryIsAnError(t *testing.T) {
	if _, err := Acquire(filepath.Join(t.TempDir(), "none", "lock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
