package plugins

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asPlugin are the programs that the test binary can be, by the name it is
// started under (behind tern-plugin-). Their functions never return to the
// tests.
var asPlugin = map[string]func(){}

// TestMain runs the tests, or the plugin that the program is called like. The
// environment cannot tell: a host does not pass it on.
func TestMain(m *testing.M) {
	if name, ok := strings.CutPrefix(filepath.Base(os.Args[0]), "tern-plugin-"); ok {
		if f := asPlugin[strings.TrimSuffix(name, ".exe")]; f != nil {
			f()
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// program makes the named one of asPlugin a file and returns its path.
func program(t testing.TB, name string) string {
	t.Helper()
	if asPlugin[name] == nil {
		t.Fatalf("no program %q", name)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tern-plugin-"+name)
	if err := os.Symlink(self, path); err != nil {
		t.Skip(err)
	}
	return path
}

// says checks what an error is and holds.
func says(t *testing.T, err error, is []error, words ...string) {
	t.Helper()
	for _, target := range is {
		if !errors.Is(err, target) {
			t.Errorf("%v\nis no %q", err, target)
		}
	}
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%v\ndoes not say %q", err, w)
		}
	}
}
