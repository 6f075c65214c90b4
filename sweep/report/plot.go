package report

import (
	"bytes"
	"image/color"
	"math"
	"slices"

	"github.com/cockroachdb/errors"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	plottext "gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Picture is a still picture of a report, an SVG file.
type Picture struct {
	File, Title string
	SVG         []byte
}

// The pictures that a report may have.
const (
	lossFile       = "loss.svg"
	differenceFile = "differences.svg"
)

// pictures draws what there is to be drawn.
func (r *Report) pictures(c curves) ([]Picture, error) {
	var all []Picture
	add := func(file, title string, p *plot.Plot, legend bool, width, height vg.Length) error {
		svg, err := render(p, legend, width, height)
		all = append(all, Picture{file, title, svg})
		return errors.Wrapf(err, "draw %s", file)
	}
	if len(c.Charts) > 0 {
		p, err := plotCurves(c)
		if err != nil {
			return nil, errors.Wrap(err, "draw the loss")
		}
		rows := vg.Length(min(len(c.Cells), maxCells))
		if err := add(lossFile, p.Title.Text, p, true, 24*vg.Centimeter, max(10, 2.2+0.55*rows)*vg.Centimeter); err != nil {
			return nil, err
		}
	}
	if p, rows := r.plotDifferences(); rows > 0 {
		if err := add(differenceFile, p.Title.Text, p, false, 22*vg.Centimeter, vg.Length(2.6+0.7*float64(rows))*vg.Centimeter); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// sans is the variant of the fonts.
const sans = "Sans"

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text, p.Title.Padding = title, 8
	p.X.Label.Text, p.Y.Label.Text = x, y
	for _, s := range []*plottext.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		s.Font.Variant, s.Font.Size = sans, 10
	}
	p.Title.TextStyle.Font.Size = 12
	return p
}

// palette is of Okabe and Ito's colors, told apart by people who see colors
// differently, darker where they are pale on white.
var palette = []color.RGBA{
	{0, 90, 160, 255},
	{213, 94, 0, 255},
	{0, 130, 95, 255},
	{180, 90, 140, 255},
	{120, 100, 0, 255},
	{60, 150, 210, 255},
	{90, 90, 90, 255},
	{200, 140, 0, 255},
}

// dashes tell cells of one color apart.
var dashes = [][]vg.Length{nil, {6, 3}, {2, 2}, {8, 2, 2, 2}, {1, 3}}

func plotCurves(c curves) (*plot.Plot, error) {
	ch := c.Charts[0]
	p := newPlot(ch.Title+", mean over seeds; all but the first tenth of the run", "step", unitOf(ch.Name))
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = color.Gray{225}, color.Gray{225}
	p.Add(grid)
	for _, thin := range []bool{true, false} { // means above
		for _, l := range ch.Lines {
			if (l.Seed != "") != thin {
				continue
			}
			drawn, err := plotter.NewLine(l.xys())
			if err != nil {
				continue // no numbers
			}
			col := palette[l.Cell%len(palette)]
			drawn.LineStyle = draw.LineStyle{Color: col, Width: 1.6, Dashes: dashes[l.Cell/len(palette)%len(dashes)]}
			if thin {
				drawn.Width, drawn.Color, drawn.Dashes = 0.5, color.NRGBA{col.R, col.G, col.B, 110}, nil
			} else {
				p.Legend.Add(oneLine(c.Cells[l.Cell].Name, 60), drawn)
			}
			p.Add(drawn)
		}
	}
	return p, nil
}

// unitOf is the unit of a chart.
func unitOf(name string) string {
	if name == validLoss || name == trainLoss {
		return "nats a token"
	}
	return ""
}

func (l *line) xys() plotter.XYs {
	var at plotter.XYs
	for i, v := range l.Values {
		if !math.IsNaN(v) && !math.IsInf(v, 0) && l.Steps[i] >= l.Steps[len(l.Steps)-1]/10 { // the fall of the first steps hides the rest
			at = append(at, plotter.XY{X: float64(l.Steps[i]), Y: v})
		}
	}
	return at
}

// plotDifferences has a line for each comparison, the first at the top.
func (r *Report) plotDifferences() (*plot.Plot, int) {
	var cells []*Cell
	var all []interval
	for _, c := range r.Cells {
		if at := c.interval(); at != nil && len(cells) < maxCells {
			cells, all = append(cells, c), append(all, *at)
		}
	}
	unit := map[Metric]string{Loss: "nats a token", BitsPerByte: "bits a byte"}[r.Metric]
	p := newPlot("difference of "+r.Metric.title()+" to the baseline, 95 % interval", unit+"; left of 0 is better than the baseline", "")
	if len(cells) == 0 {
		return p, 0
	}
	reach := reachOf(all)
	var ticks []plot.Tick
	zero, _ := plotter.NewLine(plotter.XYs{{X: 0, Y: -0.6}, {X: 0, Y: float64(len(cells)) - 0.4}})
	zero.Color, zero.Dashes = color.Gray{120}, []vg.Length{3, 3}
	p.Add(zero)
	for i, c := range cells {
		y := float64(len(cells) - 1 - i)
		ticks = append(ticks, plot.Tick{Value: y, Label: oneLine(c.label(), 60)})
		p.Add(intervalPlot{all[i], y, reach, c.Comparison.Verdict})
	}
	p.Y.Tick.Marker = plot.ConstantTicks(ticks)
	p.Y.Tick.Length, p.Y.LineStyle.Width = 0, 0
	p.Y.Min, p.Y.Max = -0.6, float64(len(cells))-0.4
	p.X.Min, p.X.Max = -reach, reach
	return p, len(cells)
}

// interval is what is drawn of a comparison, nil without a pair.
func (c *Cell) interval() *interval {
	if c.Comparison == nil || c.Comparison.Paired == nil {
		return nil
	}
	p := c.Comparison.Paired
	if p.T == nil {
		return &interval{p.Mean, p.Mean, p.Mean}
	}
	return &interval{p.Mean, p.T.Low, p.T.High}
}

// reachOf is how far an axis around 0 goes. The interval of two pairs can be a
// hundred times as wide as the others: it is cut.
func reachOf(all []interval) float64 {
	var most float64
	var wide []float64
	for _, a := range all {
		most = max(most, math.Abs(a.mean))
		wide = append(wide, math.Abs(a.low), math.Abs(a.high))
	}
	slices.Sort(wide)
	reach := 1.05 * min(wide[len(wide)-1], max(1.5*most, 2*wide[len(wide)/2]))
	if reach == 0 {
		return 1
	}
	return reach
}

// intervalPlot draws an interval with its mean; without caps where it is cut.
type intervalPlot struct {
	interval
	y, reach float64
	verdict  Verdict
}

// Plot implements plot.Plotter.
func (i intervalPlot) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	col := color.RGBA{110, 110, 110, 255}
	switch i.verdict {
	case Lower:
		col = color.RGBA{0, 130, 95, 255}
	case Higher:
		col = color.RGBA{190, 60, 0, 255}
	case Unclear, TooSmall:
	}
	style := draw.LineStyle{Color: col, Width: 1.5}
	low, high := max(i.low, -i.reach), min(i.high, i.reach)
	c.StrokeLine2(style, x(low), y(i.y), x(high), y(i.y))
	for _, end := range []float64{i.low, i.high} {
		if math.Abs(end) <= i.reach {
			c.StrokeLine2(style, x(end), y(i.y)-3, x(end), y(i.y)+3)
		}
	}
	c.DrawGlyph(draw.GlyphStyle{Color: col, Radius: 3, Shape: draw.CircleGlyph{}}, vg.Point{X: x(i.mean), Y: y(i.y)})
}

// render writes SVG; a legend stands to the right.
func render(p *plot.Plot, legend bool, width, height vg.Length) ([]byte, error) {
	formatted := vgsvg.New(width, height)
	canvas := draw.New(formatted)
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	canvas = draw.Crop(canvas, 8, -8, 6, -8)
	if legend {
		l := p.Legend
		l.Top, l.Left, l.Padding, l.ThumbnailWidth = true, true, 3, 24
		wide := min(l.Rectangle(canvas).Size().X+12, width/2)
		l.Draw(draw.Crop(canvas, canvas.Size().X-wide+12, 0, 0, -24))
		p.Legend = plot.NewLegend() // drawn already
		canvas = draw.Crop(canvas, 0, -wide, 0, 0)
	}
	p.Draw(canvas)
	var b bytes.Buffer
	if _, err := formatted.WriteTo(&b); err != nil {
		return nil, err
	}
	// A reader of SVG without the font takes one with serifs unless told.
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,sans-serif;")), nil
}
