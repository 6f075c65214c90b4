package main

import (
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	plottext "gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/ternlm/tern/diagnose"
)

// Sizes of a picture of matrices. A sub-layer is a column of two tiles under
// its name: its matrix, and below it the product up to there.
const (
	tilesAcross = 8
	tileGap     = 0.2 * vg.Centimeter
	tileName    = 0.5 * vg.Centimeter // above the tiles
	sideRoom    = 0.9 * vg.Centimeter // for what the rows are, at the left
	barRoom     = 2.4 * vg.Centimeter // for a bar of colors, at the right
	headRoom    = 1.5 * vg.Centimeter
)

// tileSide has room for the elements' numbers up to eight streams.
func tileSide(streams int) vg.Length {
	return min(5.2, max(2, 0.65*vg.Length(streams))) * vg.Centimeter
}

// mixingSize is the size of the picture of so many sub-layers.
func mixingSize(subLayers, streams int) (width, height vg.Length) {
	side := tileSide(streams)
	across, down := min(subLayers, tilesAcross), (subLayers+tilesAcross-1)/tilesAcross
	width = sideRoom + vg.Length(max(4, across))*(side+tileGap) + barRoom
	return width, headRoom + vg.Length(down)*(tileName+2*side+2*tileGap) + tileGap
}

// plotMixing draws the matrices of r to path.
func plotMixing(path string, r residualReport) error {
	width, height := mixingSize(len(r.SubLayers), r.Streams)
	formatted, err := draw.NewFormattedCanvas(width, height, filepath.Ext(path)[1:])
	if err != nil {
		return err
	}
	p := mixingPlot{
		canvas: draw.New(formatted), side: tileSide(r.Streams), streams: r.Streams,
		mixing: scaleOf(r.Mixing), composite: scaleOf(r.Composite),
	}
	p.canvas.SetColor(color.White)
	p.canvas.Fill(p.canvas.Rectangle.Path())
	p.label(vg.Point{X: sideRoom, Y: height - 0.35*vg.Centimeter}, 11, draw.XLeft, draw.YTop, color.Black, "mixing of "+r.Residual+", "+filepath.Base(r.Model))
	about := "row i of a matrix makes stream i; below each, the product up to there"
	if r.Sampled > 0 {
		about += fmt.Sprintf("; means over %d tokens", r.Sampled)
	}
	p.label(vg.Point{X: sideRoom, Y: height - 0.9*vg.Centimeter}, 8, draw.XLeft, draw.YTop, color.Gray{90}, about)
	for l, name := range r.SubLayers {
		x := sideRoom + vg.Length(l%tilesAcross)*(p.side+tileGap)
		y := height - headRoom - vg.Length(l/tilesAcross)*(tileName+2*p.side+2*tileGap)
		p.label(vg.Point{X: x + p.side/2, Y: y - 0.6*tileName}, 8, draw.XCenter, draw.YCenter, color.Black, name)
		y -= tileName
		if l%tilesAcross == 0 {
			p.rowNames(y)
		}
		p.tile(vg.Point{X: x, Y: y}, r.Mixing[l].Values, p.mixing)
		p.tile(vg.Point{X: x, Y: y - p.side - tileGap/2}, r.Composite[l].Values, p.composite)
	}
	x := width - barRoom + 0.3*vg.Centimeter
	y := height - headRoom - tileName
	p.bar(vg.Point{X: x, Y: y}, "matrix", p.mixing)
	p.bar(vg.Point{X: x, Y: y - p.side - tileGap/2}, "product", p.composite)
	return writePicture(path, formatted)
}

// mixingPlot draws tiles.
type mixingPlot struct {
	canvas            draw.Canvas
	side              vg.Length
	streams           int
	mixing, composite colorScale
}

// tile draws matrix m below and to the right of at.
func (p mixingPlot) tile(at vg.Point, m [][]float64, s colorScale) {
	cell := p.side / vg.Length(p.streams)
	size := min(9, cell/(5*0.58)) // five characters across
	for i, row := range m {
		for j, v := range row {
			x, y := at.X+vg.Length(j)*cell, at.Y-vg.Length(i)*cell
			fill := s.color(s.position(v))
			p.rectangle(x, y-cell, x+cell, y, fill)
			if p.streams <= 8 {
				p.label(vg.Point{X: x + cell/2, Y: y - cell/2}, size, draw.XCenter, draw.YCenter, readableOn(fill), element(v))
			}
		}
	}
	frame := draw.LineStyle{Color: color.Gray{140}, Width: 0.5}
	x, y := at.X+p.side, at.Y-p.side
	p.canvas.StrokeLines(frame, []vg.Point{at, {X: x, Y: at.Y}, {X: x, Y: y}, {X: at.X, Y: y}, at})
}

