package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"
)

// home is a store whose directories are of the test alone.
func home(t *testing.T) *Store {
	t.Helper()
	return &Store{Given: map[string]string{}, User: filepath.Join(t.TempDir(), "plugins")}
}

func put(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func sum(content string) string {
	h := sha256.Sum256([]byte(content))
	return hex.EncodeToString(h[:])
}

func pinOf(name, content string) Pin {
	return Pin{Name: name, Kind: "quantizer", Version: "1.2.3", SHA256: sum(content), Platform: Platform(), Installed: time.Unix(1e9, 0).UTC()}
}

// install brings content into the store.
func install(t *testing.T, s *Store, name, content string) string {
	t.Helper()
	staged, got, err := s.Stage(put(t, filepath.Join(t.TempDir(), "built"), content))
	if err != nil {
		t.Fatal(err)
	}
	if got != sum(content) {
		t.Fatalf("hashed to %s", got)
	}
	path, err := s.Keep(staged, pinOf(name, content))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func hints(err error) string { return strings.Join(errors.GetAllHints(err), "\n") }

func TestInstalledPluginIsFoundPinnedAndRemoved(t *testing.T) {
	s := home(t)
	path := install(t, s, "nf4", "binary")
	st, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o755 {
		t.Fatalf("mode %v, %v", st.Mode(), err)
	}
	f, p, err := s.Verify("nf4")
	if err != nil || f != (Found{"nf4", path, FromUser}) || p != pinOf("nf4", "binary") {
		t.Fatalf("%+v, %+v, %v", f, p, err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.User, ".staged-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := s.Remove("nf4"); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{func() error { _, err := s.Find("nf4"); return err }(), s.Remove("nf4")} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("a removed plugin: %v", err)
		}
	}
}

func TestChangedAndUnpinnedBinariesAreRefusedWithTheCommand(t *testing.T) {
	s := home(t)
	path := install(t, s, "nf4", "binary")
	put(t, path, "other")
	_, _, err := s.Verify("nf4")
	if !errors.Is(err, ErrChanged) || !strings.Contains(hints(err), "tern plugin install --pin-only "+path+" --name nf4") {
		t.Errorf("changed: %v\n%s", err, hints(err))
	}
	elsewhere := put(t, filepath.Join(t.TempDir(), "it's mine"), "third")
	s.Given["own"] = elsewhere
	_, _, err = s.Resolve("own")
	if !errors.Is(err, ErrUnpinned) || !strings.Contains(hints(err), `it'\''s mine' --name own`) {
		t.Errorf("unpinned: %v\n%s", err, hints(err))
	}
}

func TestPinOfAnotherPlatformDoesNotCount(t *testing.T) {
	s := home(t)
	install(t, s, "nf4", "binary")
	err := s.ChangeLock(func(l *Lock) error {
		l.Pins[0].Platform = "plan9/mips"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Resolve("nf4"); !errors.Is(err, ErrUnpinned) {
		t.Errorf("%v", err)
	}
	install(t, s, "nf4", "binary")
	l, err := s.ReadLock()
	if err != nil || len(l.Pins) != 2 {
		t.Errorf("%d pins, %v", len(l.Pins), err)
	}
}

func TestFirstPlaceWins(t *testing.T) {
	s := home(t)
	user := install(t, s, "a", "user")
	install(t, s, "b", "user")
	install(t, s, "c", "user")
	first, second := t.TempDir(), t.TempDir()
	s.Path = []string{filepath.Join(first, "missing"), first, second}
	b := put(t, filepath.Join(first, FileName("b")), "first")
	put(t, filepath.Join(second, FileName("b")), "second")
	c := put(t, filepath.Join(second, FileName("c")), "second")
	s.Given["c"] = put(t, filepath.Join(t.TempDir(), "x"), "given")
	put(t, filepath.Join(first, "tern-plugin-Not"), "")
	put(t, filepath.Join(first, "another"), "")
	want := []Found{{"a", user, FromUser}, {"b", b, FromPath}, {"c", s.Given["c"], FromFlag}}
	if got := s.All(); !slices.Equal(got, want) {
		t.Errorf("all: %v", got)
	}
	for _, w := range want {
		if got, err := s.Find(w.Name); got != w || err != nil {
			t.Errorf("found %v, %v", got, err)
		}
	}
	delete(s.Given, "c")
	if got, err := s.Find("c"); got.Path != c || err != nil {
		t.Errorf("found %v, %v", got, err)
	}
}

func TestWorkingDirectoryIsNoPlace(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	put(t, filepath.Join(dir, FileName("here")), "x")
	t.Setenv("PATH", dir)
	s := home(t)
	if _, err := s.Find("here"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
	for _, path := range []string{".", "", dir + string(os.PathListSeparator) + "plugins", string(os.PathListSeparator) + dir} {
		_, err := Open(path, nil)
		if path == "" {
			if err != nil {
				t.Errorf("no directories: %v", err)
			}
			continue
		}
		if !errors.Is(err, ErrUnsafe) {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestGivenPluginsNeedANameAndAPath(t *testing.T) {
	for _, g := range []string{"", "x", "x=", "=x", "X=x", "-x=x", "../x=x", strings.Repeat("x", 65) + "=x"} {
		if _, err := Open("", []string{g}); !errors.Is(err, ErrName) || hints(err) == "" {
			t.Errorf("%q: %v", g, err)
		}
	}
	if _, err := Open("", []string{"x=a", "x=b"}); !errors.Is(err, ErrName) {
		t.Errorf("twice: %v", err)
	}
	s, err := Open("", []string{"x=a"})
	if err != nil || !filepath.IsAbs(s.Given["x"]) {
		t.Errorf("%v, %v", s, err)
	}
}

func TestMissingPluginSuggestsTheNearest(t *testing.T) {
	s := home(t)
	install(t, s, "nf4", "binary")
	_, err := s.Find("nf5")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(hints(err), "did you mean nf4") || !strings.Contains(err.Error(), s.User) {
		t.Errorf("%v\n%s", err, hints(err))
	}
}

func TestWhatOthersCouldChangeIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	chmod := func(mode os.FileMode) func(path string) error {
		return func(path string) error { return os.Chmod(path, mode) }
	}
	for name, c := range map[string]struct {
		change func(path string) error
		level  int // directories above the file
		ok     bool
	}{
		"file writable by all":                          {chmod(0o777), 0, false},
		"file writable by the group":                    {chmod(0o775), 0, true},
		"directory writable by all":                     {chmod(0o777), 1, false},
		"directory writable by all and sticky":          {chmod(0o777 | os.ModeSticky), 1, false},
		"directory above writable by all":               {chmod(0o777), 2, false},
		"directory above writable by all and sticky":    {chmod(0o777 | os.ModeSticky), 2, true},
		"file of another user":                          {func(path string) error { return os.Chown(path, 12345, -1) }, 0, false},
		"directory of another user":                     {func(path string) error { return os.Chown(path, 12345, -1) }, 1, false},
		"directory in the place of the plugin's binary": {func(path string) error { return errors.CombineErrors(os.Remove(path), os.Mkdir(path, 0o755)) }, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "above", "dir")
			path := put(t, filepath.Join(dir, FileName("x")), "x")
			target := path
			for range c.level {
				target = filepath.Dir(target)
			}
			if err := c.change(target); errors.Is(err, os.ErrPermission) {
				t.Skip("only root gives files away")
			} else if err != nil {
				t.Fatal(err)
			}
			s := home(t)
			s.Path = []string{dir}
			_, err := s.Find("x")
			if c.ok != (err == nil) || err != nil && (!errors.Is(err, ErrUnsafe) || hints(err) == "") {
				t.Errorf("%v\n%s", err, hints(err))
			}
		})
	}
}

func TestLinkIsJudgedByWhatItPointsTo(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	dir := t.TempDir()
	real := put(t, filepath.Join(t.TempDir(), "real"), "x")
	if err := os.Symlink(real, filepath.Join(dir, FileName("x"))); err != nil {
		t.Fatal(err)
	}
	s := home(t)
	s.Path = []string{dir}
	if _, err := s.Find("x"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(real, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Find("x"); !errors.Is(err, ErrUnsafe) {
		t.Errorf("%v", err)
	}
}

func TestEmptyBinaryIsRefused(t *testing.T) {
	s := home(t)
	if _, _, err := s.Stage(put(t, filepath.Join(t.TempDir(), "x"), "")); !errors.Is(err, ErrSize) {
		t.Errorf("%v", err)
	}
}

func TestLockFileOfOthersIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	s := home(t)
	install(t, s, "nf4", "binary")
	path, err := s.LockPath()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Resolve("nf4"); !errors.Is(err, ErrUnsafe) {
		t.Errorf("%v", err)
	}
}

func TestLockReadsBackAsWritten(t *testing.T) {
	var l Lock
	l.Set(pinOf("b", "1"))
	l.Set(pinOf("a", "2"))
	l.Set(pinOf("b", "3"))
	text, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeLock(bytes.NewReader(text))
	if err != nil || !slices.Equal(back.Pins, []Pin{pinOf("a", "2"), pinOf("b", "3")}) {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestMalformedLocksAreRefused(t *testing.T) {
	good := `{"name":"a","kind":"quantizer","version":"1.0.0","sha256":"` + sum("") + `","platform":"linux/amd64","installed":"2026-01-02T03:04:05Z"}`
	bad := func(old, new string) string {
		return `{"version":1,"plugins":[` + strings.Replace(good, old, new, 1) + `]}`
	}
	if _, err := DecodeLock(strings.NewReader(bad("", ""))); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":          "",
		"no JSON":          "version: 1",
		"no object":        "[]",
		"two objects":      `{"version":1} {"version":1}`,
		"another version":  `{"version":2}`,
		"no version":       `{}`,
		"a field too many": `{"version":1,"more":1}`,
		"twice":            `{"version":1,"plugins":[` + good + "," + good + `]}`,
		"name":             bad(`"a"`, `"../a"`),
		"kind":             bad("quantizer", "virus"),
		"plugin version":   bad("1.0.0", "1 0"),
		"hash":             bad(sum(""), sum("")[1:]),
		"hash in capitals": bad(sum(""), strings.ToUpper(sum(""))),
		"platform":         bad("linux/amd64", "linux"),
		"time":             bad("2026-01-02T03:04:05Z", "yesterday"),
		"too large":        `{"version":1,"plugins":[` + strings.Repeat(" ", lockBytes) + `]}`,
		"too many":         `{"version":1,"plugins":[` + strings.Repeat(`{},`, lockPins) + `{}]}`,
	} {
		if _, err := DecodeLock(strings.NewReader(text)); !errors.Is(err, ErrLock) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDecodeLock: what is read can be written, and reads as the same.
func FuzzDecodeLock(f *testing.F) {
	f.Add([]byte(`{"version":1,"plugins":[]}`))
	f.Add([]byte(`{"version":1,"plugins":[{"name":"a","kind":"backend","version":"1.0.0-rc.1","sha256":"` + sum("x") + `","platform":"linux/amd64","installed":"2026-01-02T03:04:05+01:00"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := DecodeLock(bytes.NewReader(text))
		if err != nil {
			return
		}
		again, err := l.Encode()
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeLock(bytes.NewReader(again))
		if err != nil {
			t.Fatal(err)
		}
		third, err := back.Encode()
		if err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%s\n%s\n%v", again, third, err)
		}
	})
}
