package report

import (
	"fmt"
	"strings"
	"unicode"
)

// Markdown is the whole report, in GitHub's dialect. pictures are the SVG
// files beside it.
func (r *Report) Markdown(pictures []Picture) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", escapeMarkdown(r.title()))
	fmt.Fprintf(&b, "%s\n\n", escapeMarkdown(r.subtitle()))
	b.WriteString(r.Summary())
	for _, p := range pictures {
		fmt.Fprintf(&b, "![%s](%s)\n\n", escapeMarkdown(p.Title), p.File)
	}
	for _, t := range r.tables()[1:] {
		t.markdown(&b)
	}
	b.WriteString("## To reproduce\n\n")
	for _, line := range r.ranWith() {
		fmt.Fprintf(&b, "- %s\n", escapeMarkdown(line))
	}
	b.WriteString("\n")
	fence(&b, strings.Join(r.commands(), "\n"))
	b.WriteString("## How the numbers are made\n\n")
	for _, n := range notes {
		fmt.Fprintf(&b, "- %s\n", escapeMarkdown(n))
	}
	return b.String()
}

// Summary is what the comparisons show, in Markdown: the table of results and
// the sentences, ending in an empty line.
func (r *Report) Summary() string {
	var b strings.Builder
	for _, w := range r.Words {
		fmt.Fprintf(&b, "%s\n", escapeMarkdown(w))
	}
	b.WriteString("\n")
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "> **Note:** %s\n\n", escapeMarkdown(w))
	}
	t := r.results()
	t.markdown(&b)
	return b.String()
}

func (t *table) markdown(b *strings.Builder) {
	fmt.Fprintf(b, "## %s\n\n", escapeMarkdown(t.Title))
	line := func(texts []string) {
		for _, s := range texts {
			fmt.Fprintf(b, "| %s ", escapeMarkdown(s))
		}
		b.WriteString("|\n")
	}
	line(t.Head)
	for i := range t.Head {
		if i < t.Left {
			b.WriteString("|:---")
		} else {
			b.WriteString("|---:")
		}
	}
	b.WriteString("|\n")
	for _, r := range t.Rows {
		line(r.Texts)
	}
	fmt.Fprintf(b, "\n%s\n\n", escapeMarkdown(t.Note))
}

// escapeMarkdown makes s plain text within a line of Markdown: nothing in it
// is markup, a link, HTML or the border of a table.
func escapeMarkdown(s string) string {
	var b strings.Builder
	runes := []rune(strings.ToValidUTF8(s, "\uFFFD"))
	word := func(i int) bool {
		return i >= 0 && i < len(runes) && (unicode.IsLetter(runes[i]) || unicode.IsDigit(runes[i]))
	}
	for i, r := range runes {
		switch {
		case !unicode.IsPrint(r):
			b.WriteRune(' ')
			continue
		case r == '_' && word(i-1) && word(i+1): // no emphasis within a word
		case r == '<' && i+1 < len(runes) && unicode.IsDigit(runes[i+1]): // no tag begins so
		case strings.ContainsRune("\\`*_[]<|&~$", r):
			b.WriteByte('\\')
		case r == ':' && i+2 < len(runes) && runes[i+1] == '/' && runes[i+2] == '/': // no address by itself
			b.WriteByte('\\')
		case r == '@' || r == '.' && i >= 3 && strings.EqualFold(string(runes[i-3:i]), "www"):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// fence writes code, in a fence that nothing in it ends.
func fence(b *strings.Builder, code string) {
	marks := "```"
	for strings.Contains(code, marks) {
		marks += "`"
	}
	fmt.Fprintf(b, "%ssh\n%s\n%s\n\n", marks, code, marks)
}

func (r *Report) title() string {
	if s := oneLine(r.Name, maxName); s != "" {
		return "Sweep " + s
	}
	return "Sweep"
}

func (r *Report) subtitle() string {
	s := "Planned " + r.Created.UTC().Format("2006-01-02 15:04 UTC")
	if by := oneLine(r.CreatedBy, maxName); by != "" {
		s += " by " + by
	}
	return s + fmt.Sprintf(". %s, %s: %d done, %d failed, %d missing.",
		plural(len(r.Cells), "cell", "cells"), plural(r.Counts.Planned, "trial", "trials"), r.Counts.Done, r.Counts.Failed, r.Counts.Missing)
}

// ranWith says on what the numbers came about.
func (r *Report) ranWith() []string {
	var out []string
	add := func(what string, list []string) {
		for i := range list {
			list[i] = oneLine(list[i], maxName)
		}
		if len(list) > 0 {
			out = append(out, what+": "+someOf(list, 6))
		}
	}
	add("program", append([]string(nil), r.Ran.Programs...))
	add("machine", append([]string(nil), r.Ran.Machines...))
	add("backend", append([]string(nil), r.Ran.Backends...))
	var threads []string
	for _, n := range r.Ran.Threads {
		threads = append(threads, fmt.Sprint(n))
	}
	add("threads of a trial", threads)
	if r.ReportedBy != "" {
		add("report by", []string{r.ReportedBy})
	}
	return out
}

// commands are those of Reproduce, each a line.
func (r *Report) commands() []string {
	var out []string
	for _, c := range r.Reproduce {
		out = append(out, oneLine(c, 4000))
	}
	return out
}

// notes say how the numbers are made.
var notes = []string{
	"A cell is the trials that differ in their seed alone. Differences are taken between the trials of a cell and of its baseline that have the same seed: what a seed does to both cancels.",
	"95 % interval and p (t): Student's t of the mean difference, one comparison at a time; it takes two pairs, and assumes that differences are about normal.",
	"p (sign flip): the exact two-sided test that differences are symmetric around zero, over all 2^n flips of signs; it assumes nothing else. It cannot be below 2/2^n: 0.25 with 3 pairs, 0.0625 with 5, 0.031 with 6.",
	"p (Holm): the p of the t test after Holm's step-down correction for all comparisons in the table; the verdict is made of it. With the 3 to 5 seeds that are usual the sign-flip test cannot reach 0.05 whatever the difference, so correcting it would find nothing ever; it is shown to check the t test with. report.json has its corrected p too.",
	"Verdict: lower or higher than the baseline where p (Holm) is at most 0.05, else not clear. With fewer than two pairs n is too small.",
}
