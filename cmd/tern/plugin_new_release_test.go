package main

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// release is the version of a tern that nobody has released.
const release = "v1.2.3"

// proxy makes a file system proxy of modules that has the files of this checkout
// as tern's release.
func proxy(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", "ls-files", "-co", "--exclude-standard", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Skip("needs git and a checkout: ", err)
	}
	dir := t.TempDir()
	versions := filepath.Join(dir, filepath.FromSlash(ternModule), "@v")
	if err := os.MkdirAll(versions, 0o777); err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := zipModule(&archive, root, strings.Split(strings.Trim(string(out), "\x00"), "\x00")); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"list": []byte(release + "\n"), release + ".info": []byte(`{"Version":"` + release + `"}`), release + ".mod": mod, release + ".zip": archive.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(versions, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// zipModule writes the files of a module as proxies have it: without those of
// other modules in it.
func zipModule(w io.Writer, root string, files []string) error {
	inner := func(name string) bool {
		return slices.ContainsFunc(files, func(mod string) bool {
			dir, ok := strings.CutSuffix(mod, "/go.mod")
			return ok && strings.HasPrefix(name, dir+"/")
		})
	}
	z := zip.NewWriter(w)
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join(root, name))
		if os.IsNotExist(err) || inner(name) {
			continue // deleted and not committed
		} else if err != nil {
			return err
		}
		f, err := z.Create(ternModule + "@" + release + "/" + name)
		if err != nil {
			return err
		}
		if _, err := f.Write(data); err != nil {
			return err
		}
	}
	return z.Close()
}

// goList lists the packages of the module in dir, its tests' and those below.
func goList(t *testing.T, dir string) []byte {
	t.Helper()
	cmd := exec.Command("go", "list", "-mod=readonly", "-e=false", "-deps", "-test", "-json=ImportPath,Module", "./...")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		if e, ok := err.(*exec.ExitError); ok {
			out = e.Stderr
		}
		t.Fatalf("go list: %v\n%s", err, out)
	}
	return out
}

// A tern that was installed by its version writes a module that asks for that
// version, and has all that its packages and tests need: nothing of a checkout.
func TestAPluginOfAReleasedTernNeedsNoCheckout(t *testing.T) {
	if testing.Short() {
		t.Skip("fetches modules into a new cache")
	}
	env, err := goEnv()
	if err != nil {
		t.Skip(err)
	}
	for k, v := range map[string]string{
		"GOPROXY":    "file://" + proxy(t) + ",file://" + env["GOMODCACHE"] + "/cache/download",
		"GOMODCACHE": t.TempDir(), "GOSUMDB": "off", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOCACHE": env["GOCACHE"],
		// Tests of modules that tern uses need modules which nobody has fetched here:
		// go mod tidy, which looks at them too, goes on without (-e). A cache that can be
		// removed again: -modcacherw.
		"GOFLAGS": "-e -modcacherw",
	} {
		t.Setenv(k, v)
	}
	old := mainVersion
	defer func() { mainVersion = old }()
	mainVersion = func() string { return release }
	for _, kind := range pluginKinds {
		dir := filepath.Join(t.TempDir(), "plugin")
		if err := (pluginNew{dir: dir}).run(t.Context(), &app{stdout: io.Discard}, kind, "mine"); err != nil {
			t.Fatal(err)
		}
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil || !strings.Contains(string(mod), ternModule+" "+release+"\n") || strings.Contains(string(mod), "replace") {
			t.Errorf("%s: go.mod, %v:\n%s", kind, err, mod)
		}
		found := 0
		for d := json.NewDecoder(bytes.NewReader(goList(t, dir))); d.More(); {
			var p struct {
				ImportPath string
				Module     *struct{ Path, Version, Dir string }
			}
			if err := d.Decode(&p); err != nil {
				t.Fatal(err)
			}
			if p.Module != nil && p.Module.Path == ternModule {
				found++
				if p.Module.Version != release || !strings.HasPrefix(p.Module.Dir, os.Getenv("GOMODCACHE")) {
					t.Errorf("%s: %s is of %+v", kind, p.ImportPath, p.Module)
				}
			}
		}
		if found < 10 {
			t.Errorf("%s: %d packages of tern", kind, found)
		}
	}
}

func TestATernThatNobodyReleasedAsksForACheckout(t *testing.T) {
	old := mainVersion
	defer func() { mainVersion = old }()
	for _, v := range []string{"", "(devel)", "v0.0.0-20260102030405-0123456789ab", "v1.2.3+dirty"} {
		mainVersion = func() string { return v }
		err := pluginNew{dir: filepath.Join(t.TempDir(), "plugin")}.run(t.Context(), &app{stdout: io.Discard}, "quantizer", "mine")
		if err == nil || !strings.Contains(err.Error(), "no released version") {
			t.Errorf("%q: %v", v, err)
		}
	}
}
