package slurm_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ternlm/tern/sweep"
)

// The cluster on the loopback address that testdata/cluster.sh starts; go test
// runs within it:
//
//	sweep/slurm/testdata/cluster.sh go test -count 1 -run Cluster ./sweep/slurm
const clusterVariable = "CLUSTER"

// clusterPatience is the longest that a step of a cluster is waited for; all of
// them together take a minute or two on two cores.
const clusterPatience = 3 * time.Minute

// cluster is a directory on a cluster's machines with a program in it.
type cluster struct {
	*testing.T
	dir, tern, script string
}

func newCluster(t *testing.T) cluster {
	script := os.Getenv(clusterVariable)
	if script == "" {
		t.Skip("not checked here: no Slurm cluster (testdata/cluster.sh starts one)")
	}
	c := cluster{t, t.TempDir(), "", script}
	c.tern = filepath.Join(c.dir, "tern")
	c.must("go", "build", "-o", c.tern, "github.com/ternlm/tern/cmd/tern")
	for name, from := range map[string]int{"train": 0, "valid": 1000} {
		var b strings.Builder
		for i := range 60 {
			fmt.Fprintf(&b, "Tom has %d red balls. He gave %d of them to his friend. They were happy.\n<|endoftext|>\n", from+i, i*i%17)
		}
		text := filepath.Join(c.dir, name+".txt")
		if err := os.WriteFile(text, []byte(b.String()), 0o666); err != nil {
			t.Fatal(err)
		}
		c.must(c.tern, "data", "prepare", text, "--out", filepath.Join(c.dir, name), "--tokenizer", "gpt2:320")
	}
	return c
}

// must runs a program, which must succeed, and returns what it prints.
func (c cluster) must(name string, args ...string) string {
	c.Helper()
	var out, log bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		c.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, log.String())
	}
	return out.String()
}

// plan makes a plan of a microscopic model.
func (c cluster) plan(name, spec string) *sweep.Dir {
	c.Helper()
	file, dir := filepath.Join(c.dir, name+".yaml"), filepath.Join(c.dir, name)
	spec = fmt.Sprintf(`name: %s
base: {tokenizer: "gpt2:320", dim: 32, layers: 2, heads: 2, kv_heads: 1, ffn: 64, context: 64, quant: "ternary:group=32",
  batch: 2, window: 16, warmup: 2, eval_every: 500, eval_windows: 4, final_windows: 8, data: %q, valid: %q,
%s`, "test", filepath.Join(c.dir, "train.bin"), filepath.Join(c.dir, "valid.bin"), spec)
	if err := os.WriteFile(file, []byte(spec), 0o666); err != nil {
		c.Fatal(err)
	}
	c.must(c.tern, "sweep", "plan", file, "--out", dir)
	d, err := sweep.Open(dir)
	if err != nil {
		c.Fatal(err)
	}
	return d
}

// eventually waits for something.
func (c cluster) eventually(what string, is func() bool) {
	c.Helper()
	begin := time.Now()
	for !is() {
		if time.Since(begin) > clusterPatience {
			c.Fatalf("after %v not yet: %s\n%s", clusterPatience, what, c.must("squeue"))
		}
		time.Sleep(200 * time.Millisecond)
	}
	c.Logf("%s: %.1f s", what, time.Since(begin).Seconds())
}

// logs are those of all tasks of a plan.
func (c cluster) logs(d *sweep.Dir) string {
	c.Helper()
	files, err := filepath.Glob(filepath.Join(d.Path, "slurm", "*", "log-*"))
	if err != nil {
		c.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			c.Fatal(err)
		}
		fmt.Fprintf(&all, "== %s\n%s", filepath.Base(f), text)
	}
	return all.String()
}

