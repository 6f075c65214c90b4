package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMain runs the tests, or is one of the programs that the check starts. What
// they do wrong is in the variable STAND_IN, with commas between.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "tern":
		standIn(os.Args[1:])
	case "tern-plugin-cuda":
		fmt.Println(`{"driver":{"version":"CUDA 12.8"},"nvrtc":{"version":"12.8"},"cublaslt":{"version":"12.8.1"},` +
			`"devices":[{"name":"Device","capability":"9.0","memory_bytes":8e10,"free_bytes":7e10}],"ready":` + fmt.Sprint(!wrong("device")) + `}`)
	case "ops.test", "cuda.test":
		if os.Getenv("TERN_CUDA") != "real" {
			os.Exit(1)
		}
		if name := os.Getenv("TERN_CUDA_PROFILE"); name != "" && !wrong("profile") {
			_ = os.WriteFile(name+".md", []byte("| op | nodes |\n"), 0o644)
		}
		fmt.Println("=== RUN   TestOne\n=== RUN   TestOne/sub\n--- PASS: TestOne (0.00s)\n    --- PASS: TestOne/sub (0.00s)\n" +
			"=== RUN   TestTwo\n--- SKIP: TestTwo (0.00s)")
		if wrong("tests") {
			fmt.Println("=== RUN   TestThree\n--- FAIL: TestThree (0.00s)")
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

// wrong reports whether a stand-in does something wrong.
func wrong(what string) bool {
	return slices.Contains(strings.Split(os.Getenv("STAND_IN"), ","), what)
}

// argument is what stands behind a flag.
func argument(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// standIn answers as tern does.
func standIn(args []string) {
	gpu := strings.HasPrefix(argument(args, "--backend"), "gpu:")
	switch args[0] {
	case "version":
		fmt.Println("tern v1")
	case "backend":
		if args[1] == "list" {
			fmt.Println("NAME DEVICE\ngpu  Device")
			return
		}
		status := "ok"
		if wrong("conformance") {
			status = "FAIL"
		}
		var cases []string
		for m := range strings.SplitSeq(argument(args, "--mode"), ",") {
			cases = append(cases, fmt.Sprintf(`{"id":"%s/a","mode":"%s","status":"ok"},{"id":"%s/b","mode":"%s","status":"%s","detail":"why"}`, m, m, m, m, status))
		}
		fmt.Printf(`{"cases":[%s]}`, strings.Join(cases, ","))
	case "train":
		standInTrains(args, gpu)
	case "bench":
		standInMeasures(args)
	case "generate":
		fmt.Println("Once upon a time there was a dog")
	}
}

func standInTrains(args []string, gpu bool) {
	out := argument(args, "--out")
	first := 1
	if argument(args, "--resume") != "" {
		first = 101
	}
	var lines strings.Builder
	for step := first; step <= 200; step++ {
		loss := 4 - float64(step)/100
		if gpu && wrong("loss") && step == 150 {
			loss += 0.03
		}
		fmt.Fprintf(&lines, "{\"step\":%d,\"loss\":%v}\n", step, loss)
	}
	fmt.Fprintf(&lines, "{\"step\":200,\"loss\":2,\"valid\":{\"loss\":%v}}\n", map[bool]float64{true: 2.5, false: 2}[gpu && wrong("valid")])
	bits := "bits"
	if wrong("bits") {
		bits = out
	}
	for _, s := range []string{"step-00000100", "step-00000200"} {
		_ = os.MkdirAll(filepath.Join(out, s), 0o755)
		_ = os.WriteFile(filepath.Join(out, s, "tensors.safetensors"), []byte(bits), 0o644)
	}
	_ = os.WriteFile(filepath.Join(out, "metrics.jsonl"), []byte(lines.String()), 0o644)
	if gpu && wrong("train") {
		fmt.Fprintln(os.Stderr, "error: the device's context is lost\nhint: start again")
		os.Exit(1)
	}
}

func standInMeasures(args []string) {
	rate := 400_000
	if argument(args, "--batch") == "256" && wrong("memory") {
		fmt.Fprintln(os.Stderr, "error: not enough memory")
		os.Exit(1)
	}
	if wrong("hang") && args[1] == "decode" {
		time.Sleep(time.Minute)
	}
	if wrong("slow") {
		rate = 1000
	}
	fmt.Printf(`{"complete":true,"rows":[{"rate":{"median":%d,"min":1,"max":2},"memory":{"device_bytes":11e9}}]}`, rate)
}

// checked runs the check with stand-ins and returns its rows by metric.
func checked(t *testing.T, standIn string, change func(*check)) (rows map[string]row, ok bool) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("programs that are links do not know their names there")
	}
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tern", "tern-plugin-cuda", "tests/ops/ops.test", "tests/cuda/cuda.test"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(self, path); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("STAND_IN", standIn)
	c := &check{bin: dir, out: filepath.Join(dir, "out"), scale: 1, started: time.Now()}
	if change != nil {
		change(c)
	}
	if ok, err = c.run(context.Background(), ""); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(c.out, "table.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got table
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	rows = map[string]row{}
	for _, r := range got.Rows {
		rows[r.Metric] = r
	}
	return rows, ok
}

func TestEverythingIsInTheTable(t *testing.T) {
	rows, ok := checked(t, "", nil)
	for _, metric := range []string{
		"libraries", "tern finds its plugin", "tests of ops", "tests of cuda: conformance f32, every op", "tests of cuda: others", "every node is timed",
		"conformance through the plugin, f32, errors", "gradients: conformance through the plugin, f32, train",
		"difference of the validation loss at the end, bf16 to cpu",
		"largest difference of losses, bf16 to cpu, 200 steps", "largest difference of losses, f32 to cpu, 200 steps",
		"largest difference of losses, bf16-then-cpu to bf16, 100 steps", "largest difference of losses, cpu-then-bf16 to cpu, 100 steps",
		"two runs, bits of the last checkpoint", "memory of the device in use, training 64 windows of 256",
		"training nano-125m, windows of 256, best batch", "training nano-125m, windows of 1024, best batch",
		"decoding, one stream, 2-bit weights, cache of keys and values", "decoding, 256 streams", "a text is written",
	} {
		if rows[metric].Status != pass {
			t.Errorf("%s: %+v", metric, rows[metric])
		}
	}
	if !ok {
		t.Error("something failed")
	}
	if got := rows["tests of ops"].Value; got != "1 passed, 0 failed, 1 skipped" {
		t.Errorf("tests: %s", got)
	}
}

func TestWhatFailsIsARowAndStopsNothing(t *testing.T) {
	for standIn, c := range map[string]struct{ metric, value string }{
		"device":      {"libraries", "CUDA 12.8"},
		"tests":       {"tests of ops", "1 passed, 1 failed, 1 skipped: TestThree"},
		"profile":     {"profile", "profile.md"},
		"valid":       {"difference of the validation loss at the end, bf16 to cpu", "0.5 nats"},
		"conformance": {"conformance through the plugin, f32, store", "1 of 2 cases; store/b: why"},
		"loss":        {"largest difference of losses, bf16 to cpu, 200 steps", "0.03 nats"},
		"bits":        {"two runs, bits of the last checkpoint", "sha256"},
		"train":       {"loss", "train-bf16: the device's context is lost"},
		"slow":        {"decoding, one stream, 2-bit weights, cache of keys and values", "1,000 tok/s"},
	} {
		t.Run(standIn, func(t *testing.T) {
			rows, ok := checked(t, standIn, nil)
			if r := rows[c.metric]; ok || r.Status != fail || !strings.Contains(r.Value, c.value) {
				t.Errorf("%s: %+v, ok %v", c.metric, r, ok)
			}
			if rows["a text is written"].Status != pass {
				t.Error("the last part was not run")
			}
		})
	}
}

func TestABatchThatDoesNotFitLeavesTheOthers(t *testing.T) {
	rows, ok := checked(t, "memory", nil)
	if r := rows["training nano-125m, windows of 256, best batch"]; !ok || r.Status != pass {
		t.Errorf("%+v, ok %v", r, ok)
	}
	if r := rows["by windows of 256 in a batch"]; !strings.Contains(r.Value, "256: bench-train-256x256: not enough memory") {
		t.Errorf("%+v", r)
	}
}

func TestAPartThatHangsIsEnded(t *testing.T) {
	begin := time.Now()
	rows, ok := checked(t, "hang", func(c *check) { c.scale = 0.03 }) // 1.8 s for decoding
	if r := rows["decode"]; ok || r.Status != fail || !strings.Contains(r.Value, "over its limit") {
		t.Errorf("%+v, ok %v", r, ok)
	}
	if rows["a text is written"].Status != pass {
		t.Error("the last part was not run")
	}
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("it took %v", d)
	}
}

