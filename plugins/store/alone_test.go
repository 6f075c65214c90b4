package store

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/filelock"
)

// pinner is a variable that makes this test's program pin plugins in the
// directory that it names, with its process number in their names.
const pinner = "TERN_TEST_PINNER"

const pinsEach = 10

func TestMain(m *testing.M) {
	if dir := os.Getenv(pinner); dir != "" {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // all at once
		if err := pinSome(dir, fmt.Sprint("p", os.Getpid())); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// pinSome pins plugins, one change each.
func pinSome(dir, prefix string) error {
	s := &Store{User: dir}
	for i := range pinsEach {
		if err := s.ChangeLock(func(l *Lock) error { l.Set(pinOf(fmt.Sprintf("%s-%d", prefix, i), "x")); return nil }); err != nil {
			return err
		}
	}
	return nil
}

func TestNoPinIsLostBetweenProcessesOrGoroutines(t *testing.T) {
	s := home(t)
	var wg sync.WaitGroup
	var starts []func() error
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), pinner+"="+s.User)
		var said strings.Builder
		cmd.Stderr = &said
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		starts = append(starts, in.Close)
		wg.Go(func() {
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, &said)
			}
		})
	}
	for _, start := range starts {
		if err := start(); err != nil {
			t.Error(err)
		}
	}
	for g := range 3 {
		wg.Go(func() {
			if err := pinSome(s.User, fmt.Sprint("g", g)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l, err := s.ReadLock()
	if err != nil || len(l.Pins) != 6*pinsEach {
		t.Errorf("%d pins of %d, %v", len(l.Pins), 6*pinsEach, err)
	}
	if all := s.All(); len(all) > 0 {
		t.Errorf("the lock is taken for a plugin: %v", all)
	}
}

// Without one change for both, the pin of one may meet the binary of another.
func TestTwoInstallationsOfOneNameEndWithTheBinaryThatIsPinned(t *testing.T) {
	s := home(t)
	for range 10 {
		var wg sync.WaitGroup
		for _, content := range []string{"one", "another"} {
			staged, _, err := s.Stage(put(t, filepath.Join(t.TempDir(), "built"), content))
			if err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				if _, err := s.Keep(staged, pinOf("x", content)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if _, _, err := s.Verify("x"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAChangeThatNeverEndsIsNotWaitedForForever(t *testing.T) {
	s := home(t)
	install(t, s, "nf4", "binary")
	held, err := filelock.Acquire(filepath.Join(s.User, turnName))
	if err != nil {
		t.Fatal(err)
	}
	defer func(d time.Duration) { patience = d }(patience)
	patience = time.Millisecond
	err = s.Remove("nf4")
	if !errors.Is(err, filelock.ErrHeld) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) || hints(err) == "" {
		t.Errorf("%v\n%s", err, hints(err))
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("nf4"); err != nil {
		t.Errorf("after it: %v", err)
	}
}
