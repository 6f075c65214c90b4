package main

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
)

// printBench writes a table for each series, a line for each row.
func (a *app) printBench(r benchReport) error {
	a.printf("%s, %s; backend %s; medians of %s\n", cpuName(r), plural(r.Machine.Cores, "processor"), r.Backend.Name, plural(r.Rounds, "round"))
	for _, part := range benchParts {
		rows := partOf(r.Rows, part)
		peers, series := peerNames(rows), ""
		tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
		for i, row := range rows {
			if i == 0 || row.Series != series {
				series = row.Series
				fmt.Fprintf(tw, "\n%s: %s\n%s\n", part, series, strings.Join(header(row, peers), "\t"))
			}
			fmt.Fprintln(tw, strings.Join(cells(row, peers), "\t"))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
		a.printNotes(rows)
	}
	if !r.Complete {
		a.printf("\ncut short: what was not measured is missing\n")
	}
	return nil
}

func cpuName(r benchReport) string {
	if r.Machine.CPU != "" {
		return r.Machine.CPU
	}
	return r.Machine.Arch
}

// partOf selects the rows of a part.
func partOf(rows []benchRow, part string) []benchRow {
	var out []benchRow
	for _, r := range rows {
		if r.Part == part {
			out = append(out, r)
		}
	}
	return out
}

// peerNames are those of all rows, in their order.
func peerNames(rows []benchRow) []string {
	var names []string
	for _, r := range rows {
		for _, p := range r.Peers {
			if !slices.Contains(names, p.Name) {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

func header(row benchRow, peers []string) []string {
	h := []string{"", "THREADS", row.Unit, "RANGE", "SCALING", "TIME", "SHARE OF PEAK", "SHARE OF GB/S", "FLOOR, TIME TO IT", "SCALAR"}
	for _, p := range peers {
		h = append(h, p, "RATIO")
	}
	return h
}

func cells(r benchRow, peers []string) []string {
	var peaks []string
	read, floor, scalar := "-", "-", "-"
	for _, l := range r.Limits {
		text := fmt.Sprintf("%.0f%% of %s", 100*l.Share, number(l.Rate.Median))
		if l.Name == limitRead {
			read = text
		} else {
			peaks = append(peaks, text+" "+l.Name)
		}
	}
	if r.Floor.Seconds > 0 && r.Above > 0 {
		floor = fmt.Sprintf("%s x %s %s", seconds(r.Floor.Seconds), number(r.Above), r.Floor.Bound)
	}
	if s := r.Scalar; s != nil {
		mark := ""
		if s.Scaled != "" {
			mark = "*"
		}
		scalar = fmt.Sprintf("%s%s x %s", number(s.Rate.Median), mark, number(s.Ratio))
	}
	c := []string{
		r.Name, threadsText(r.Threads), number(r.Rate.Median), number(r.Rate.Min) + "-" + number(r.Rate.Max), fmt.Sprintf("%.2f", r.Scaling),
		seconds(r.Seconds), orDash(strings.Join(peaks, ", ")), read, floor, scalar,
	}
	for _, name := range peers {
		i := slices.IndexFunc(r.Peers, func(p benchPeer) bool { return p.Name == name })
		if i < 0 {
			c = append(c, "-", "-")
			continue
		}
		c = append(c, number(r.Peers[i].Rate.Median), fmt.Sprintf("%.2f", r.Peers[i].Ratio))
	}
	return c
}

// printNotes says how scalar was scaled down, and what training takes.
func (a *app) printNotes(rows []benchRow) {
	var scaled []string
	for _, r := range rows {
		what := r.Name
		if r.Part != "kernels" && r.Part != "gemm" {
			what = r.Series
		}
		if r.Scalar == nil || r.Scalar.Scaled == "" {
			continue
		}
		if note := what + " " + r.Scalar.Scaled; !slices.Contains(scaled, note) {
			scaled = append(scaled, note)
		}
	}
	if len(scaled) > 0 {
		a.printf("* scalar was measured on less: %s\n", strings.Join(scaled, "; "))
	}
	for _, r := range rows {
		if m := r.Memory; m != nil {
			a.printf("memory of %s: states %s, values and layouts %s, high-water mark of the process after the first step %s%s\n",
				r.Series, size(m.States), size(m.Planned), size(m.PeakRSS), deviceText(m.Device))
		}
	}
}

// threadsText is the number of threads of a backend that has such.
func threadsText(n int) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

// onText says on what a row was measured.
func onText(threads int) string {
	if threads == 0 {
		return "the device"
	}
	return plural(threads, "thread")
}

// deviceText says what of a device's own memory is in use.
func deviceText(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return ", in use on the device " + size(bytes)
}

func orDash(s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return "-"
	}
	return s
}

// number has three digits, or as many as come before the point.
func number(x float64) string {
	switch {
	case x >= 100 || x == 0:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x >= 0.1:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.2g", x)
}

// seconds is a time with a unit that suits it.
func seconds(s float64) string {
	switch {
	case s >= 1:
		return number(s) + " s"
	case s >= 1e-3:
		return number(s*1e3) + " ms"
	case s >= 1e-6:
		return number(s*1e6) + " us"
	}
	return number(s*1e9) + " ns"
}
