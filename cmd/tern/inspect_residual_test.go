package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"image"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ternlm/tern/diagnose"
	"github.com/ternlm/tern/model"
)

func TestInspectResidualMeasuresTheModelThatShips(t *testing.T) {
	out, err := inspect(t, "residual", "--window", "32", "--backend", "scalar", "--json")
	if err != nil {
		t.Fatal(err)
	}
	var r residualReport
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	n := len(r.SubLayers)
	if n == 0 || r.SubLayers[1] != "blk.0.ffn" || r.Streams != 2 || !r.Claimed || r.Windows != 2 || r.Window != 32 || r.Sampled != 0 {
		t.Errorf("%+v", r)
	}
	for what, have := range map[string]int{
		"rms": len(r.RMS), "gradient": len(r.GradientRMS), "divergence": len(r.Divergence), "cosine": len(r.Cosine),
		"dominant": len(r.Dominant), "mixing": len(r.Mixing), "composite": len(r.Composite),
	} {
		if have != n {
			t.Errorf("%d of %s for %d sub-layers", have, what, n)
		}
	}
	if math.Abs(r.CompositeGain-1) > 1e-6 || r.Violations != 0 || len(r.Mixing[0].Values) != 2 || r.GradientRMS[0] == 0 {
		t.Errorf("gain %v, %d violations, matrix %v", r.CompositeGain, r.Violations, r.Mixing[0].Values)
	}
	text, err := inspect(t, "residual", "--window", "32", "--backend", "scalar")
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, text, "residual  mhclite:streams=2", "the same at every token", "SUB-LAYER", "COMPOSITE GAIN", "blk.0.attn", "1.000000",
		r.SubLayers[n-1], "composite gain 1.000000; not doubly stochastic within 1e-05: the matrices of 0 of")
}

// report makes one of so many sub-layers.
func fakeReport(subLayers, streams int, value func(l, i, j int) float64) residualReport {
	r := residualReport{Model: "some/model.gguf", Residual: "fake", Streams: streams}
	for l := range subLayers {
		m := diagnose.Matrix{Values: make([][]float64, streams)}
		for i := range m.Values {
			for j := range streams {
				m.Values[i] = append(m.Values[i], value(l, i, j))
			}
		}
		r.SubLayers = append(r.SubLayers, model.SubLayer(l))
		r.Mixing, r.Composite = append(r.Mixing, m), append(r.Composite, m)
	}
	return r
}

func TestHeatMapIsAPictureOfItsSize(t *testing.T) {
	r := fakeReport(48, 4, func(l, i, j int) float64 { return float64(i-j) * math.Pow(3, float64(l)/4) })
	path := filepath.Join(t.TempDir(), "mixing.png")
	if err := plotMixing(path, r); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	picture, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	// Eight tiles of 2.6 cm across and six pairs of them down, at 96 dots an inch.
	width, height := 25.7/2.54*96, 38.3/2.54*96
	if got := picture.Bounds().Size(); math.Abs(float64(got.X)-width) > 1 || math.Abs(float64(got.Y)-height) > 1 {
		t.Errorf("%v, want %.0f x %.0f", got, width, height)
	}
	if n := differentColors(picture); n < 50 {
		t.Errorf("%d colors", n)
	}
}

func differentColors(p image.Image) int {
	seen := map[[3]uint32]bool{}
	for y := range p.Bounds().Dy() {
		for x := range p.Bounds().Dx() {
			r, g, b, _ := p.At(x, y).RGBA()
			seen[[3]uint32{r, g, b}] = true
		}
	}
	return len(seen)
}

func TestHeatMapAsSVGNamesWhatItShows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mixing.svg")
	r := fakeReport(3, 2, func(_, i, j int) float64 { return []float64{0.9, 0.1}[(i+j)%2] })
	r.Composite = fakeReport(3, 2, func(_, i, j int) float64 { return []float64{0.6, 0.4}[(i+j)%2] }).Composite
	r.Sampled = 16
	if err := plotMixing(path, r); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]int{}
	for d := xml.NewDecoder(strings.NewReader(string(data))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := token.(xml.CharData); ok {
			words[strings.TrimSpace(string(s))]++
		}
	}
	for w, n := range map[string]int{
		"mixing of fake, model.gguf": 1, "blk.0.attn": 1, "blk.1.attn": 1, "0.90": 6, "0.10": 6, "0.60": 6, "0.40": 6,
		"matrix": 2, "product": 2, "1.00": 2, // rows of tiles, and bars
	} {
		if words[w] != n {
			t.Errorf("%q is %d times in the picture, want %d", w, words[w], n)
		}
	}
	if !strings.Contains(string(data), "means over 16 tokens") {
		t.Error("the picture does not say that it shows means")
	}
}

func TestColorsFollowNumbers(t *testing.T) {
	plain := colorScale{most: 2}
	signed := colorScale{most: 2, signed: true}
	far := colorScale{most: 1000, log: true, signed: true}
	for _, c := range []struct {
		s    colorScale
		v, x float64
	}{
		{plain, 0, 0},
		{plain, 1, 0.5},
		{plain, -1e-9, 0},
		{signed, 0, 0.5},
		{signed, -2, 0},
		{signed, 1, 0.75},
		{far, 0, 0.5},
		{far, 1000, 1},
		{far, math.Sqrt(1001) - 1, 0.75},
	} {
		if got := c.s.position(c.v); math.Abs(got-c.x) > 1e-8 {
			t.Errorf("%+v: %v is at %v, want %v", c.s, c.v, got, c.x)
		}
		if got := c.s.value(c.x); math.Abs(got-c.v) > 1e-8*max(1, math.Abs(c.v)) {
			t.Errorf("%+v: at %v is %v, want %v", c.s, c.x, got, c.v)
		}
	}
	if c := signed.color(0.5); c.R != 255 || c.G != 255 || c.B != 255 {
		t.Errorf("0 is %v, not white", c)
	}
	if lo, hi := signed.color(0), signed.color(1); lo.R < lo.B || hi.B < hi.R {
		t.Errorf("below 0 is %v, above %v", lo, hi)
	}
	for v, want := range map[float64]string{0: "0", 1e-4: "0", 1: "1.00", -0.25: "-0.25", 12.34: "12.3", -123: "-123", 3.8e13: "4e13", 2e4: "2e4"} {
		if got := element(v); got != want {
			t.Errorf("%v is written %q, want %q", v, got, want)
		}
	}
}