// rowNames says at the left what two rows of tiles are.
func (p mixingPlot) rowNames(y vg.Length) {
	for i, name := range []string{"matrix", "product"} {
		s := p.style(8, draw.XCenter, draw.YCenter, color.Gray{90})
		s.Rotation = math.Pi / 2
		p.canvas.FillText(s, vg.Point{X: sideRoom / 2, Y: y - p.side/2 - vg.Length(i)*(p.side+tileGap/2)}, name)
	}
}

// bar draws the colors of a scale under its name, together as high as a tile.
func (p mixingPlot) bar(at vg.Point, name string, s colorScale) {
	const steps, ticks = 64, 4
	p.label(at, 7, draw.XLeft, draw.YTop, color.Gray{90}, name)
	wide, high, foot := 0.4*vg.Centimeter, p.side-0.55*vg.Centimeter, at.Y-p.side
	for i := range steps {
		y := foot + high*vg.Length(i)/steps
		p.rectangle(at.X, y, at.X+wide, foot+high, s.color((float64(i)+0.5)/steps))
	}
	for i := range ticks + 1 {
		part := float64(i) / ticks
		p.label(vg.Point{X: at.X + wide + 4, Y: foot + high*vg.Length(part)}, 7, draw.XLeft, draw.YCenter, color.Black, element(s.value(part)))
	}
}

func (p mixingPlot) rectangle(x0, y0, x1, y1 vg.Length, c color.Color) {
	p.canvas.FillPolygon(c, []vg.Point{{X: x0, Y: y0}, {X: x1, Y: y0}, {X: x1, Y: y1}, {X: x0, Y: y1}})
}

func (p mixingPlot) style(size vg.Length, x plottext.XAlignment, y plottext.YAlignment, c color.Color) plottext.Style {
	s := plot.New().Title.TextStyle
	s.Font.Variant, s.Font.Size, s.XAlign, s.YAlign, s.Color = sans, size, x, y, c
	return s
}

func (p mixingPlot) label(at vg.Point, size vg.Length, x plottext.XAlignment, y plottext.YAlignment, c color.Color, s string) {
	p.canvas.FillText(p.style(size, x, y, c), at, s)
}

// colorScale gives numbers colors: from white at 0 to blue, and to red below 0
// if there are such. One that reaches far is logarithmic beyond 1.
type colorScale struct {
	most   float64
	signed bool
	log    bool
}

// scaleOf is the scale of the elements of ms.
func scaleOf(ms []diagnose.Matrix) colorScale {
	s := colorScale{most: 1}
	for _, m := range ms {
		for _, v := range slices.Concat(m.Values...) {
			s.most = max(s.most, math.Abs(v))
			s.signed = s.signed || v < -diagnose.Tolerance
		}
	}
	s.log = s.most > 10
	return s
}

// position is where v lies between the ends of the scale, 0 to 1.
func (s colorScale) position(v float64) float64 {
	x := math.Abs(v) / s.most
	if s.log {
		x = math.Log1p(math.Abs(v)) / math.Log1p(s.most)
	}
	if s.signed {
		return 0.5 + math.Copysign(min(1, x), v)/2
	}
	return min(1, x)
}

// value is the inverse of position.
func (s colorScale) value(x float64) float64 {
	if s.signed {
		x = 2*x - 1
	}
	if s.log {
		return math.Copysign(math.Expm1(math.Abs(x)*math.Log1p(s.most)), x)
	}
	return x * s.most
}

// color is that of a position.
func (s colorScale) color(x float64) color.RGBA {
	end := palette[0]
	if s.signed {
		if x = 2*x - 1; x < 0 {
			x, end = -x, color.RGBA{178, 40, 40, 255}
		}
	}
	mix := func(c uint8) uint8 { return uint8(255 - x*float64(255-c) + 0.5) }
	return color.RGBA{mix(end.R), mix(end.G), mix(end.B), 255}
}

// readableOn is black or white, whichever is told from c.
func readableOn(c color.RGBA) color.Color {
	if 0.299*float64(c.R)+0.587*float64(c.G)+0.114*float64(c.B) < 140 {
		return color.White
	}
	return color.Black
}

// element writes an element in at most five characters.
func element(v float64) string {
	switch x := math.Abs(v); {
	case x < 0.005:
		return "0"
	case x < 9.995:
		return fmt.Sprintf("%.2f", v)
	case x < 99.95:
		return fmt.Sprintf("%.1f", v)
	case x < 9999.5:
		return fmt.Sprintf("%.0f", v)
	}
	return strings.ReplaceAll(strings.Replace(fmt.Sprintf("%.0e", v), "+0", "", 1), "+", "")
}
