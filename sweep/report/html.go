package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"sync"

	"github.com/cockroachdb/errors"
)

// The page has all that it shows in it: it may be mailed, and read without a
// network. uPlot's origin is in assets/NOTE.
var (
	//go:embed assets/page.html
	pageHTML string
	//go:embed assets/page.css
	pageCSS string
	//go:embed assets/page.js
	pageJS string
	//go:embed assets/uPlot.iife.min.js
	uPlotJS string
	//go:embed assets/uPlot.min.css
	uPlotCSS string
	//go:embed assets/LICENSE.uPlot
	uPlotLicense string
)

// page is what the template fills in. All text is escaped by html/template;
// what is not is embedded above, drawn from numbers, or JSON.
type page struct {
	Title, Subtitle string
	Words, Warnings []string
	Results         pageTable
	Tables, Depths  []pageTable // Depths are folded
	Unfinished      *pageTable
	HasCurves       bool
	CurveNote       string
	Still           string // picture of the curves beside the page
	RanWith         []string
	Commands        string
	Notes           []string
	CSS, PlotCSS    template.CSS
	PlotJS, JS      template.JS
	Data            template.JS
	License         string
}

type pageTable struct {
	Title, Note string
	Plots       bool
	Head        []pageCell
	Rows        []pageRow
}

type pageRow struct {
	Class string
	Cells []pageCell
	Plot  template.HTML
}

type pageCell struct {
	Text, Class string
}

// pageTemplate is parsed when a page is made, not at each start of a program.
var pageTemplate = sync.OnceValue(func() *template.Template { return template.Must(template.New("page").Parse(pageHTML)) })

func (r *Report) html(w io.Writer, c curves) error {
	// Marshal writes <, > and & as \u003c, \u003e and \u0026: no name ends the script.
	data, err := json.Marshal(c)
	if err != nil {
		return errors.Wrap(err, "write the curves")
	}
	p := page{
		Title: r.title(), Subtitle: r.subtitle(), Words: r.Words, Warnings: r.Warnings,
		HasCurves: len(c.Charts) > 0, CurveNote: c.Note, Still: lossFile,
		RanWith: r.ranWith(), Commands: strings.Join(r.commands(), "\n"), Notes: notes,
		CSS: template.CSS(pageCSS), PlotCSS: template.CSS(uPlotCSS), PlotJS: template.JS(uPlotJS), JS: template.JS(pageJS),
		Data: template.JS(data), License: uPlotLicense,
	}
	results, costs, diagnoses := r.results(), r.costs(), r.diagnoses()
	p.Results = results.page()
	p.Tables = []pageTable{costs.page()}
	if len(diagnoses.Rows) > 0 {
		p.Tables = append(p.Tables, diagnoses.page())
	}
	for _, t := range r.byDepth() {
		p.Depths = append(p.Depths, t.page())
	}
	if t := r.unfinishedTable(); len(t.Rows) > 0 {
		u := t.page()
		p.Unfinished = &u
	}
	var b bytes.Buffer // a page that fails half way is none
	if err := pageTemplate().Execute(&b, p); err != nil {
		return errors.Wrap(err, "write HTML")
	}
	_, err = w.Write(b.Bytes())
	return err
}

func (t *table) page() pageTable {
	out := pageTable{Title: t.Title, Note: t.Note}
	cells := func(texts []string) []pageCell {
		list := make([]pageCell, len(texts))
		for i, s := range texts {
			list[i].Text = s
			switch {
			case i < t.Left:
				list[i].Class = "text"
			case t.Head[i] == verdictColumn:
				list[i].Class = "verdict"
			}
		}
		return list
	}
	out.Head = cells(t.Head)
	var drawn []interval
	for _, r := range t.Rows {
		if r.Plot != nil {
			drawn = append(drawn, *r.Plot)
		}
	}
	out.Plots = len(drawn) > 0
	for _, r := range t.Rows {
		row := pageRow{Class: r.Class, Cells: cells(r.Texts)}
		if r.Plot != nil {
			row.Plot = r.Plot.svg(reachOf(drawn))
		}
		out.Rows = append(out.Rows, row)
	}
	return out
}

// svg draws an interval around the middle, 120 by 18, in the page's colors.
func (i *interval) svg(reach float64) template.HTML {
	x := func(v float64) float64 { return 60 + 57*max(-1, min(1, v/reach)) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="interval" width="120" height="18" role="img" aria-label="%s"><path class="zero" d="M60 0V18"/>`, template.HTMLEscapeString(formatDifference(i.mean)))
	fmt.Fprintf(&b, `<path d="M%.1f 9H%.1f`, x(i.low), x(i.high))
	for _, end := range []float64{i.low, i.high} { // no cap where it is cut
		if math.Abs(end) <= reach {
			fmt.Fprintf(&b, `M%.1f 5V13`, x(end))
		}
	}
	fmt.Fprintf(&b, `"/><circle cx="%.1f" cy="9" r="3.5"/></svg>`, x(i.mean))
	return template.HTML(b.String())
}
