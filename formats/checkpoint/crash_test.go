package checkpoint

import (
	"bufio"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
)

// died is how a saver is stopped in the middle.
type died string

// TestStoppedAnywhereLosesNothing stops Save at each of its steps: afterwards
// the newest checkpoint is the one before or the new one, whole, and the next
// Save leaves nothing behind.
func TestStoppedAnywhereLosesNothing(t *testing.T) {
	for _, c := range []struct {
		name     string
		step     int // of the save that dies
		leftover bool
	}{{"new step", 2, false}, {"same step", 1, false}, {"new step after another death", 2, true}, {"same step after another death", 1, true}} {
		points := map[string]bool{}
		for k := 0; ; k++ {
			root := t.TempDir()
			old := save(t, root, snapshot(1))
			if c.leftover {
				stopAt(t, root, snapshot(3), 4)
				if err := os.Rename(old, filepath.Join(root, oldPrefix+Name(1))); err != nil { // died between two renames
					t.Fatal(err)
				}
			}
			s := snapshot(c.step)
			s.CreatedBy = "second"
			point := stopAt(t, root, s, k)
			f, err := LoadLatest(root)
			if err != nil || len(f.Broken) != 0 {
				t.Fatalf("%s, died at %q: %v, broken %v", c.name, point, err, f.Broken)
			}
			want := snapshot(1)
			if f.Snapshot.CreatedBy == "second" {
				want = s
			}
			same(t, f.Snapshot, want)
			if point == "" { // it came to its end
				same(t, f.Snapshot, s)
				break
			}
			points[string(point)] = true
			save(t, root, s)
			if f, err = LoadLatest(root); err != nil {
				t.Fatal(err)
			}
			same(t, f.Snapshot, s)
			if left := names(t, root); strings.Contains(left, tmpPrefix) || strings.Contains(left, oldPrefix) {
				t.Fatalf("%s, died at %q: the run still holds %s", c.name, point, left)
			}
		}
		if len(points) < 9 {
			t.Errorf("%s: only died at %v", c.name, points)
		}
	}
}

// stopAt saves s and dies at the k-th step; it returns where, or "".
func stopAt(t *testing.T, root string, s Snapshot, k int) (point died) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			point = r.(died)
		}
	}()
	v := saver{at: func(p string) {
		if k == 0 {
			panic(died(p))
		}
		k--
	}}
	if _, err := v.save(root, s); err != nil {
		t.Fatal(err)
	}
	return ""
}

// childEnv makes the test binary save checkpoints until it is killed.
const childEnv = "TERN_TEST_CHECKPOINT_DIR"

func TestMain(m *testing.M) {
	if root := os.Getenv(childEnv); root != "" {
		saveForEver(root)
	}
	os.Exit(m.Run())
}

// saveForEver saves steps n, n, n+1, n+1 ... from the newest on, and prints
// each that is done.
func saveForEver(root string) {
	fail := func(err error) {
		os.Stderr.WriteString(err.Error())
		os.Exit(1)
	}
	step := 1
	if f, err := LoadLatest(root); err == nil {
		step = f.Snapshot.Step
	} else if !errors.Is(err, ErrNotFound) {
		fail(err)
	}
	for ; ; step++ {
		for range 2 {
			if _, err := Save(root, snapshot(step)); err != nil {
				fail(err)
			}
			os.Stdout.WriteString(strconv.Itoa(step) + "\n")
			if _, err := Prune(root, 2); err != nil {
				fail(err)
			}
		}
	}
}

// TestKilledAtRandomLosesNothing kills a process that saves without pause,
// looks at what it leaves, and lets the next one go on from there.
func TestKilledAtRandomLosesNothing(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	root := t.TempDir()
	for range 15 {
		var errs strings.Builder
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), childEnv+"="+root)
		cmd.Stderr = &errs
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			t.Fatalf("the process saved nothing: %v, %s", lines.Err(), errs.String())
		}
		done := lines.Text()
		go func() {
			time.Sleep(time.Duration(r.IntN(40_000)) * time.Microsecond)
			_ = cmd.Process.Kill() // it cannot have ended by itself
		}()
		for lines.Scan() {
			done = lines.Text()
		}
		_ = cmd.Wait() // it was killed
		if errs.Len() > 0 {
			t.Fatal(errs.String())
		}
		last, err := strconv.Atoi(done)
		if err != nil {
			t.Fatal(err)
		}
		f, err := LoadLatest(root)
		if err != nil || len(f.Broken) > 0 {
			t.Fatalf("after step %d: %v, broken %v, the run holds %s", last, err, f.Broken, names(t, root))
		}
		if f.Snapshot.Step != last && f.Snapshot.Step != last+1 {
			t.Fatalf("step %d was saved, the newest is %d", last, f.Snapshot.Step)
		}
		same(t, f.Snapshot, snapshot(f.Snapshot.Step))
	}
}
