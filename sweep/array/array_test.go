package array_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/ternlm/tern/sweep"
	"github.com/ternlm/tern/sweep/array"
)

// trials are as many as are asked for, of a number of steps and operations each.
func trials(t *testing.T, n, steps int, flops float64) (list []sweep.Trial) {
	t.Helper()
	for i := range n {
		config := fmt.Appendf(nil, `{"n":%d}`, i)
		id, err := sweep.ID(config)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, sweep.Trial{
			ID: id, Config: config, Cell: fmt.Sprint("n=", i), StepFLOPs: flops,
			Settings: map[string]string{"steps": fmt.Sprint(steps)},
		})
	}
	return list
}

// freeze makes a plan of trials.
func freeze(t *testing.T, list []sweep.Trial) *sweep.Dir {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plan")
	if err := sweep.Freeze(dir, sweep.Plan{Version: sweep.Version, Name: "test", Trials: list}, nil); err != nil {
		t.Fatal(err)
	}
	d, err := sweep.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSplitDealsAllTrialsOut(t *testing.T) {
	for _, c := range []struct {
		n, tasks int
		want     string // indexes of trials by task
	}{
		{7, 3, "[[0 3 6] [1 4] [2 5]]"},
		{2, 5, "[[0] [1]]"},
		{3, 1, "[[0 1 2]]"},
		{1, 0, "[[0]]"},
	} {
		all := trials(t, c.n, 1, 1)
		index := map[string]int{}
		for i, tr := range all {
			index[tr.ID] = i
		}
		var have [][]int
		for _, share := range array.Split(all, c.tasks) {
			var list []int
			for _, tr := range share {
				list = append(list, index[tr.ID])
			}
			have = append(have, list)
		}
		if got := fmt.Sprint(have); got != c.want {
			t.Errorf("%d trials in %d tasks: %s, want %s", c.n, c.tasks, got, c.want)
		}
	}
}

func TestTasksLastAboutAMinute(t *testing.T) {
	for _, c := range []struct {
		name            string
		n, steps, cores int
		flops           float64
		want            int
	}{
		// 1e10 operations a second and core: 1,000 steps of 1e8 take 10 s.
		{"ten seconds each", 960, 1000, 1, 1e8, 6},
		{"ten seconds on two cores", 960, 2000, 2, 1e8, 6},
		{"an hour each", 960, 1000, 1, 3.6e10, 1},
		{"few trials all run at once", 12, 10, 1, 1, 1},
		{"no fewer than sixteen tasks", 160, 10, 1, 1, 10},
		{"nobody counted", 960, 1000, 1, 0, 1},
		{"none", 0, 1000, 1, 1, 1},
	} {
		if got := array.PerTask(trials(t, c.n, c.steps, c.flops), c.cores); got != c.want {
			t.Errorf("%s: %d trials of a task, want %d", c.name, got, c.want)
		}
	}
}

func TestMemoryIsThatOfTheLargestTrial(t *testing.T) {
	all := trials(t, 3, 1, 1)
	for i := range all {
		all[i].Memory = int64(i+1) << 30
	}
	if got, want := array.Memory(all), int64(3<<30+3<<28+256<<20); got != want { // and a quarter, and the program
		t.Errorf("%d bytes, want %d", got, want)
	}
	all[1].Memory = 0
	if got := array.Memory(all); got != 0 {
		t.Errorf("%d bytes, with a trial that nobody estimated", got)
	}
}
