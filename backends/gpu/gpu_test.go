package gpu

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins"
	"github.com/ternlm/tern/plugins/store"
)

// TestMain runs the tests, or is the plugin that they start: the reference backend
// with the options of a device.
func TestMain(m *testing.M) {
	if strings.HasPrefix(filepath.Base(os.Args[0]), "tern-plugin-cuda") {
		plugins.ServeBackend(plugins.Backend{Meta: plugins.Meta{Name: "cuda", Version: "0.1.0", Help: "A stand-in."}, Open: standIn})
		return
	}
	os.Exit(m.Run())
}

// device is the reference backend as if its memory were a device's.
type device struct {
	framework.Backend
	framework.Estimator
	number int
}

func (d device) Memory() (free, total int64, err error) { return 3 << 30, 4 << 30, nil }
func (d device) Describe() framework.Info {
	return framework.Info{Name: "cuda", Device: "device " + strconv.Itoa(d.number), Notes: []string{"pid " + strconv.Itoa(os.Getpid())}}
}

func standIn(o framework.Options) (framework.Backend, error) {
	n, err := o.Int("device", 0)
	if err != nil {
		return nil, err
	}
	switch p, err := o.Choice("precision", "bf16", "f32"); {
	case err != nil:
		return nil, err
	case n == 9:
		return nil, errors.WithHint(errors.New("no CUDA driver: tried libcuda.so.1"), "install NVIDIA's driver, "+p)
	}
	_, threadless, _ := framework.ParseSpec("scalar")
	be, err := scalar.Open(threadless)
	if err != nil {
		return nil, err
	}
	return device{be, be.(framework.Estimator), n}, nil
}

// plugin puts the stand-in into dir and returns its path.
func plugin(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, store.FileName(pluginName))
	if err := os.Symlink(self, path); err != nil {
		t.Skip(err)
	}
	return path
}

// this is the build of the programs of these tests, as find is told.
var this = build{pkg: module + "/cmd/tern", version: "v0.1.0", revision: "abc"}

