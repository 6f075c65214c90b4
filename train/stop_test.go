package train_test

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/checkpoint"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/internal/memory"
	"github.com/ternlm/tern/model"
	"github.com/ternlm/tern/train"
)

// plan saves every second step into dir.
func plan(dir string) train.Plan {
	return train.Plan{Dir: dir, Config: json.RawMessage(`{}`), SaveEvery: 2, Valid: stories, EvalBatch: 2, EvalWindow: 32, EvalLimit: 2}
}

// files are the contents of all files under dir, by path.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, path := range must(filepath.Glob(filepath.Join(dir, "step-*", "*"))) {
		all[path] = string(must(os.ReadFile(path)))
	}
	return all
}

func TestDivergenceLeavesTheLastCheckpoint(t *testing.T) {
	tr, batches := start(t, backend(t, "scalar"), small(t, nil), quick(nil))
	dir := t.TempDir()
	p := plan(dir)
	bad := tensor.New(tensor.T(tensor.F32, 64))
	bad.F32()[3] = float32(math.NaN())
	var saved map[string]string
	p.Observe = func(e train.Event) {
		if e.Step == 4 {
			saved = files(t, dir)
			if err := tr.Store().Put(context.Background(), "blk.1.ffn.norm.weight", bad); err != nil {
				t.Fatal(err)
			}
		}
	}
	err := train.Run(context.Background(), tr, batches, p)
	if !errors.Is(err, train.ErrDiverged) || !strings.Contains(err.Error(), "first seen in parameter blk.1.ffn.norm.weight") {
		t.Fatalf("error %v", err)
	}
	after := files(t, dir)
	if len(saved) == 0 || len(after) != len(saved) {
		t.Fatalf("%d files of checkpoints, %d before", len(after), len(saved))
	}
	for path, content := range saved {
		if after[path] != content {
			t.Errorf("%s was changed", path)
		}
	}
	newest, _, latestErr := checkpoint.Latest(dir)
	if latestErr != nil || filepath.Base(newest) != checkpoint.Name(4) {
		t.Errorf("newest checkpoint %s, %v", newest, latestErr)
	}
	if hints := errors.FlattenHints(err); !strings.Contains(hints, newest) {
		t.Errorf("hints %q do not name %s", hints, newest)
	}
}

func TestDivergenceBeforeASaveNamesNoCheckpoint(t *testing.T) {
	tr, batches := start(t, backend(t, "scalar"), small(t, nil), quick(nil))
	bad := tensor.New(tensor.T(tensor.F32, 64))
	bad.F32()[3] = float32(math.NaN())
	if err := tr.Store().Put(context.Background(), "blk.1.ffn.norm.weight", bad); err != nil {
		t.Fatal(err)
	}
	err := train.Run(context.Background(), tr, batches, plan(t.TempDir()))
	if hints := errors.FlattenHints(err); !errors.Is(err, train.ErrDiverged) || !strings.Contains(hints, "no checkpoint") || strings.Contains(hints, "untouched") {
		t.Errorf("error %v, hints %q", err, hints)
	}
}

func TestStopBeforeTheFirstStepSavesNothing(t *testing.T) {
	tr, batches := start(t, backend(t, "scalar"), small(t, nil), quick(nil))
	stop := make(chan struct{})
	close(stop)
	dir := t.TempDir()
	p := plan(dir)
	p.Stop = stop
	err := train.Run(context.Background(), tr, batches, p)
	hints := errors.FlattenHints(err)
	if !errors.Is(err, train.ErrStopped) || !strings.Contains(hints, "nothing is saved") || strings.Contains(hints, "to go on") {
		t.Errorf("error %v, hints %q", err, hints)
	}
	if entries := must(checkpoint.List(dir)); len(entries) > 0 {
		t.Errorf("saved %v", entries)
	}
}

func TestEvaluationThatDoesNotFitIsRefused(t *testing.T) {
	if _, err := os.Stat("/proc/meminfo"); err != nil {
		t.Skip("this system does not tell how much memory it has")
	}
	m := small(t, nil)
	_, err := train.NewEvaluator(context.Background(), backend(t, "scalar"), m, model.Pass{Packed: true}, stories, 1<<20, 64, 0)
	if hints := errors.FlattenHints(err); !errors.Is(err, memory.ErrNotEnough) || !strings.Contains(hints, "lower batch (now 1048576)") {
		t.Errorf("error %v, hints %q", err, hints)
	}
}

func TestModelThatDoesNotFitIsRefused(t *testing.T) {
	if _, err := os.Stat("/proc/meminfo"); err != nil {
		t.Skip("this system does not tell how much memory it has")
	}
	large := small(t, func(c *model.Config) { c.Dim, c.FFN, c.Layers, c.Context = 1<<16, 1<<19, 64, 1<<20 })
	for _, c := range []struct {
		name          string
		m             *model.Model
		batch, window int
		hint          string
	}{
		{"the model", large, 2, 8, "lower dim, layers, ffn or the vocabulary"},
		{"the model and a large batch", large, 1 << 16, 8, "lower dim, layers, ffn or the vocabulary"},
		{"values", small(t, nil), 1 << 16, 64, "lower batch (now 65536"},
		{"values beyond any address", small(t, func(c *model.Config) { c.Context = 1 << 14 }), 1 << 16, 1 << 14, "lower batch (now 65536"},
		{"values beyond any tensor", large, 1 << 16, 1 << 20, "lower batch (now 65536"},
	} {
		r := quick(func(r *train.Recipe) { r.Batch, r.Window = c.batch, c.window })
		_, err := train.New(context.Background(), backend(t, "scalar"), c.m, r)
		hints := errors.FlattenHints(err)
		if !errors.Is(err, memory.ErrNotEnough) || !strings.HasPrefix(hints, c.hint) && !strings.Contains(hints, "large: "+c.hint) {
			t.Errorf("%s: error %v, hints %q", c.name, err, hints)
		}
	}
}
