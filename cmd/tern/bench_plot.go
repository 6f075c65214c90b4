package main

import (
	"bytes"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	plottext "gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/ternlm/tern/internal/atomicfile"
)

// plotFormats are the files that --plot writes.
var plotFormats = []string{".svg", ".png"}

// checkPlot refuses a name that says no format, and a directory in which no file
// can be made: it makes one.
func checkPlot(path string) error {
	if path == "" {
		return nil
	}
	if !slices.Contains(plotFormats, filepath.Ext(path)) {
		return usagef("name FILE.svg or FILE.png", "--plot %s", path)
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return usagef("name FILE.svg or FILE.png", "--plot %s is a directory", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tern-plot-")
	if err != nil {
		return usagef("the directory "+filepath.Dir(path)+" must exist, and be writable", "--plot %s: %v", path, err)
	}
	return errors.CombineErrors(f.Close(), os.Remove(f.Name()))
}

// plotBench draws each part that was measured: to path, or where there are
// several to files with the part in their names.
func (a *app) plotBench(path string, r benchReport) error {
	var parts []string
	for _, p := range benchParts {
		if len(partOf(r.Rows, p)) > 0 {
			parts = append(parts, p)
		}
	}
	for _, part := range parts {
		to := path
		if len(parts) > 1 {
			ext := filepath.Ext(path)
			to = strings.TrimSuffix(path, ext) + "-" + part + ext
		}
		if err := plotPart(to, part+", "+cpuName(r), partOf(r.Rows, part)); err != nil {
			return errors.Wrapf(err, "draw %s", to)
		}
		a.note("drawn: %s", to)
	}
	return nil
}

// Sizes of a picture.
const (
	panelHeight = 9 * vg.Centimeter
	legendWidth = 4.5 * vg.Centimeter
	titleHeight = 1 * vg.Centimeter
)

// plotPart draws a panel for each series, one above the other, with its legend
// to the right.
func plotPart(path, title string, rows []benchRow) error {
	var charts []*chart
	for len(rows) > 0 {
		mine, rest := []benchRow{}, []benchRow{}
		for _, r := range rows {
			if r.Series == rows[0].Series {
				mine = append(mine, r)
			} else {
				rest = append(rest, r)
			}
		}
		charts, rows = append(charts, newChart(mine)), rest
	}
	width := charts[0].width() + legendWidth
	height := titleHeight + vg.Length(len(charts))*panelHeight
	formatted, err := draw.NewFormattedCanvas(width, height, filepath.Ext(path)[1:])
	if err != nil {
		return err
	}
	canvas := draw.New(formatted)
	canvas.SetColor(color.White)
	canvas.Fill(canvas.Rectangle.Path())
	heading := plot.New().Title.TextStyle
	heading.Font.Variant, heading.Font.Size = sans, 14
	heading.XAlign, heading.YAlign = draw.XCenter, draw.YTop
	canvas.FillText(heading, vg.Point{X: width / 2, Y: height - 6}, title)
	for i, c := range charts {
		p, err := c.draw()
		if err != nil {
			return err
		}
		top := height - titleHeight - vg.Length(i)*panelHeight
		panel := draw.Crop(canvas, 6, -6, top-panelHeight, top-height)
		p.Legend.Draw(draw.Crop(panel, panel.Size().X-legendWidth+12, 0, 0, -24))
		p.Legend = plot.NewLegend() // drawn already
		p.Draw(draw.Crop(panel, 0, -legendWidth, 6, 0))
	}
	return writePicture(path, formatted)
}

// writePicture writes what was drawn to a file.
func writePicture(path string, c vg.CanvasWriterTo) error {
	var picture bytes.Buffer
	if _, err := c.WriteTo(&picture); err != nil {
		return err
	}
	// A reader of SVG without the font takes one with serifs unless told.
	return atomicfile.WriteBytes(path, bytes.ReplaceAll(picture.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,sans-serif;")))
}

// chart is the rows of a series by place (such as a shape) and line (such as
// ours on two threads).
type chart struct {
	title, unit string
	places      []string
	lines       []chartLine
}

// chartLine holds a value for each place, NaN where there is none.
type chartLine struct {
	name   string
	kind   lineKind
	color  color.Color
	values []float64
}

type lineKind int

const (
	lineOurs lineKind = iota
	linePeer
	lineScalar
	linePeak
)

func newChart(rows []benchRow) *chart {
	c := &chart{title: rows[0].Series, unit: rows[0].Unit}
	var threads []int
	for _, r := range rows {
		if !slices.Contains(c.places, r.Name) {
			c.places = append(c.places, r.Name)
		}
		if !slices.Contains(threads, r.Threads) {
			threads = append(threads, r.Threads)
		}
	}
	peers := peerNames(rows)
	peaks := map[int][]float64{}
	for _, r := range rows {
		on, shade := onText(r.Threads), shadeOf(len(threads) > 1 && r.Threads == threads[0])
		c.set("tern, "+on, lineOurs, shade(palette[0]), r.Name, r.Rate.Median)
		for _, p := range r.Peers {
			c.set(p.Name+", "+on, linePeer, shade(palette[1+slices.Index(peers, p.Name)%(len(palette)-1)]), r.Name, p.Rate.Median)
		}
		if r.Scalar != nil {
			c.set("scalar, "+on, lineScalar, shade(color.RGBA{110, 110, 110, 255}), r.Name, r.Scalar.Rate.Median)
		}
		peak := r.Rate.Median * r.Above // the rate at the floor
		switch {
		case r.Above == 0 || r.Part == "tokenizer":
			continue
		case r.Part == "kernels" || r.Part == "gemm": // one level for all shapes
			peaks[r.Threads] = append(peaks[r.Threads], r.Limits[0].Rate.Median)
			peak = summarize(peaks[r.Threads]).Median
		}
		c.set("limit, "+on, linePeak, shade(color.RGBA{190, 40, 40, 255}), r.Name, peak)
		if f := peaks[r.Threads]; f != nil {
			c.level("limit, "+on, peak)
		}
	}
	slices.SortStableFunc(c.lines, func(a, b chartLine) int { return int(a.kind) - int(b.kind) })
	return c
}

// shadeOf makes a color lighter for the first of several numbers of threads.
func shadeOf(light bool) func(color.RGBA) color.Color {
	return func(c color.RGBA) color.Color {
		if !light {
			return c
		}
		lighter := func(v uint8) uint8 { return uint8(255 - (255-int(v))*11/20) }
		return color.RGBA{lighter(c.R), lighter(c.G), lighter(c.B), 255}
	}
}

// set puts a value in its line.
func (c *chart) set(name string, kind lineKind, of color.Color, place string, v float64) {
	i := slices.IndexFunc(c.lines, func(l chartLine) bool { return l.name == name })
	if i < 0 {
		i = len(c.lines)
		c.lines = append(c.lines, chartLine{name, kind, of, slices.Repeat([]float64{math.NaN()}, len(c.places))})
	}
	c.lines[i].values[slices.Index(c.places, place)] = v
}

// level makes what a line has the same everywhere.
func (c *chart) level(name string, v float64) {
	for _, l := range c.lines {
		if l.name == name {
			for i := range l.values {
				if !math.IsNaN(l.values[i]) {
					l.values[i] = v
				}
			}
		}
	}
}

// curves is whether there are enough places for lines; else there are bars.
func (c *chart) curves() bool { return len(c.places) > 3 }

// width has room for the names of the places.
func (c *chart) width() vg.Length {
	each := 2.2
	for _, name := range c.places {
		each = max(each, 0.21*float64(len(name))+0.3)
	}
	return max(12, vg.Length(each*float64(len(c.places))+3)) * vg.Centimeter
}

// sans is the variant of the fonts.
const sans = "Sans"

// draw draws the chart. Squares that double are as far apart as on a
// logarithmic axis.
func (c *chart) draw() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.Title.Padding = c.title, 8
	p.Y.Label.Text = c.unit
	for _, s := range []*plottext.Style{&p.Title.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
		s.Font.Variant, s.Font.Size = sans, 10
	}
	p.NominalX(c.places...)
	p.X.Tick.Label.Font.Variant, p.X.Padding = sans, 6
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = color.Gray{225}
	p.Add(grid)
	p.Legend.Top, p.Legend.Left, p.Legend.Padding, p.Legend.ThumbnailWidth = true, true, 3, 24
	bars, place := 0, 0
	for _, l := range c.lines {
		if l.kind != linePeak {
			bars++
		}
	}
	for _, l := range c.lines {
		var err error
		switch {
		case l.kind == linePeak && !c.curves():
			err = c.addLevel(p, l)
		case c.curves():
			err = c.addCurve(p, l)
		default:
			err = c.addBars(p, l, place, bars)
			place++
		}
		if err != nil {
			return nil, err
		}
	}
	p.X.Min, p.X.Max = -0.5, float64(len(c.places))-0.5
	p.Y.Min, p.Y.Max = 0, 1.08*c.most()
	p.Y.Tick.Marker = plot.ConstantTicks(roundTicks(p.Y.Max))
	return p, nil
}

// roundTicks are four to ten multiples of 1, 2 or 5 times a power of ten.
func roundTicks(most float64) []plot.Tick {
	step := math.Pow(10, math.Floor(math.Log10(most/4)))
	for _, f := range []float64{5, 2} {
		if most/(f*step) >= 4 {
			step *= f
			break
		}
	}
	var ticks []plot.Tick
	for i := 0; float64(i)*step <= most; i++ {
		v := float64(i) * step
		label := strconv.FormatFloat(v, 'g', 3, 64)
		if v >= 1000 {
			label = strconv.FormatFloat(v, 'f', 0, 64)
		}
		ticks = append(ticks, plot.Tick{Value: v, Label: label})
	}
	return ticks
}

// most is the largest value.
func (c *chart) most() float64 {
	var m float64
	for _, l := range c.lines {
		for _, v := range l.values {
			if v > m {
				m = v
			}
		}
	}
	return m
}

// palette is of Okabe and Ito's colors, told apart by people who see colors
// differently.
var palette = []color.RGBA{{0, 90, 160, 255}, {200, 120, 0, 255}, {0, 130, 95, 255}, {180, 90, 140, 255}, {120, 100, 0, 255}}

// style gives limits and peers dashes.
func (l chartLine) style() draw.LineStyle {
	s := draw.LineStyle{Color: l.color, Width: 1.8}
	switch l.kind {
	case linePeer:
		s.Dashes = []vg.Length{6, 2}
	case linePeak:
		s.Dashes, s.Width = []vg.Length{2, 3}, 1.4
	case lineOurs, lineScalar:
	}
	return s
}

func (c *chart) addCurve(p *plot.Plot, l chartLine) error {
	var at plotter.XYs
	for x, v := range l.values {
		if !math.IsNaN(v) {
			at = append(at, plotter.XY{X: float64(x), Y: v})
		}
	}
	line, points, err := plotter.NewLinePoints(at)
	if err != nil {
		return err
	}
	line.LineStyle = l.style()
	points.GlyphStyle = draw.GlyphStyle{Color: line.Color, Radius: 2.5, Shape: draw.CircleGlyph{}}
	p.Add(line)
	if l.kind == linePeak {
		p.Legend.Add(l.name, line)
		return nil
	}
	p.Add(points)
	p.Legend.Add(l.name, line, points)
	return nil
}

// addLevel draws a peak over the bars of each place.
func (c *chart) addLevel(p *plot.Plot, l chartLine) error {
	for x, v := range l.values {
		if math.IsNaN(v) {
			continue
		}
		line, err := plotter.NewLine(plotter.XYs{{X: float64(x) - 0.45, Y: v}, {X: float64(x) + 0.45, Y: v}})
		if err != nil {
			return err
		}
		line.LineStyle = l.style()
		p.Add(line)
		if x == 0 {
			p.Legend.Add(l.name, line)
		}
	}
	return nil
}

// addBars draws the bars of a line beside those of the others, with their
// values.
func (c *chart) addBars(p *plot.Plot, l chartLine, place, of int) error {
	room := (c.width() - 3*vg.Centimeter) / vg.Length(len(c.places))
	width := 0.8 * room / vg.Length(of)
	offset := width * vg.Length(float64(place)-float64(of-1)/2)
	values := make(plotter.Values, len(l.values))
	var tops plotter.XYLabels
	for x, v := range l.values {
		if !math.IsNaN(v) {
			values[x] = v
			tops.XYs, tops.Labels = append(tops.XYs, plotter.XY{X: float64(x), Y: v}), append(tops.Labels, number(v))
		}
	}
	b, err := plotter.NewBarChart(values, width)
	if err != nil {
		return err
	}
	b.Color, b.LineStyle.Width, b.Offset = l.color, 0, offset
	labels, err := plotter.NewLabels(tops)
	if err != nil {
		return err
	}
	for i := range labels.TextStyle {
		s := &labels.TextStyle[i]
		s.Font.Variant, s.Font.Size, s.XAlign = sans, 8, draw.XCenter
	}
	labels.Offset = vg.Point{X: offset, Y: 2}
	p.Add(b, labels)
	p.Legend.Add(l.name, b)
	return nil
}
