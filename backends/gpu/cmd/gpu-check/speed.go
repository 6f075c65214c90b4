package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/cockroachdb/errors"
)

// The goals, in tokens a second and bytes.
var (
	goalTrain256  = atLeast(300_000, 420_000, 520_000)
	goalTrain1024 = atLeast(280_000)
	goalMemory    = atMost(12) // GB of 64 windows of 256
	goalStream    = atLeast(2_000, 5_000)
	goalStreams   = atLeast(200_000)
)

// rate is what a case of tern bench gave.
type rate struct {
	Median, Min, Max float64
	Device           float64 // bytes of the device that are in use
}

// bench runs one case of tern bench.
func (c *check) bench(ctx context.Context, name, part string, args ...string) (r rate, err error) {
	rounds, seconds := "3", "1"
	if c.quick {
		rounds, seconds = "1", "0.01"
		args = append(args, quickModel...)
	}
	args = append([]string{"bench", part, "--backend", c.spec(), "--scalar=false", "--json", "--rounds", rounds, "--seconds", seconds}, args...)
	out, err := c.tern(ctx, name, args...)
	if err != nil {
		return r, err
	}
	var report struct {
		Complete bool
		Rows     []struct {
			Rate   struct{ Median, Min, Max float64 }
			Memory *struct {
				Device float64 `json:"device_bytes"`
			}
		}
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return r, errors.Wrap(err, "answer of tern bench")
	}
	if !report.Complete || len(report.Rows) != 1 {
		return r, errors.Newf("%s: %d rows, complete: %v", name, len(report.Rows), report.Complete)
	}
	row := report.Rows[0]
	r = rate{Median: row.Rate.Median, Min: row.Rate.Min, Max: row.Rate.Max}
	if row.Memory != nil {
		r.Device = row.Memory.Device
	}
	return r, nil
}

// windows are how a batch is measured: so many windows of so many tokens.
type windows struct{ batch, tokens int }

// benchTrain measures steps of nano-125m by batch. A batch that does not fit, or
// fails, is told and leaves the others.
func (c *check) benchTrain(ctx context.Context) error {
	best := c.trainAt(ctx, 256, []int{64, 256, 128, 32, 16}, func(b int, r rate) {
		if b == 64 {
			c.table.measured("memory of the device in use, training 64 windows of 256", r.Device/1e9, "GB", goalMemory)
		}
	})
	c.table.measured("training nano-125m, windows of 256, best batch", best, "tok/s", goalTrain256)
	best = c.trainAt(ctx, 1024, []int{32, 64, 16}, nil)
	c.table.measured("training nano-125m, windows of 1024, best batch", best, "tok/s", goalTrain1024)
	return ctx.Err()
}

// trainAt measures batches of windows of so many tokens and returns the best rate,
// NaN where there is none.
func (c *check) trainAt(ctx context.Context, tokens int, batches []int, each func(batch int, r rate)) float64 {
	best := math.NaN()
	var all []string
	for _, b := range batches {
		if ctx.Err() != nil {
			all = append(all, fmt.Sprintf("%d: no time", b))
			continue
		}
		r, err := c.bench(ctx, fmt.Sprintf("bench-train-%dx%d", b, tokens), "train", c.trainSizes(windows{b, tokens})...)
		if err != nil {
			all = append(all, fmt.Sprintf("%d: %v", b, err))
			continue
		}
		all = append(all, fmt.Sprintf("%d: %s tok/s (%s to %s), %s GB", b, short(r.Median), short(r.Min), short(r.Max), short(r.Device/1e9)))
		if !(r.Median < best) {
			best = r.Median
		}
		if each != nil {
			each(b, r)
		}
	}
	c.table.told(fmt.Sprintf("by windows of %d in a batch", tokens), strings.Join(all, "; "))
	return best
}

// trainSizes are the flags of a batch.
func (c *check) trainSizes(w windows) []string {
	if c.quick {
		return []string{"--preset", "tiny", "--batch", fmt.Sprint(max(1, w.batch/64)), "--window", fmt.Sprint(w.tokens / 32)}
	}
	return []string{"--preset", "nano-125m", "--batch", fmt.Sprint(w.batch), "--window", fmt.Sprint(w.tokens), "--context", fmt.Sprint(max(512, w.tokens))}
}

// benchDecode measures one sequence and many.
func (c *check) benchDecode(ctx context.Context) error {
	preset, tokens := "nano-125m", "256"
	if c.quick {
		preset, tokens = "tiny", "4"
	}
	one, err := c.bench(ctx, "bench-decode", "decode", "--preset", preset, "--tokens", tokens)
	if err != nil {
		return err
	}
	c.table.measured("decoding, one stream, 2-bit weights, cache of keys and values", one.Median, "tok/s", goalStream)
	streams := 256
	if c.quick {
		streams, tokens = 3, "2"
	} else {
		tokens = "128"
	}
	many, err := c.bench(ctx, "bench-streams", "decode", "--preset", preset, "--tokens", tokens, "--streams", fmt.Sprint(streams))
	if err != nil {
		return err
	}
	c.table.measured("decoding, 256 streams", many.Median, "tok/s", goalStreams)
	return nil
}

// writeText has the model that ships with tern write on both backends.
func (c *check) writeText(ctx context.Context) error {
	tokens := "64"
	if c.quick {
		tokens = "2"
	}
	text := func(name, backend string) (string, error) {
		out, err := c.tern(ctx, name, "generate", "--tokens", tokens, "--temperature", "0", "--backend", backend, "Once upon a time")
		return strings.Join(strings.Fields(string(out)), " "), err
	}
	here, err := text("text-gpu", c.spec())
	if err != nil {
		return err
	}
	cpu, err := text("text-cpu", "auto")
	if err != nil {
		return err
	}
	c.table.told("text", here)
	if cpu != here {
		c.table.told("text on the processor", cpu)
	}
	c.table.checked("a text is written", fmt.Sprintf("%d bytes, the first %d as on the processor", len(here), common(here, cpu)), "", len(here) > len("Once upon a time"))
	return nil
}

// common is the length of the beginning that two texts share.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
