package main

import (
	"encoding/json"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ternlm/tern/backends/avx2"
)

// report runs a benchmark and decodes its JSON, in which no field may be
// unknown.
func report(t *testing.T, args ...string) (r benchReport, raw map[string]any) {
	t.Helper()
	out := mustRun(t, nil, append(args, "--json", "--rounds", "2", "--seconds", "0.001", "--threads", "1")...)
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := json.Unmarshal([]byte(out), &raw); err != nil {
		t.Fatal(err)
	}
	return r, raw
}

// fieldsOf collects the paths of the fields of a JSON value. What params and
// info of others hold is not the report's.
func fieldsOf(v any, path string, into map[string]bool) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			p := strings.TrimPrefix(path+"."+k, ".")
			into[p] = true
			if !slices.Contains([]string{"program", "machine", "backend"}, k) {
				fieldsOf(x, p, into)
			}
		}
	case []any:
		for _, x := range v {
			fieldsOf(x, path+"[]", into)
		}
	}
}

func TestTheJSONHasTheFieldsThatAreDocumented(t *testing.T) {
	needShell(t)
	inSmall(t)
	fields := map[string]bool{}
	kernels, raw := report(t, "bench", "kernels", "--shape", "32x128", "--peer", "p=echo 5")
	fieldsOf(raw, "", fields)
	for _, args := range [][]string{
		{"bench", "kernels", "--shape", "none", "--gemm", "--gemm-shape", "8x16x32"},
		{"bench", "kernels", "--shape", "32x128", "--levels", "-127,5"},
		{"bench", "train", "--config", "small.yaml"},
		{"bench", "decode", "--config", "small.yaml", "--tokens", "3"},
		{"bench", "decode", "--config", "small.yaml", "--tokens", "3", "--streams", "2"},
		{"bench", "prefill", "--config", "small.yaml", "--prompt", "3"},
		{"bench", "tokenizer", "--tokenizer", "gpt2:512", "--text", "train.txt"},
	} {
		r, raw := report(t, args...)
		fieldsOf(raw, "", fields)
		if !r.Complete || len(r.Rows) == 0 || r.Rows[0].Rate.Rounds != 2 {
			t.Errorf("%v: complete %v, %d rows", args, r.Complete, len(r.Rows))
		}
	}
	page, err := os.ReadFile(benchPage)
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if name, ok := strings.CutPrefix(line, "| `"); ok {
			documented[name[:strings.Index(name, "`")]] = true
		}
	}
	got, want := slices.Sorted(maps.Keys(fields)), slices.Sorted(maps.Keys(documented))
	for _, f := range got {
		if !documented[f] {
			t.Errorf("docs/bench.md does not have %s", f)
		}
	}
	for _, f := range want {
		if !fields[f] {
			t.Errorf("docs/bench.md has %s, which no report has", f)
		}
	}

	row := kernels.Rows[0]
	if row.Unit != "GOPS" || row.Threads != 1 || row.Name != "32x128" || row.Peers[0].Rate.Median != 5 {
		t.Errorf("row %+v", row)
	}
	if ops := 2.0 * 32 * 128; row.Floor.Int8 != ops && row.Floor.F32 != ops {
		t.Errorf("floor %+v, want %v operations", row.Floor, ops)
	}
	// An item takes its units at the rate.
	if want := 2e-9 * 32 * 128 / row.Rate.Median; row.Seconds < 0.999*want || row.Seconds > 1.001*want {
		t.Errorf("%v s at %v GOPS, want %v", row.Seconds, row.Rate.Median, want)
	}
}

// benchPage is found before a test changes the directory.
var benchPage, _ = filepath.Abs("../../docs/bench.md")

func TestPlotsShowEverySeries(t *testing.T) {
	needShell(t)
	inSmall(t)
	args := []string{
		"bench", "kernels", "--shape", "16x128,32x128,48x128,64x128", "--tokens", "1,2", "--gemm", "--gemm-shape", "8x16x32",
		"--rounds", "1", "--seconds", "0.001", "--peer", "neighbor=echo 5", "--plot",
	}
	mustRun(t, nil, append(args, "out.svg")...)
	for part, want := range map[string][]string{
		"kernels": {"GOPS", "16x128", "64x128", "1 token<", "2 tokens<", "tern, 1 thread<", "scalar, 1 thread<", "neighbor, 1 thread<", "limit, 1 thread<"},
		"gemm":    {"GFLOP/s", "8x16x32", "X W^T", "dY^T X"},
	} {
		svg, err := os.ReadFile("out-" + part + ".svg")
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if w == "limit, 1 thread<" && !avx2.Supported() {
				continue
			}
			if !strings.Contains(string(svg), w) {
				t.Errorf("%s: no %q in the picture", part, w)
			}
		}
	}
	mustRun(t, nil, append(args, "out.png")...)
	f, err := os.Open("out-kernels.png")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if img, err := png.DecodeConfig(f); err != nil || img.Width < 600 || img.Height < 600 {
		t.Errorf("picture of %dx%d, error %v", img.Width, img.Height, err)
	}
}

func TestTicksAreRound(t *testing.T) {
	for most, want := range map[float64][]string{
		9.4:   {"0", "2", "4", "6", "8"},
		43:    {"0", "10", "20", "30", "40"},
		240:   {"0", "50", "100", "150", "200"},
		13000: {"0", "2000", "4000", "6000", "8000", "10000", "12000"},
		0.5:   {"0", "0.1", "0.2", "0.3", "0.4", "0.5"},
	} {
		var got []string
		for _, tick := range roundTicks(most) {
			got = append(got, tick.Label)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v: %q, want %q", most, got, want)
		}
	}
}
