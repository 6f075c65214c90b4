package main

import (
	"context"
	"os"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/framework"
)

const benchLong = `Measures what this machine does with tern, beside what it can do at most.

Without a command it measures a bit of everything in about half a minute; with --all everything, which takes
several minutes. Each figure is the median over the rounds; in a round everything that a row names is measured in turn (the
backend on each number of threads, the machine's limits, the peers), so that all meet the machine in the same state, and
a ratio is the median of the rounds' ratios.

The limits: int8 and fma are multiply-adds in registers with the backend's instructions, read is reading as many bytes as
the row's data again and again from wherever in the caches they fit. The floor of an item (a product, a token, a step) is the larger of the
times of its operations at those rates and of its bytes at that one, each operand read once; operations that are no
matrix product or attention are left out. The table has the floor and the time over it. docs/bench.md says more.

A peer is a program of somebody else that is measured in the same rounds:

  tern bench decode --model m.gguf --peer 'llama=./llama-rate.sh {model} {threads}'
  tern bench --all --peer 'kernels/tq2=./gemv {rows} {cols} {tokens} {threads}' --peer 'train/torch=./torch.sh {preset}'

sh runs the command, with the row's values for {threads} and, by part, kernels: {rows} {cols} {tokens} {quant}; gemm:
{form} (nt, nn, tn) {m} {n} {k} {tokens} {rows} {cols}; decode: {model} {preset} {tokens}; prefill: {model} {preset}
{prompt}; train: {preset} {batch} {window}; tokenizer: {what} {text}; start:
{model} {preset}. Its last line must be its rate in the row's unit.`

// benchReport is what tern bench reports.
type benchReport struct {
	Schema   int            `json:"schema"`   // of these fields; new ones do not change it
	Complete bool           `json:"complete"` // false where an error or an interrupt cut it short
	Program  versionInfo    `json:"program"`
	Machine  machineInfo    `json:"machine"`
	Backend  framework.Info `json:"backend"`
	Rounds   int            `json:"rounds"`
	Seconds  float64        `json:"seconds"` // least time of a measurement
	Rows     []benchRow     `json:"rows"`
}

// casesOf makes the cases of a command. dir is for files.
type casesOf func(ctx context.Context, l *lab, dir string) ([]benchCase, error)

func newBenchCmd(a *app) *cobra.Command {
	var f benchFlags
	var all bool
	cmd := newGroup("bench", "Measure kernels, decoding, prefill, training, the tokenizer and the start against the machine's limits",
		newBenchKernelsCmd(a), newBenchDecodeCmd(a), newBenchPrefillCmd(a), newBenchTrainCmd(a), newBenchTokenizerCmd(a), newBenchStartCmd(a))
	cmd.Long = benchLong
	unknown := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknown(cmd, args)
		}
		if all {
			if !cmd.Flags().Changed("rounds") {
				f.rounds = 5
			}
			if !cmd.Flags().Changed("seconds") {
				f.seconds = 0.2
			}
			return a.bench(cmd.Context(), f, "", everything(a))
		}
		return a.bench(cmd.Context(), f, "", quick(a))
	}
	f.add(cmd.Flags(), 3, 0.1)
	cmd.Flags().BoolVar(&all, "all", false, "measure everything: the six commands one after another, 5 rounds of 0.2 s")
	return cmd
}

// bench runs the cases and reports them.
func (a *app) bench(ctx context.Context, f benchFlags, main string, cases casesOf) (err error) {
	l, err := a.newLab(f, main)
	if err != nil {
		return err
	}
	defer func() { err = errors.CombineErrors(err, l.close()) }()
	dir, err := os.MkdirTemp("", "tern-bench-")
	if err != nil {
		return errors.Wrap(err, "make a directory for the benchmark's files")
	}
	defer func() { err = errors.CombineErrors(err, os.RemoveAll(dir)) }()
	all, err := cases(ctx, l, dir)
	if err != nil {
		return err
	}
	l.notePeers(all)
	chosen, err := l.backend(l.threadsOf("train")[0])
	if err != nil {
		return err
	}
	rows, failed := l.measureAll(ctx, all)
	if len(rows) == 0 {
		return failed
	}
	r := benchReport{
		Schema: 1, Complete: failed == nil, Program: buildVersion(), Machine: machine(), Backend: describe(chosen),
		Rounds: f.rounds, Seconds: f.seconds, Rows: rows,
	}
	if f.json {
		err = a.json(r)
	} else {
		err = a.printBench(r)
	}
	if err == nil && f.plot != "" {
		err = a.plotBench(f.plot, r)
	}
	return errors.CombineErrors(failed, err)
}

// together is one list of the cases of several.
func together(parts ...casesOf) casesOf {
	return func(ctx context.Context, l *lab, dir string) ([]benchCase, error) {
		var all []benchCase
		for _, p := range parts {
			cases, err := p(ctx, l, dir)
			if err != nil {
				return nil, err
			}
			all = append(all, cases...)
		}
		return all, nil
	}
}

// quick is what tern bench measures without a command.
func quick(a *app) casesOf {
	tiny := func() *settings { return benchSettings("tiny") }
	return together(
		kernelsFlags{shapes: "256x256,1024x1024,4096x4096", tokens: []int{1, 32}, quant: defaultQuant, gemm: true, gemmShapes: "1024x768x768"}.cases,
		modelFlags{part: "prefill", s: tiny(), tokens: 256}.cases(a),
		modelFlags{part: "decode", s: tiny(), tokens: 64, streams: 1}.cases(a),
		trainFlags{s: tiny(), only: true}.cases(a),
		tokenizerFlags{tokenizer: "gpt2"}.cases,
	)
}

// everything is what tern bench --all measures.
func everything(a *app) casesOf {
	nano := func() *settings { return benchSettings("nano-125m") }
	return together(
		kernelsFlags{shapes: reportShapes, tokens: []int{1, 4, 16, 64}, quant: defaultQuant, gemm: true, gemmShapes: trainingShapes}.cases,
		kernelsFlags{shapes: "1024x1024,4096x4096", tokens: []int{1}, quant: "int4", gemmShapes: "none"}.cases,
		kernelsFlags{shapes: "1024x1024,4096x4096", tokens: []int{1}, levels: normalBook, gemmShapes: "none"}.cases,
		modelFlags{part: "decode", s: nano(), tokens: 64, streams: 1}.cases(a),
		modelFlags{part: "prefill", s: nano(), tokens: 512}.cases(a),
		trainFlags{s: nano()}.cases(a),
		tokenizerFlags{tokenizer: "gpt2"}.cases,
		startFlags{s: nano()}.cases(a),
	)
}
