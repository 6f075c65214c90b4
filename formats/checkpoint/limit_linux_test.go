package checkpoint

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ternlm/tern/framework/tensor"
)

// limitEnv makes TestFileLimitLosesNothing run in a process whose files may
// not grow beyond 64 KiB.
const limitEnv = "TERN_TEST_CHECKPOINT_LIMIT"

// TestFileLimitLosesNothing lets the kernel refuse a write, as a full disk
// does.
func TestFileLimitLosesNothing(t *testing.T) {
	if root := os.Getenv(limitEnv); root != "" {
		lim := syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &lim); err != nil {
			t.Fatal(err)
		}
		s := snapshot(2)
		s.Tensors["big"] = tensor.New(tensor.T(tensor.F32, 1<<20))
		_, err := Save(root, s)
		if err == nil {
			t.Fatal("4 MiB were saved in 64 KiB")
		}
		t.Logf("refused: %v", err)
		return
	}
	root := t.TempDir()
	save(t, root, snapshot(1))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestFileLimitLosesNothing$", "-test.v")
	cmd.Env = append(os.Environ(), limitEnv+"="+root)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "refused: save checkpoint") || !strings.Contains(string(out), "too large") {
		t.Fatalf("%v: %s", err, out)
	}
	if got := names(t, root); got != "step-00000001" {
		t.Errorf("the run holds %s", got)
	}
	got, err := Load(filepath.Join(root, Name(1)))
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, snapshot(1))
}
