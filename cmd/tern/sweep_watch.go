package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ternlm/tern/sweep"
)

// trialRow is what tern sweep watch says of a trial.
type trialRow struct {
	ID       string      `json:"trial"`
	Cell     string      `json:"cell"`
	Seed     uint64      `json:"seed"`
	State    sweep.State `json:"state"`
	Attempts int         `json:"attempts"`
	sweep.Progress
	// Valid is the loss of the exported file, of a trial that is done.
	Valid *float64 `json:"valid_loss,omitempty"`
	Error string   `json:"error,omitempty"`
}

func newSweepWatchCmd(a *app) *cobra.Command {
	var once, asJSON bool
	every := 2 * time.Second
	cmd := &cobra.Command{
		Use:   "watch DIR",
		Short: "Show where the trials of a plan stand, again and again until all are done",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := sweep.Open(args[0])
			if err != nil {
				return err
			}
			if asJSON || once {
				rows, err := trialRows(d)
				if err != nil {
					return err
				}
				if asJSON {
					return a.json(rows)
				}
				_, err = io.WriteString(a.stdout, watchTable(rows, 0))
				return err
			}
			return a.watchSweep(cmd.Context(), d, every)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "show it once, all trials")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write JSON, once")
	cmd.Flags().DurationVar(&every, "every", every, "time between two looks")
	return cmd
}

// trialRows looks at every trial, in the order of the plan.
func trialRows(d *sweep.Dir) ([]trialRow, error) {
	rows := make([]trialRow, 0, len(d.Plan.Trials))
	for _, t := range d.Plan.Trials {
		state, result, failure, err := d.Status(t)
		if err != nil {
			return nil, err
		}
		r := trialRow{ID: t.ID, Cell: t.Cell, Seed: t.Seed, State: state, Progress: sweep.Progress{Steps: t.Steps()}}
		if state != sweep.Pending {
			r.Progress = d.Progress(t)
			a, err := d.Attempts(t.ID)
			if err != nil {
				return nil, err
			}
			r.Attempts = a.Count
		}
		if result != nil {
			r.Valid, r.PerSecond, r.ETA = &result.Loss, result.PerSecond, 0
		}
		if failure != nil {
			r.Error = failure.Error
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// watchTable is a table of at most so many rows, 0 for all. Those where something
// happens come first where not all have room.
func watchTable(rows []trialRow, most int) string {
	counts := map[sweep.State]int{}
	for _, r := range rows {
		counts[r.State]++
	}
	left := 0
	if most > 0 && len(rows) > most {
		order := []sweep.State{sweep.Running, sweep.Failed, sweep.Interrupted, sweep.Pending, sweep.Done}
		rows = slices.Clone(rows)
		slices.SortStableFunc(rows, func(x, y trialRow) int { return slices.Index(order, x.State) - slices.Index(order, y.State) })
		rows, left = rows[:most], len(rows)-most
	}
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "cell\tseed\tstate\tstep\tloss\ttok/s\tETA")
	for _, r := range rows {
		fmt.Fprintln(tw, strings.Join(r.columns(), "\t"))
	}
	_ = tw.Flush() // to memory
	if left > 0 {
		fmt.Fprintf(&b, "and %d more: --once shows all\n", left)
	}
	total := 0
	for _, n := range counts {
		total += n
	}
	fmt.Fprintf(&b, "%s\n", stateCounts(counts, total))
	return b.String()
}

// maxShown bounds what is shown of an error, in characters.
const maxShown = 80

// columns are the texts of a row.
func (r trialRow) columns() []string {
	loss, rate, eta := "", "", ""
	if r.Step > 0 {
		loss, rate = fmt.Sprintf("%.4f", r.Loss), perSecond(r.PerSecond)
	}
	switch r.State {
	case sweep.Running:
		eta = duration(r.ETA)
	case sweep.Done:
		loss = fmt.Sprintf("val %.4f", *r.Valid)
	case sweep.Failed, sweep.Interrupted:
		eta, _, _ = strings.Cut(r.Error, "\n")
		if text := []rune(eta); len(text) > maxShown {
			eta = string(text[:maxShown]) + "..."
		}
	}
	return []string{r.Cell, fmt.Sprint(r.Seed), string(r.State), fmt.Sprintf("%d/%d", r.Step, r.Steps), loss, rate, eta}
}

// watchSweep shows the table until no trial is left to wait for.
func (a *app) watchSweep(ctx context.Context, d *sweep.Dir, every time.Duration) error {
	height := 0
	f, isFile := a.stdout.(*os.File)
	if isFile && term.IsTerminal(int(f.Fd())) {
		if _, h, err := term.GetSize(int(f.Fd())); err == nil {
			height = h
		}
	}
	for {
		rows, err := trialRows(d)
		if err != nil {
			return err
		}
		if height > 0 {
			a.printf("\x1b[H\x1b[2J%s", watchTable(rows, max(1, height-4)))
		} else {
			a.printf("%s\n", watchTable(rows, 0))
		}
		if !slices.ContainsFunc(rows, func(r trialRow) bool { return r.State != sweep.Done && r.State != sweep.Failed }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(every, 100*time.Millisecond)):
		}
	}
}
