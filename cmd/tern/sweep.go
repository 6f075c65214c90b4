package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/errors"
	"github.com/spf13/cobra"

	"github.com/ternlm/tern/plugins/store"
	"github.com/ternlm/tern/sweep"
)

func newSweepCmd(a *app) *cobra.Command {
	cmd := newGroup("sweep", "Ablations: many trainings, planned, run, watched and compared",
		newSweepPlanCmd(a), newSweepRunCmd(a), newSweepWatchCmd(a), newSweepReportCmd(a), newSweepTrialCmd(a), newSweepExecCmd(a), newSweepWorkCmd(a))
	cmd.Use = "sweep [--SETTING value,value ...]"
	cmd.Long = "Trains models that differ in what you name, with several seeds, and compares them (docs/sweep.md).\n\n" +
		"With flags alone it plans, runs on this machine and reports at once: each flag of tern train may have several values,\n" +
		"separated by commas, and all their combinations are trained:\n\n" +
		"  tern sweep --residual standard,mhclite --quant ternary,none --seeds 5\n\n" +
		"The same command goes on after a stop. A spec in a file can say more: tern sweep plan SPEC.yaml."
	f := &sweepFlags{values: map[string]*axisValues{}}
	f.add(cmd)
	group := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 && strings.HasSuffix(args[0], ".yaml") {
			return usagef("tern sweep plan "+args[0]+" --out DIR, then tern sweep run DIR", "tern sweep has no command %q", args[0])
		}
		if len(args) > 0 && (args[0] == "true" || args[0] == "false" || strings.HasPrefix(args[0], "true,") || strings.HasPrefix(args[0], "false,")) {
			return usagef("write --FLAG="+args[0], "%q belongs to no flag", args[0])
		}
		if len(args) > 0 || cmd.Flags().NFlag() == 0 {
			return group(cmd, args)
		}
		return a.sweepAll(cmd, f)
	}
	return cmd
}

// sweepAll plans, runs here and reports.
func (a *app) sweepAll(cmd *cobra.Command, f *sweepFlags) error {
	text, err := f.spec()
	if err != nil {
		return err
	}
	spec, err := sweep.ParseSpec("command line", text, sweepKeys())
	if err != nil {
		return err
	}
	if f.out == "" {
		f.out = filepath.Join("sweeps", f.name+"-"+time.Now().Format("20060102-150405"))
	}
	ctx := cmd.Context()
	p, err := a.makePlan(ctx, spec, planInfo{name: f.name, config: f.config, command: a.commandLine(cmd, nil)})
	if err != nil {
		return err
	}
	if f.run.dryRun {
		return a.printPlan(p, "", false)
	}
	if err := a.freezeOrGoOn(f.out, p, text); err != nil {
		return err
	}
	err = a.sweepRun(ctx, f.out, f.run)
	if err == nil || errors.Is(err, errTrialsFailed) { // what is done can be compared
		err = errors.CombineErrors(err, a.sweepReport(ctx, f.out))
	}
	return err
}

// freezeOrGoOn writes a plan, or finds the same one in dir.
func (a *app) freezeOrGoOn(dir string, p sweep.Plan, spec []byte) error {
	if _, err := os.Stat(filepath.Join(dir, "plan.json")); err != nil {
		if err := sweep.Freeze(dir, p, spec); err != nil {
			return err
		}
		a.note("planned %s in %s", plural(len(p.Trials), "trial"), dir)
		return nil
	}
	d, err := sweep.Open(dir)
	if err != nil {
		return err
	}
	same := len(d.Plan.Trials) == len(p.Trials)
	for i := range p.Trials {
		same = same && d.Plan.Trials[i].ID == p.Trials[i].ID
	}
	if !same {
		return usagef("choose another directory with --out, or go on with that plan: tern sweep run "+dir, "%s holds another plan", dir)
	}
	a.note("going on with the plan in %s", dir)
	return nil
}

// sweepReport runs the command tern sweep report.
func (a *app) sweepReport(ctx context.Context, dir string) error {
	cmd := newSweepReportCmd(a)
	cmd.SetContext(ctx)
	return cmd.RunE(cmd, []string{dir})
}

// commandLine is the command that was given, for a shell, with the variables
// that decided about it.
func (a *app) commandLine(cmd *cobra.Command, args []string) string {
	var words []string
	set := newSettings().set
	for _, e := range a.environ {
		name, value, _ := strings.Cut(e, "=")
		key, ours := strings.CutPrefix(name, "TERN_")
		decides := name == configVariable || name == store.Variable || set.Flag(strings.ToLower(key)) != nil
		if ours && decides && value != "" {
			words = append(words, name+"="+sweep.ShellWord(value))
		}
	}
	words = append(words, cmd.CommandPath())
	for _, arg := range args {
		words = append(words, sweep.ShellWord(arg))
	}
	return strings.Join(append(words, changedFlags(cmd)...), " ")
}

// stateCounts is a line such as "3 of 8 done, 1 failed".
func stateCounts(counts map[sweep.State]int, total int) string {
	parts := []string{fmt.Sprintf("%d of %d done", counts[sweep.Done], total)}
	for _, s := range []sweep.State{sweep.Running, sweep.Failed, sweep.Interrupted, sweep.Pending} {
		if n := counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return strings.Join(parts, ", ")
}