// job is the number of a plan's only submission.
func (c cluster) job(d *sweep.Dir) string {
	c.Helper()
	files, err := filepath.Glob(filepath.Join(d.Path, "slurm", "*", "job"))
	if err != nil || len(files) != 1 {
		c.Fatalf("%v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		c.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// begun is a trial that is running and has saved something to go on from.
func (c cluster) begun(d *sweep.Dir, trials []sweep.Trial) (t sweep.Trial, ok bool) {
	for _, t := range trials {
		state, _, _, err := d.Status(t)
		if err != nil {
			c.Fatal(err)
		}
		saved, err := filepath.Glob(filepath.Join(d.TrialDir(t.ID), "step-*"))
		if err != nil {
			c.Fatal(err)
		}
		if state == sweep.Running && len(saved) > 0 {
			return t, true
		}
	}
	return t, false
}

// A node is lost in the middle of an array, and what it computes is what this
// machine computes. Beside it, a task reaches its limit of time and is preempted,
// goes on from its checkpoint after both, and ends for good when it is cancelled.
func TestClusterComputesWhatThisMachineComputes(t *testing.T) {
	c := newCluster(t)
	const spec = `  steps: 1500, save_every: 50}
grid: {residual: [standard, "mhclite:streams=2", scaled]}
seeds: 4
`
	long := c.plan("long", "  steps: 1000000, save_every: 1000}\nseeds: 2\n")
	c.must(c.tern, "sweep", "run", long.Path, "--engine", "slurm", "--trials-per-task", "2",
		"--sbatch-arg=--time=1", "--sbatch-arg=--signal=B:TERM@20")
	c.refusesASecondArray(long)

	array := c.plan("array", spec)
	var log bytes.Buffer
	wait := exec.Command(c.tern, "sweep", "run", array.Path, "--engine", "slurm", "--trials-per-task", "3", "--wait")
	wait.Stderr = &log
	if err := wait.Start(); err != nil {
		t.Fatal(err)
	}
	lost := c.loseNode(array)
	if err := wait.Wait(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, log.String(), c.logs(array))
	}
	t.Log(log.String())
	if a, err := array.Attempts(lost.ID); err != nil || a.Count < 2 {
		t.Errorf("trial %s, whose node was lost, took %d attempts (%v)", lost.ID, a.Count, err)
	}

	c.goesOnAfterItsLimit(long)
	c.comesBackAfterPreemption(long)
	c.staysCancelled(long)

	local := c.plan("local", spec)
	c.must(c.tern, "sweep", "run", local.Path)
	c.sameResults(local, array)
}

func (c cluster) refusesASecondArray(d *sweep.Dir) {
	c.Helper()
	out, err := exec.Command(c.tern, "sweep", "run", d.Path, "--engine", "slurm").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "queued already") || !strings.Contains(string(out), "scancel") {
		c.Errorf("a second array: %v\n%s", err, out)
	}
}

// loseNode kills the node of a trial that is on its way, and waits until Slurm
// has started its task again.
func (c cluster) loseNode(d *sweep.Dir) (t sweep.Trial) {
	c.Helper()
	var task string
	c.eventually("a trial has saved", func() (ok bool) {
		for i := range 4 { // trials i, i+4 and i+8 are those of task i
			trials := []sweep.Trial{d.Plan.Trials[i], d.Plan.Trials[i+4], d.Plan.Trials[i+8]}
			if t, ok = c.begun(d, trials); ok {
				task = fmt.Sprintf("%s_%d", c.job(d), i)
				return true
			}
		}
		return false
	})
	node := strings.TrimSpace(c.must("squeue", "--noheader", "--jobs="+task, "--format=%N"))
	c.must(c.script, "lose", node)
	c.Logf("killed %s, with task %s and trial %s", node, task, t.ID)
	c.eventually("the task of the lost node runs again", func() bool {
		return strings.Contains(c.must("scontrol", "show", "job", "--oneliner", task), " Restarts=1 ") &&
			strings.TrimSpace(c.must("squeue", "--noheader", "--jobs="+task, "--format=%T")) != "PENDING"
	})
	return t
}

// goesOnAfterItsLimit waits for a requeue of the only task, and for the attempt
// after it to come further than the one before.
func (c cluster) goesOnAfterItsLimit(d *sweep.Dir) {
	c.Helper()
	t := d.Plan.Trials[0]
	c.eventually("a task that reached its limit is requeued", func() bool {
		return strings.Contains(c.logs(d), "requeued "+c.job(d)+"_0")
	})
	c.eventually("it goes on from its checkpoint", func() bool {
		_, running := c.begun(d, []sweep.Trial{t})
		a, err := d.Attempts(t.ID)
		if err != nil {
			c.Fatal(err)
		}
		return running && a.Count >= 2 && d.Progress(t).Step > 0
	})
	text, err := os.ReadFile(filepath.Join(d.TrialDir(t.ID), "log"))
	if err != nil {
		c.Fatal(err)
	}
	if _, second, _ := strings.Cut(string(text), "--- attempt 2"); !strings.Contains(second, "\nresumes ") {
		c.Errorf("the second attempt began anew:\n%.2000s", second)
	}
}

// comesBackAfterPreemption has a more urgent job take the node: it is Slurm that
// requeues the task then.
func (c cluster) comesBackAfterPreemption(d *sweep.Dir) {
	c.Helper()
	t := d.Plan.Trials[0]
	before, err := d.Attempts(t.ID)
	if err != nil {
		c.Fatal(err)
	}
	c.eventually("a task that is preempted leaves its end to Slurm", func() bool {
		node := strings.TrimSpace(c.must("squeue", "--noheader", "--jobs="+c.job(d), "--format=%N"))
		urgent := strings.TrimSpace(c.must("squeue", "--noheader", "--partition=urgent"))
		if node != "" && urgent == "" && c.leftToSlurm(d) == 0 {
			c.must("sbatch", "--partition=urgent", "--nodelist="+node, "--output=/dev/null", "--wrap=sleep 1")
		}
		return c.leftToSlurm(d) > 0
	})
	c.eventually("it goes on", func() bool {
		a, err := d.Attempts(t.ID)
		if err != nil {
			c.Fatal(err)
		}
		_, running := c.begun(d, []sweep.Trial{t})
		return running && a.Count > before.Count
	})
}

// leftToSlurm is how often a task of a plan left it to Slurm how it ends.
func (c cluster) leftToSlurm(d *sweep.Dir) int {
	c.Helper()
	return strings.Count(c.logs(d), "Slurm ends "+c.job(d)+"_0 itself (COMPLETING)")
}

// staysCancelled cancels the array, which must save and not come back.
func (c cluster) staysCancelled(d *sweep.Dir) {
	c.Helper()
	id, before := c.job(d), c.leftToSlurm(d)
	c.eventually("it runs", func() bool {
		_, running := c.begun(d, d.Plan.Trials[:1])
		return running
	})
	c.must("scancel", id)
	c.eventually("the cancelled task has ended", func() bool {
		return !slices.Contains(strings.Fields(c.must("squeue", "--noheader", "--format=%F")), id)
	})
	if n := c.leftToSlurm(d) - before; n != 1 {
		c.Errorf("the cancelled task left its end to Slurm %d times:\n%s", n, c.logs(d))
	}
	if state, _, _, err := d.Status(d.Plan.Trials[0]); err != nil || state != sweep.Interrupted {
		c.Errorf("its trial is %s, %v", state, err)
	}
}

// sameResults compares every trial's model, byte by byte, and losses.
func (c cluster) sameResults(want, have *sweep.Dir) {
	c.Helper()
	for i, t := range want.Plan.Trials {
		if have.Plan.Trials[i].ID != t.ID {
			c.Fatalf("trial %d is %s and %s", i, t.ID, have.Plan.Trials[i].ID)
		}
		var models [2][]byte
		var results [2]*sweep.Result
		for j, d := range []*sweep.Dir{want, have} {
			state, r, _, err := d.Status(t)
			if err != nil || state != sweep.Done {
				c.Fatalf("%s: %s, %v", d.TrialDir(t.ID), state, err)
			}
			results[j] = r
			if models[j], err = os.ReadFile(filepath.Join(d.TrialDir(t.ID), "model.gguf")); err != nil {
				c.Fatal(err)
			}
		}
		if !bytes.Equal(models[0], models[1]) {
			c.Errorf("trial %s: the models differ", t.ID)
		}
		if a, b := results[0], results[1]; a.Loss != b.Loss || a.TrainedLoss != b.TrainedLoss || a.BitsPerByte != b.BitsPerByte {
			c.Errorf("trial %s: losses %v %v here, %v %v on the cluster", t.ID, a.Loss, a.TrainedLoss, b.Loss, b.TrainedLoss)
		}
	}
}
