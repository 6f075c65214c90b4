package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/graph"
	"github.com/ternlm/tern/framework/tensor"
	"github.com/ternlm/tern/plugins"
)

// Repetitions of tern plugin bench.
const (
	benchStarts = 7
	benchTraces = 31
	benchRuns   = 301
	benchPuts   = 5
	benchPutLen = 64 << 20 // bytes
)

// pluginTiming is one line of tern plugin bench.
type pluginTiming struct {
	What    string  `json:"what"`
	Seconds float64 `json:"median_s"`
	Best    float64 `json:"best_s"`
	Times   int     `json:"times"`
	Note    string  `json:"note,omitempty"`
}

// pluginBench measures what it costs that a plugin is another process.
type pluginBench struct {
	ctx     context.Context
	dial    plugins.DialOptions
	options string
	lines   []pluginTiming
}

func newPluginBenchCmd(a *app) *cobra.Command {
	var asJSON bool
	var options string
	cmd := &cobra.Command{
		Use:   "bench NAME|PATH",
		Short: "Measure a plugin's start, and what tracing or a step costs more than built in",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := aim(args[0])
			if err != nil {
				return err
			}
			o, err := a.plugins.options(t)
			if err != nil {
				return err
			}
			b := &pluginBench{ctx: cmd.Context(), dial: o, options: options}
			if err := b.run(); err != nil {
				return err
			}
			if asJSON {
				return a.json(b.lines)
			}
			return a.printTimings(b.lines)
		},
	}
	cmd.Flags().StringVar(&options, "options", "", "what the plugin is opened with, such as group=64")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

func (a *app) printTimings(lines []pluginTiming) error {
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "MEDIAN\tBEST\tTIMES\t  WHAT")
	d := func(s float64) time.Duration {
		return time.Duration(s * float64(time.Second)).Round(time.Microsecond)
	}
	for _, l := range lines {
		what := l.What
		if l.Note != "" {
			what += " (" + l.Note + ")"
		}
		fmt.Fprintf(tw, "%v\t%v\t%d\t  %s\n", d(l.Seconds), d(l.Best), l.Times, what)
	}
	return tw.Flush()
}

// time calls fn n times and adds a line.
func (b *pluginBench) time(what, note string, n int, fn func(i int) error) error {
	took := make([]float64, n)
	for i := range took {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		start := time.Now()
		if err := fn(i); err != nil {
			return errors.Wrap(err, what)
		}
		took[i] = time.Since(start).Seconds()
	}
	slices.Sort(took)
	b.lines = append(b.lines, pluginTiming{what, took[n/2], took[0], n, note})
	return nil
}

func (b *pluginBench) run() error {
	var c *plugins.Client
	err := b.time("start to first answer", "", benchStarts, func(int) (err error) {
		if c != nil {
			err = c.Close()
		}
		if err == nil {
			c, err = plugins.Dial(b.ctx, b.dial)
		}
		return err
	})
	if err != nil {
		return err
	}
	switch c.Info().Kind {
	case plugins.KindQuantizer:
		err = b.quantizer(c)
	case plugins.KindResidual:
		err = b.residual(c)
	default:
		err = b.backend(c)
	}
	return errors.CombineErrors(err, c.Close())
}

func (b *pluginBench) quantizer(c *plugins.Client) error {
	q, err := c.Quantizer(b.options)
	if err != nil {
		return err
	}
	f := q.Format()
	if !f.Quantized() {
		return nil
	}
	k := 4 * max(f.Group, 256)
	trace := func(m int) error {
		_, err := graph.Trace(func(g *graph.Builder) {
			codes, scales := q.Pack(g, g.Input("w", tensor.F32, m, k))
			g.Output("codes", codes)
			g.Output("scales", scales)
		})
		return err
	}
	if err := b.time("trace a weight of a new shape", "once for each shape of a model", benchTraces, func(i int) error { return trace(64 + i) }); err != nil {
		return err
	}
	return b.time("trace a weight of a known shape", "a step calls nothing", benchTraces, func(int) error { return trace(64) })
}

func (b *pluginBench) residual(c *plugins.Client) error {
	r, err := c.Residual(b.options)
	if err != nil {
		return err
	}
	trace := func(n int) error {
		_, err := graph.Trace(func(g *graph.Builder) {
			s := r.Expand(g, g.Input("x", tensor.F32, n, 256))
			g.In("blk.0.attn", func() { s = r.Write(g, 0, s, r.Read(g, 0, s)) })
			g.Output("y", r.Collapse(g, s))
		})
		return err
	}
	if err := b.time("trace a sub-layer of a new shape", "once for each shape and sub-layer of a model", benchTraces, func(i int) error { return trace(64 + i) }); err != nil {
		return err
	}
	return b.time("trace a sub-layer of a known shape", "a step calls nothing", benchTraces, func(int) error { return trace(64) })
}

func (b *pluginBench) backend(c *plugins.Client) (err error) {
	be, err := c.Backend(b.options)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, be.Close()) }()
	st, err := be.NewStore()
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, st.Close()) }()
	if err := b.steps(be, st); err != nil {
		return err
	}
	big := tensor.New(tensor.T(tensor.F32, benchPutLen/4))
	if err := b.time("put 64 MiB", "loading parameters", benchPuts, func(int) error { return st.Put(b.ctx, "big", big) }); err != nil {
		return err
	}
	last := &b.lines[len(b.lines)-1]
	last.Note += fmt.Sprintf(", %.1f GB/s", benchPutLen/last.Best/1e9)
	return nil
}

// steps runs a graph that computes next to nothing on a batch of tokens: what
// is left is the call.
func (b *pluginBench) steps(be framework.Backend, st framework.Store) error {
	const batch, window = 8, 257
	g, err := graph.Trace(func(g *graph.Builder) {
		x := g.Input("x", tensor.F32, batch, window)
		g.Output("y", g.SumAll(x))
	})
	if err != nil {
		return err
	}
	var exe framework.Executable
	err = b.time("compile a small graph", "", 1, func(int) (err error) {
		exe, err = be.Compile(b.ctx, g)
		return err
	})
	if err != nil {
		return err
	}
	in := []*tensor.Tensor{tensor.New(g.Inputs[0].Out[0])}
	out := []*tensor.Tensor{tensor.New(g.Outputs[0].Value.Type())}
	err = b.time("a step that computes nothing", "8 x 257 values in, one out", benchRuns, func(int) error {
		return exe.Run(b.ctx, st, in, out)
	})
	return errors.CombineErrors(err, exe.Close())
}
