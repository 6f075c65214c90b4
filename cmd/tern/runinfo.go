package main

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/internal/atomicfile"
	"github.com/ternlm/tern/internal/config"
)

// Names of the files in a run's directory, beside checkpoints and metrics.
const (
	runFile   = "run.json"
	modelFile = "model.gguf"
	mhcFile   = "model.mhc"
	lockFile  = "lock" // of the process that trains
)

// versionInfo says what this program is.
type versionInfo struct {
	Version  string `json:"version"` // of the module
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified"` // the tree had changes that were not committed
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// buildVersion reads the version that the linker recorded.
func buildVersion() versionInfo {
	v := versionInfo{Version: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// String is the program and its version.
func (v versionInfo) String() string {
	s := "tern " + v.Version
	if v.Revision != "" && !strings.Contains(v.Version, v.Revision[:min(12, len(v.Revision))]) {
		s += " " + v.Revision[:min(12, len(v.Revision))]
	}
	return s
}

// gitState is the state of the source tree that a run was started in.
type gitState struct {
	Revision string `json:"revision"`
	Modified bool   `json:"modified"`
	From     string `json:"from"` // "build", or "working directory"
}

// readGit takes the state from the build, or else from the repository around
// the working directory; nil where neither knows.
func readGit(v versionInfo) *gitState {
	if v.Revision != "" {
		return &gitState{v.Revision, v.Modified, "build"}
	}
	rev, err := exec.Command("git", "rev-parse", "HEAD").Output()
	if err != nil {
		return nil
	}
	changes, err := exec.Command("git", "status", "--porcelain", "--untracked-files=no").Output()
	return &gitState{strings.TrimSpace(string(rev)), err != nil || len(changes) > 0, "working directory"}
}

// machineInfo says where a run computes.
type machineInfo struct {
	CPU   string `json:"cpu,omitempty"`
	Cores int    `json:"cores"`
	OS    string `json:"os"`
	Arch  string `json:"arch"`
}

func machine() machineInfo {
	return machineInfo{CPU: cpuBrand(), Cores: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH}
}

// cpuBrand is the processor's name where the system tells it in a file.
func cpuBrand() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if k, v, ok := strings.Cut(sc.Text(), ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// dataInfo describes a text in run.json.
type dataInfo struct {
	Name      string `json:"name"`
	Tokenizer string `json:"tokenizer"`
	Tokens    int    `json:"tokens"`
	SHA256    string `json:"sha256"`
}

func (t text) info() (dataInfo, error) {
	sum, err := t.Fingerprint()
	return dataInfo{t.Name, t.Tokenizer().Name(), t.Len(), sum}, err
}

// runInfo is the content of run.json.
type runInfo struct {
	Program  versionInfo      `json:"program"`
	Git      *gitState        `json:"git,omitempty"`
	Machine  machineInfo      `json:"machine"`
	Backend  framework.Info   `json:"backend"`
	Plugin   []pluginRecord   `json:"backend_plugin,omitempty"` // that computes; those of the model are in config
	Started  time.Time        `json:"started"`
	Resumed  string           `json:"resumed_from,omitempty"` // checkpoint
	Settings []config.Setting `json:"settings"`
	Config   resolved         `json:"config"`
	Train    dataInfo         `json:"train"`
	Valid    dataInfo         `json:"valid"`
	Result   *trainResult     `json:"result,omitempty"` // of a run that ended
}

func (r *runInfo) write(dir string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return errors.Wrap(err, "run.json")
	}
	return atomicfile.WriteBytes(filepath.Join(dir, runFile), append(text, '\n'))
}
