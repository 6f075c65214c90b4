package arena

import (
	"os"
	"testing"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// Memory whose size can still change is a bus error in waiting.
func TestMemoryThatIsNotSealedIsNotInherited(t *testing.T) {
	fd, err := unix.MemfdCreate("test", unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Skip(err)
	}
	f := os.NewFile(uintptr(fd), "test")
	defer func() { _ = f.Close() }()
	if err := f.Truncate(1 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := Inherit(f.Fd(), 1<<20); !errors.Is(err, ErrUnsupported) {
		t.Errorf("error %v", err)
	}
}
