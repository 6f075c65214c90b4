package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework"
)

// benchCmd holds the flags of tern bench.
type benchCmd struct {
	backend backendFlags
	rounds  int
	json    bool
}

// benchResult is one line of tern bench: rates of two backends in units a
// second, medians over the rounds.
type benchResult struct {
	Name      string  `json:"name"`
	Unit      string  `json:"unit"`
	Reference float64 `json:"scalar"`
	Chosen    float64 `json:"chosen"`
	Ratio     float64 `json:"ratio"`  // chosen / scalar, median over the rounds
	Rounds    int     `json:"rounds"` // fewer than asked for where one takes long
}

// benchReport is what tern bench reports.
type benchReport struct {
	Machine machineInfo    `json:"machine"`
	Chosen  framework.Info `json:"chosen"`
	Rounds  int            `json:"rounds"`
	Results []benchResult  `json:"results"`
}

func newBenchCmd(a *app) *cobra.Command {
	var c benchCmd
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure a backend against scalar, in turn",
		Long: "Measures the f32 matrix product, a training step of the preset tiny and its decoding, on scalar and on the chosen\n" +
			"backend in turn, so that both meet the machine in the same state. The ratio is the median of the rounds' ratios.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.run(cmd.Context(), a) },
	}
	c.backend.add(cmd.Flags())
	cmd.Flags().IntVar(&c.rounds, "rounds", 3, "times that each is measured")
	cmd.Flags().BoolVar(&c.json, "json", false, "write JSON")
	return cmd
}

// subject is something to measure on one backend. Run does it once and
// returns how many units that was.
type subject interface {
	Run(ctx context.Context) (units float64, err error)
	Close() error
}

// benchmark is one line of the report.
type benchmark struct {
	name, unit string
	open       func(ctx context.Context, be framework.Backend) (subject, error)
}

func (c benchCmd) run(ctx context.Context, a *app) (err error) {
	if c.rounds < 1 || c.rounds > 1000 {
		return usagef("choose 1 to 1000", "--rounds %d", c.rounds)
	}
	reference, err := openBackend("scalar", c.backend.threads)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, reference.Close()) }()
	chosen, err := c.backend.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, chosen.Close()) }()
	r := benchReport{Machine: machine(), Chosen: describe(chosen), Rounds: c.rounds}
	for _, b := range benchmarks() {
		a.note("measuring: %s", b.name)
		line, err := b.measure(ctx, reference, chosen, c.rounds)
		if err != nil {
			return errors.Wrapf(err, "bench %s", b.name)
		}
		r.Results = append(r.Results, line)
	}
	if c.json {
		return a.json(r)
	}
	return a.printBench(r)
}

func (a *app) printBench(r benchReport) error {
	a.printf("%s, %s; %s against scalar, in turn\n\n", r.Machine.CPU, plural(r.Chosen.Threads, "thread"), r.Chosen.Name)
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "WHAT\tUNIT\tSCALAR\t%s\tRATIO\tROUNDS\n", r.Chosen.Name)
	for _, b := range r.Results {
		fmt.Fprintf(tw, "%s\t%s\t%.4g\t%.4g\t%.2f\t%d\n", b.Name, b.Unit, b.Reference, b.Chosen, b.Ratio, b.Rounds)
	}
	return tw.Flush()
}

// measure runs b on both backends in turn.
func (b benchmark) measure(ctx context.Context, reference, chosen framework.Backend, rounds int) (r benchResult, err error) {
	r = benchResult{Name: b.name, Unit: b.unit}
	var subjects [2]subject
	for i, be := range []framework.Backend{reference, chosen} {
		s, err := b.open(ctx, be)
		if err != nil {
			return r, errors.Wrapf(err, "on %s", be.Name())
		}
		defer func() { err = errors.CombineErrors(err, s.Close()) }()
		subjects[i] = s
		if _, err := s.Run(ctx); err != nil { // binds kernels and packs weights
			return r, errors.Wrapf(err, "on %s", be.Name())
		}
	}
	var rates [2][]float64
	var ratios []float64
	for begin := time.Now(); r.Rounds < rounds && (r.Rounds == 0 || time.Since(begin) < enough); r.Rounds++ {
		for i, s := range subjects {
			rate, err := rateOf(ctx, s)
			if err != nil {
				return r, err
			}
			rates[i] = append(rates[i], rate)
		}
		ratios = append(ratios, rates[1][r.Rounds]/rates[0][r.Rounds])
	}
	r.Reference, r.Chosen, r.Ratio = median(rates[0]), median(rates[1]), median(ratios)
	return r, nil
}

// enough is the time after which no further round begins.
const enough = 20 * time.Second

// rateOf repeats s for a while and returns units a second.
func rateOf(ctx context.Context, s subject) (float64, error) {
	const least = 300 * time.Millisecond
	var units float64
	begin := time.Now()
	for {
		n, err := s.Run(ctx)
		if err != nil {
			return 0, err
		}
		units += n
		if spent := time.Since(begin); spent >= least {
			return units / spent.Seconds(), nil
		}
	}
}

// median of a list that is not empty.
func median[N cmp.Ordered](v []N) N {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
