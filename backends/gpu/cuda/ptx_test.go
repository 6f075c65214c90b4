package cuda

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ternlm/tern/backends/gpu/cuda/internal/cudatest"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/driver"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/engine"
	"github.com/ternlm/tern/backends/gpu/cuda/internal/fake"
)

var update = flag.Bool("update", false, "write the embedded PTX anew")

// sums is the file that says what the PTX was made of.
const sums = "ptx/sums.json"

func sumOf(src driver.Source) string {
	h := sha256.New()
	fmt.Fprintf(h, "%d %s", len(src.Code), src.Code)
	for _, name := range slices.Sorted(maps.Keys(src.Headers)) {
		fmt.Fprintf(h, "%s %d %s", name, len(src.Headers[name]), src.Headers[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestTheEmbeddedPTXIsOfTheseSources(t *testing.T) {
	if *update {
		writePTX(t)
		t.Skip("written; the next test is of what it embeds")
	}
	text, err := os.ReadFile(sums)
	must(t, err)
	made := map[string]string{}
	must(t, json.Unmarshal(text, &made))
	for _, src := range sources() {
		if made[src.Name] != sumOf(src) {
			t.Errorf("%s has changed: run NVRTC_DIR=... go test ./backends/gpu/cuda -run PTX -update", src.Name)
		}
		code, ok := embedded{}.PTX(src.Name)
		if !ok || !bytes.Contains(code, []byte(".target sm_80")) || !bytes.Contains(code, []byte(".version 8.0")) {
			t.Errorf("%s has no PTX 8.0 for compute capability 8.0", src.Name)
		}
		delete(made, src.Name)
	}
	for name := range made {
		t.Errorf("there is no source %s", name)
	}
}

func writePTX(t *testing.T) {
	t.Helper()
	n := nvrtc(t)
	if major, minor := n.Version(); major != 12 || minor != 0 {
		t.Fatalf("NVRTC %d.%d makes PTX that older drivers do not know; take 12.0", major, minor)
	}
	must(t, os.RemoveAll("ptx"))
	must(t, os.Mkdir("ptx", 0o755))
	made := map[string]string{}
	for _, src := range sources() {
		p, err := n.Compile(src, "--std=c++17", "--gpu-architecture=compute_80")
		must(t, err)
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
		must(t, err)
		_, err = z.Write(p.Code)
		must(t, err)
		must(t, z.Close())
		must(t, os.WriteFile(filepath.Join("ptx", src.Name+".ptx.gz"), b.Bytes(), 0o644))
		made[src.Name] = sumOf(src)
		t.Logf("%s: %d bytes, %d packed", src.Name, len(p.Code), b.Len())
	}
	text, err := json.MarshalIndent(made, "", "\t")
	must(t, err)
	must(t, os.WriteFile(sums, append(text, '\n'), 0o644))
}

// Without NVRTC the device runs on PTX: the fake's, which it takes for that.
func TestWithoutNVRTCTheEmbeddedPTXIsTaken(t *testing.T) {
	if cudatest.Real() {
		t.Skip("needs a machine without NVRTC")
	}
	dir := fake.Build(t, fake.Options{Omit: []string{"libnvrtc.so.12"}})
	be, err := open(config{device: engine.DeviceOptions{Precision: engine.F32, Libraries: driver.Search{Dir: dir, Only: true}, PTX: embedded{}}})
	must(t, err)
	if notes := fmt.Sprint(be.Describe().Notes); !bytes.Contains([]byte(notes), []byte("interpreted")) {
		t.Errorf("notes %s do not say that there is no NVRTC", notes)
	}
	must(t, be.Close())
}
