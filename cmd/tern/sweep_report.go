package main

import (
	"path/filepath"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	sweepreport "github.com/ternlm/tern/sweep/report"
)

func newSweepReportCmd(a *app) *cobra.Command {
	var out, baseline, metric string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "report DIR", Short: "Compare the cells of a sweep: tables, statistics, curves", Args: usageArgs(cobra.ExactArgs(1)),
		Long: "Compares each cell of the sweep in DIR with the baseline, paired by seed, and writes a page (report.html), Markdown, JSON,\n" +
			"CSV and pictures. It reads what is there: the sweep may still run. docs/sweep.md says what the numbers are.",
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				out = filepath.Join(args[0], "report")
			}
			in, err := sweepreport.Load(args[0])
			if err != nil {
				return err
			}
			in.Baseline, in.Metric, in.Program = baseline, sweepreport.Metric(metric), buildVersion().String()
			return a.reportSweep(in, out, asJSON)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "directory of the report; without it DIR/report")
	cmd.Flags().StringVar(&baseline, "baseline", "", "cell to compare with, or values of some axes (residual=standard): then each cell\n"+
		"is compared with the one that has these and else its own; without it that of the plan")
	cmd.Flags().StringVar(&metric, "metric", "", "loss or bits_per_byte, what is compared; without it loss")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON")
	return cmd
}

// reportSweep writes a report to a directory, and its summary to standard
// output.
func (a *app) reportSweep(in sweepreport.Input, out string, asJSON bool) error {
	r, err := sweepreport.Make(in)
	if errors.IsAny(err, sweepreport.ErrBaseline, sweepreport.ErrMetric) {
		return errors.Mark(err, errUsage)
	}
	if err != nil {
		return err
	}
	written, err := r.Write(out)
	if err != nil {
		return err
	}
	for _, name := range written {
		a.note("written: %s", filepath.Join(out, name))
	}
	if asJSON {
		return a.json(r)
	}
	a.printf("%s", r)
	return nil
}