// machine is where find looks in a test: a program in bin, nothing else.
func machine(t *testing.T) (f finder, root string) {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tern := filepath.Join(root, "bin", "tern")
	if err := os.MkdirAll(filepath.Dir(tern), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tern, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	return finder{
		store:   func() (*store.Store, error) { return &store.Store{User: filepath.Join(root, "user")}, nil },
		program: func() (string, error) { return tern, nil },
		self:    this,
		read:    func(string) (build, error) { return build{pluginPackage, this.version, this.revision}, nil },
	}, root
}

func options(t *testing.T, text string) framework.Options {
	t.Helper()
	_, o, err := framework.ParseSpec(Name + ":" + text)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestShortSpecsNameTheDevice(t *testing.T) {
	for spec, want := range map[string]string{
		"gpu": "gpu", "gpu:0": "gpu:device=0", "gpu:12": "gpu:device=12", "gpu:1,precision=f32": "gpu:device=1,precision=f32",
		"gpu:device=1": "gpu:device=1", "gpu:": "gpu:", "gpu:one": "gpu:one", "avx2:1": "avx2:1", "gpus:1": "gpus:1", "plugin:gpu:1": "plugin:gpu:1",
	} {
		if got := Spec(spec); got != want {
			t.Errorf("%s is %s, want %s", spec, got, want)
		}
	}
}

func TestThePluginIsFoundBesideTheProgram(t *testing.T) {
	for _, dir := range []string{"bin", "libexec/tern", "lib/tern"} {
		f, root := machine(t)
		want := plugin(t, filepath.Join(root, dir))
		if got, err := f.find(); err != nil || got.path != want || got.sha256 != "" {
			t.Errorf("%s: found %+v, error %v", dir, got, err)
		}
	}
}

func TestThePluginIsFoundNowhereElse(t *testing.T) {
	f, root := machine(t)
	elsewhere := filepath.Join(root, "elsewhere")
	plugin(t, elsewhere)
	t.Chdir(elsewhere)
	t.Setenv("PATH", elsewhere)
	_, err := f.find()
	if !errors.Is(err, ErrNoPlugin) {
		t.Fatal(err)
	}
	for _, want := range []string{"bin", "libexec/tern", "lib/tern", "user"} {
		if !strings.Contains(err.Error(), filepath.Join(root, want)) {
			t.Errorf("%v does not say that it looked in %s", err, want)
		}
	}
	if h := strings.Join(errors.GetAllHints(err), ""); !strings.Contains(h, buildCommand) {
		t.Errorf("hint %q", h)
	}
}

func TestWhatTheUserNamesWinsAndMustBePinned(t *testing.T) {
	f, root := machine(t)
	plugin(t, filepath.Join(root, "bin"))
	named := filepath.Join(root, "named")
	path := plugin(t, named)
	f.store = func() (*store.Store, error) {
		return &store.Store{Path: []string{named}, User: filepath.Join(root, "user")}, nil
	}
	if _, err := f.find(); !errors.Is(err, store.ErrUnpinned) {
		t.Fatalf("without a pin: error %v", err)
	}
	pin(t, f, path)
	if got, err := f.find(); err != nil || got.path != path || len(got.sha256) != 64 {
		t.Errorf("found %+v, error %v", got, err)
	}
}

// pin pins the program at path.
func pin(t *testing.T, f finder, path string) {
	t.Helper()
	s, err := f.store()
	if err != nil {
		t.Fatal(err)
	}
	staged, sum, err := s.Stage(path)
	if err == nil {
		_, err = s.Keep(staged, store.Pin{Name: pluginName, Kind: "backend", Version: "0.1.0", SHA256: sum, Platform: store.Platform()})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnInstalledPluginStandsBehindTheOneBesideTheProgram(t *testing.T) {
	f, root := machine(t)
	pin(t, f, plugin(t, filepath.Join(root, "elsewhere")))
	installed, err := f.find()
	if err != nil || !strings.HasPrefix(installed.path, filepath.Join(root, "user")) || installed.sha256 == "" {
		t.Fatalf("found %+v, error %v", installed, err)
	}
	beside := plugin(t, filepath.Join(root, "bin"))
	if got, err := f.find(); err != nil || got.path != beside {
		t.Errorf("found %+v, error %v", got, err)
	}
}

func TestAPluginOfAnotherBuildIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		self, plugin build
		want         string // of the error; "" is none
	}{
		"of the same commit":      {this, build{pluginPackage, "v0.1.0", "abc"}, ""},
		"without version control": {build{version: "(devel)"}, build{pluginPackage, "(devel)", ""}, ""},
		"of another commit":       {this, build{pluginPackage, "v0.1.0", "def"}, "commit def, this program of abc"},
		"of another version":      {this, build{pluginPackage, "v0.2.0", "abc"}, "version v0.2.0, this program of v0.1.0"},
		"of a commit not known":   {this, build{pluginPackage, "v0.1.0", ""}, "commit unknown"},
		"another program":         {this, build{module + "/cmd/tern", "v0.1.0", "abc"}, "another program"},
	} {
		t.Run(name, func(t *testing.T) {
			f, root := machine(t)
			plugin(t, filepath.Join(root, "bin"))
			f.self, f.read = c.self, func(string) (build, error) { return c.plugin, nil }
			switch _, err := f.find(); {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (!errors.Is(err, ErrBuild) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestAFileThatIsNoProgramOfGoIsRefused(t *testing.T) {
	f, root := machine(t)
	f.read = readBuild
	if err := os.WriteFile(filepath.Join(root, "bin", store.FileName(pluginName)), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := f.find(); !errors.Is(err, ErrBuild) {
		t.Errorf("error %v", err)
	}
}

func TestAFileThatOthersMayWriteIsRefused(t *testing.T) {
	f, root := machine(t)
	path := filepath.Join(root, "bin", store.FileName(pluginName))
	if err := os.WriteFile(path, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o757); err != nil {
		t.Fatal(err)
	}
	if _, err := f.find(); !errors.Is(err, store.ErrUnsafe) {
		t.Errorf("error %v", err)
	}
}

// opened starts the stand-in.
func opened(t *testing.T, spec string) framework.Backend {
	t.Helper()
	f, root := machine(t)
	plugin(t, filepath.Join(root, "bin"))
	be, err := open(f, options(t, spec))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = be.Close() })
	return be
}

func TestTheBackendIsThePluginsUnderItsOwnName(t *testing.T) {
	be := opened(t, "device=2,precision=f32")
	if info := be.(framework.Describer).Describe(); be.Name() != "gpu" || info.Name != "gpu" || info.Device != "device 2" {
		t.Errorf("%s: %+v", be.Name(), info)
	}
	if free, total, err := be.(framework.OwnMemory).Memory(); free != 3<<30 || total != 4<<30 || err != nil {
		t.Errorf("%d of %d free, error %v", free, total, err)
	}
	if p := be.(interface{ Plugin() plugins.Info }).Plugin(); p.Name != "cuda" || len(p.SHA256) != 64 {
		t.Errorf("plugin %+v", p)
	}
	if got := add(t, be); got != 3 {
		t.Errorf("1 + 2 is %v", got)
	}
}

// add computes 1 + 2 on be.
func add(t *testing.T, be framework.Backend) float32 {
	t.Helper()
	out, err := tryAdd(be)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryAdd(be framework.Backend) (float32, error) {
	ctx := context.Background()
	g, err := graph.Trace(func(b *graph.Builder) {
		b.Output("sum", b.Add(b.Input("x", tensor.F32), b.Input("y", tensor.F32)))
	})
	if err != nil {
		return 0, err
	}
	exe, err := be.Compile(ctx, g)
	if err != nil {
		return 0, err
	}
	s, err := be.NewStore()
	if err != nil {
		return 0, err
	}
	scalar := func(v float32) *tensor.Tensor {
		t := tensor.New(tensor.T(tensor.F32))
		t.F32()[0] = v
		return t
	}
	out := scalar(0)
	err = exe.Run(ctx, s, []*tensor.Tensor{scalar(1), scalar(2)}, []*tensor.Tensor{out})
	return out.F32()[0], err
}

func TestWhatThePluginSaysOfADeviceReachesTheUser(t *testing.T) {
	f, root := machine(t)
	plugin(t, filepath.Join(root, "bin"))
	_, err := open(f, options(t, "device=9"))
	if err == nil || !strings.Contains(err.Error(), "no CUDA driver: tried libcuda.so.1") {
		t.Errorf("error %v", err)
	}
	if h := errors.GetAllHints(err); len(h) != 1 || h[0] != "install NVIDIA's driver, bf16" {
		t.Errorf("hints %q", h)
	}
	if _, err := open(f, options(t, "precison=f32")); !errors.Is(err, framework.ErrOption) || strings.Contains(err.Error(), "plugin") {
		t.Errorf("an option that there is not: error %v", err)
	}
	if _, err := open(f, options(t, "precision=f16")); !errors.Is(err, framework.ErrOption) {
		t.Errorf("a precision that there is not: error %v", err)
	}
}

func TestAKilledPluginIsAnErrorThatSaysSo(t *testing.T) {
	be := opened(t, "device=0")
	notes := be.(framework.Describer).Describe().Notes
	pid, err := strconv.Atoi(strings.TrimPrefix(notes[0], "pid "))
	if err != nil {
		t.Fatal(err)
	}
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		_, err = tryAdd(be)
		if err != nil || time.Now().After(deadline) {
			break
		}
	}
	if !errors.Is(err, plugins.ErrDied) || len(errors.GetAllHints(err)) == 0 {
		t.Errorf("error %v, hints %q", err, errors.GetAllHints(err))
	}
	if err := be.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestClosingEndsTheProcess(t *testing.T) {
	be := opened(t, "device=0")
	if err := be.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := tryAdd(be); err == nil {
		t.Error("a closed backend computes")
	}
}
