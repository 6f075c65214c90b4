package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/sweep"
)

func newSweepPlanCmd(a *app) *cobra.Command {
	var out, config string
	var dryRun, asJSON bool
	cmd := &cobra.Command{
		Use:   "plan SPEC.yaml --out DIR",
		Short: "Expand a spec into trials, and freeze what each of them computes",
		Long: "Expands a spec into trials (docs/sweep.md says how to write one), settles every setting of each, and writes the plan\n" +
			"into a directory. What is planned stays as it is: a spec, a file, a variable or a default that changes later changes nothing.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" && !dryRun {
				return usagef("name a directory that is new or empty", "tern sweep plan without --out")
			}
			spec, text, err := sweep.ReadSpec(args[0], sweepKeys())
			if err != nil {
				return err
			}
			name := strings.TrimSuffix(filepath.Base(args[0]), filepath.Ext(args[0]))
			p, err := a.makePlan(cmd.Context(), spec, planInfo{name: name, config: config, command: a.commandLine(cmd, args)})
			if err != nil {
				return err
			}
			if dryRun {
				return a.printPlan(p, "", asJSON)
			}
			if err := sweep.Freeze(out, p, text); err != nil {
				return err
			}
			return a.printPlan(p, out, asJSON)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "directory of the plan, new or empty")
	cmd.Flags().StringVar(&config, "config", "", "YAML file with values of the flags of tern train, for what the spec leaves open")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be planned")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write the plan as JSON")
	return cmd
}

// planInfo is what a plan says of its making.
type planInfo struct {
	name    string // where the spec has none
	config  string // --config
	command string
}

// makePlan expands and resolves a spec.
func (a *app) makePlan(ctx context.Context, spec *sweep.Spec, i planInfo) (p sweep.Plan, err error) {
	r := newResolver(ctx, a, i.config)
	defer func() { err = errors.CombineErrors(err, r.close()) }()
	if spec.Name == "" {
		spec.Name = i.name
	}
	if err := sweep.CheckName(spec.Name); err != nil {
		return p, err
	}
	if p, err = sweep.New(spec, r.resolve); err != nil {
		return p, err
	}
	p.Created, p.CreatedBy, p.Command = time.Now().UTC().Truncate(time.Second), buildVersion().String(), i.command
	return p, nil
}

// printPlan lists the cells of a plan.
func (a *app) printPlan(p sweep.Plan, dir string, asJSON bool) error {
	if asJSON {
		return a.json(p)
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "cell\tseeds\tsteps\tparameters\tmemory")
	seeds := map[string]int{}
	for _, t := range p.Trials {
		seeds[t.Cell]++
	}
	most := int64(0)
	flops := 0.0
	seen := map[string]bool{}
	for _, t := range p.Trials {
		most, flops = max(most, t.Memory), flops+t.StepFLOPs*float64(t.Steps())
		if seen[t.Cell] {
			continue
		}
		seen[t.Cell] = true
		mark := ""
		if t.Cell == p.Baseline {
			mark = "  (baseline)"
		}
		fmt.Fprintf(tw, "%s%s\t%d\t%s\t%s\t%s\n", t.Cell, mark, seeds[t.Cell], thousands(t.Steps()), thousands(t.Parameters), size(t.Memory))
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	a.printf("\n%s of %s, %.1e operations; the largest takes about %s\n",
		plural(len(p.Trials), "trial"), plural(len(seen), "cell"), flops, size(most))
	if dir != "" {
		a.printf("\nNext:\n  %s sweep run %s\n  %s sweep watch %s\n", self(), dir, self(), dir)
	}
	return nil
}