func TestGoalsAreMetFromTheirSide(t *testing.T) {
	for _, c := range []struct {
		g    goal
		v    float64
		want bool
	}{
		{atLeast(5), 5, true},
		{atLeast(5), 4.9, false},
		{atMost(5), 5, true},
		{atMost(5), 5.1, false},
		{atLeast(5), math.NaN(), false},
		{atMost(5), math.NaN(), false},
		{atMost(5), math.Inf(1), false},
	} {
		if got := c.g.met(c.v); got != c.want {
			t.Errorf("%v for %q: %v", c.v, c.g, got)
		}
	}
	if got := goalTrain256.String(); got != "at least 300,000, beyond 420,000 and 520,000" {
		t.Error(got)
	}
}

func TestGapsAreOfTheStepsThatBothHave(t *testing.T) {
	inf := math.Inf(1)
	for name, c := range map[string]struct {
		a, b map[int]float64
		want gap
	}{
		"equal":     {map[int]float64{1: 2, 2: 1}, map[int]float64{1: 2, 2: 1}, gap{0, 1, 0, 2, 2}},
		"apart":     {map[int]float64{1: 2, 2: 1}, map[int]float64{1: 2.5, 2: 1.25}, gap{0.5, 1, 0.375, 2, 2}},
		"around":    {map[int]float64{1: 2, 2: 1}, map[int]float64{1: 2.5, 2: 0.5}, gap{0.5, 1, 0, 2, 2}},
		"some":      {map[int]float64{3: 2, 4: 1}, map[int]float64{1: 9, 3: 2}, gap{0, 3, 0, 1, 3}},
		"none":      {map[int]float64{3: 2}, map[int]float64{1: 9}, gap{}},
		"no number": {map[int]float64{1: math.NaN()}, map[int]float64{1: 9}, gap{inf, 1, inf, 1, 1}},
	} {
		if got := gapOf(c.a, c.b); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestMeansAreOfConsecutiveSteps(t *testing.T) {
	apart := make([]float64, 30)
	for i := range apart[10:20] {
		apart[10+i] = -3
	}
	if got := farthestMean(apart); got != 3 {
		t.Errorf("%v, want 3", got)
	}
	apart[14] = 27 // a spike
	if got := farthestMean(apart); got != 1.5 {
		t.Errorf("with a spike %v, want 1.5", got)
	}
}

func TestTestsAreCountedWithoutThoseThatHoldOthers(t *testing.T) {
	n := countTests([]byte(`=== RUN   TestA
=== RUN   TestA/x
=== RUN   TestA/y
--- FAIL: TestA (0.00s)
    --- PASS: TestA/x (0.00s)
    --- FAIL: TestA/y (0.00s)
=== RUN   TestB
--- SKIP: TestB (0.00s)
=== RUN   TestC
panic: test timed out
`))
	if n.passed != 1 || n.skipped != 1 || !slices.Equal(n.failed, []string{"TestA/y"}) || n.running != "TestC" {
		t.Errorf("%+v", n)
	}
}

func TestTheUsersOptionsWin(t *testing.T) {
	c := &check{device: 1, libraries: "/l", options: "generate=auto,device=2"}
	if got, want := c.spec("precision=f32", "generate=never"), "gpu:precision=f32,libraries=/l,generate=auto,device=2"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := (&check{}).spec(), "gpu:device=0"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
