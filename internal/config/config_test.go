package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/spf13/pflag"
)

// layered is a set with one key for each layer.
type layered struct {
	set                        *Set
	flag, env, file, base, def int
}

func newLayered() *layered {
	l := &layered{set: New("T_", "T_OTHER")}
	fs := l.set.Flags()
	fs.IntVar(&l.flag, "by-flag", 1, "")
	fs.IntVar(&l.env, "by-env", 1, "")
	fs.IntVar(&l.file, "by-file", 1, "")
	fs.IntVar(&l.base, "by-base", 1, "")
	fs.IntVar(&l.def, "by-default", 1, "")
	return l
}

// write writes a file and returns its path.
func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStrongerLayersWin(t *testing.T) {
	l := newLayered()
	command := pflag.NewFlagSet("command", pflag.ContinueOnError) // as a command shares flags
	command.AddFlagSet(l.set.Flags())
	if err := command.Parse([]string{"--by-flag=5"}); err != nil {
		t.Fatal(err)
	}
	path := write(t, "by_flag: 3\nby-env: 3 # dashes will do\nby_file: 3\n")
	if err := l.set.Load(path, []string{"T_BY_FLAG=4", "T_BY_ENV=4", "BY_FILE=9", "T_OTHER=9", "T"}); err != nil {
		t.Fatal(err)
	}
	if v, ok := l.set.Given("by_env"); !ok || v != "4" {
		t.Errorf("by_env is given as %q, %v", v, ok)
	}
	if v := l.set.Value("by_default"); v != "1" {
		t.Errorf("by_default will be %q", v)
	}
	l.flag, l.env, l.file, l.base = 2, 2, 2, 2
	l.set.Base(Origin{"preset", "p"}, "by_flag", "by_env", "by_file", "by_base")
	if err := l.set.Apply(); err != nil {
		t.Fatal(err)
	}
	if got := [5]int{l.flag, l.env, l.file, l.base, l.def}; got != [5]int{5, 4, 3, 2, 1} {
		t.Errorf("values %v", got)
	}
	var origins []string
	for _, s := range l.set.Settings() {
		origins = append(origins, s.Origin.String())
	}
	want := "flag --by-flag, env T_BY_ENV, file " + path + ":3, preset p, default"
	if got := strings.Join(origins, ", "); got != want {
		t.Errorf("origins %s, want %s", got, want)
	}
}

func TestBadValueNamesItsPlace(t *testing.T) {
	l := newLayered()
	if err := l.set.Load("", []string{"T_BY_ENV=many"}); err != nil {
		t.Fatal(err)
	}
	err := l.set.Apply()
	if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), `env T_BY_ENV: "many" is no int`) {
		t.Errorf("error %v", err)
	}
}

func TestUnknownKeyIsRefusedWithTheNearest(t *testing.T) {
	err := newLayered().set.Load(write(t, "by_flag: 1\n\nby_fiel: 2\n"), nil)
	if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), `c.yaml:3: unknown key "by_fiel"`) {
		t.Errorf("error %v", err)
	}
	if hints := errors.FlattenHints(err); !strings.Contains(hints, `did you mean "by_file"?`) {
		t.Errorf("hints %q", hints)
	}
}

func TestUnknownVariableIsRefusedWithTheNearest(t *testing.T) {
	for variable, near := range map[string]string{
		"T_BY_FIEL": "did you mean T_BY_FILE?", "T_by_fiel": "did you mean T_BY_FILE?", "T_BY_DEF": "did you mean T_BY_DEFAULT?",
		"T_OTHR": "did you mean T_OTHER?", "T_ZZZZZZZZZZZZ": "unset it", "T_": "",
	} {
		err := newLayered().set.Load("", []string{variable + "=2"})
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "unknown variable "+variable) {
			t.Errorf("error %v", err)
		}
		if hints := errors.FlattenHints(err); !strings.Contains(hints, near) {
			t.Errorf("%s: hints %q, want %q", variable, hints, near)
		}
	}
}

func TestMissingFileIsSaidToBeMissing(t *testing.T) {
	err := newLayered().set.Load("nosuch.yaml", nil)
	if !errors.Is(err, ErrConfig) || !errors.Is(err, os.ErrNotExist) || strings.Contains(err.Error(), ErrConfig.Error()) {
		t.Errorf("error %v", err)
	}
}

func TestLargeFileIsRefused(t *testing.T) {
	err := newLayered().set.Load(write(t, "# "+strings.Repeat("x", maxFile)), nil)
	if !errors.Is(err, ErrConfig) {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "a: 1\n", "a: [1, 2]\n", "- a\n", "a: &x 1\nb: *x\n", "a: 1\na: 2\n", "? [k]\n: v\n", "\x00", "a: |\n  text\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		values, err := parse("f", data)
		if err != nil && !errors.Is(err, ErrConfig) {
			t.Fatalf("error %v is no ErrConfig", err)
		}
		for k, v := range values {
			if strings.Contains(k, "-") || v.origin.Layer != LayerFile || !strings.HasPrefix(v.origin.Detail, "f:") {
				t.Fatalf("%q: %+v", k, v)
			}
		}
	})
}
