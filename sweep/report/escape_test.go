package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ternlm/tern/sweep"
)

func pageOf(t *testing.T, in Input) string {
	t.Helper()
	var b bytes.Buffer
	if err := mustMake(t, in).HTML(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// loads are the ways in which a page asks for something outside.
var loads = regexp.MustCompile(`(?i)(<(link|img|iframe|object|embed|audio|video|source|base)\b|\bsrc\s*=|\bhref\s*=|@import|url\s*\(|\bfetch\s*\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|importScripts|\bimport\s*\()`)

func TestPageLoadsNothing(t *testing.T) {
	p := pageOf(t, made("usual", usual, 3, 40))
	if m := loads.FindString(p); m != "" {
		t.Errorf("the page has %q", m)
	}
	if !strings.Contains(p, `content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"`) {
		t.Error("no policy forbids requests")
	}
	if !loads.MatchString(`<script src="x">`) || !loads.MatchString(`a{background:url(x)}`) {
		t.Error("the test finds nothing")
	}
}

// Everything that strangers may write is hostile here.
func hostileInput() Input {
	in := troubled()
	in.Plan.Name, in.Plan.Command, in.Plan.CreatedBy, in.Dir = hostile, hostile+"\n```\n", hostile, hostile
	for i := range in.Outcomes {
		if r := in.Outcomes[i].Result; r != nil {
			r.Program, r.Host, r.Backend = hostile, hostile, hostile
			r.Diagnosis = json.RawMessage(`{"<script>": 1, "</script>": [1, 2]}`)
		}
		in.Outcomes[i].Evaluation.Values = map[string][]float64{hostile: make([]float64, in.Outcomes[i].Evaluation.Len())}
		in.Outcomes[i].Problem, in.Outcomes[i].Log = hostile, hostile
	}
	return in
}

func TestPageHasTextOfStrangersAsText(t *testing.T) {
	p := pageOf(t, hostileInput())
	if n, want := strings.Count(p, "<script"), 3; n != want {
		t.Errorf("%d scripts begin, want %d", n, want)
	}
	if n, want := strings.Count(p, "</script"), 3; n != want {
		t.Errorf("%d scripts end, want %d", n, want)
	}
	for _, bad := range []string{"<img", "<b>", "\u202e"} {
		if strings.Contains(p, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if !strings.Contains(p, "&lt;img src=http://evil.example/x onerror=alert(1)&gt;") {
		t.Error("the name is not there")
	}
}

func TestDataOfThePageIsWhatIsDrawn(t *testing.T) {
	p := pageOf(t, hostileInput())
	_, rest, _ := strings.Cut(p, `<script type="application/json" id="data">`)
	text, _, _ := strings.Cut(rest, "</script>")
	var c curves
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	if len(c.Cells) != 7 || !strings.Contains(c.Cells[6].Name, "</script><img") {
		t.Errorf("%+v", c.Cells)
	}
}

func TestTablesNeedNoScript(t *testing.T) {
	p := pageOf(t, made("usual", usual, 3, 40))
	still := regexp.MustCompile(`(?s)<script.*?</script>`).ReplaceAllString(p, "")
	for _, want := range []string{"<table>", "residual=mhclite quant=ternary", "4,204,000", "<noscript>", lossFile, "tern sweep run runs/usual"} {
		if !strings.Contains(still, want) {
			t.Errorf("without scripts there is no %q", want)
		}
	}
}

func TestPicturesAreWholeXMLWithNamesAsText(t *testing.T) {
	r := mustMake(t, hostileInput())
	all, err := r.pictures(mustMake(t, troubled()).charts())
	if err != nil || len(all) != 2 {
		t.Fatal(len(all), err)
	}
	for _, p := range all {
		d := xml.NewDecoder(bytes.NewReader(p.SVG))
		var text strings.Builder
		for {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", p.File, err)
			}
			switch e := token.(type) {
			case xml.StartElement:
				if n := strings.ToLower(e.Name.Local); n == "script" || n == "img" || n == "image" {
					t.Errorf("%s has an element %s", p.File, n)
				}
			case xml.CharData:
				text.Write(e)
			}
		}
		if !strings.Contains(text.String(), "</script><img src=http:") {
			t.Errorf("%s does not name the cell: %q", p.File, text.String())
		}
	}
}

// What CommonMark makes of the right is the left, but for what is no printable
// character (checked with markdown-it
// 14, html and linkify on).
func TestMarkdownHasTextOfStrangersAsText(t *testing.T) {
	for s, want := range map[string]string{
		"residual=mhc_lite:streams=4": "residual=mhc_lite:streams=4",
		"a|b":                         `a\|b`,
		"_a_ *b* `c`":                 `\_a\_ \*b\* ` + "\\`c\\`",
		"[x](http://e.example)":       `\[x\](http\://e.example)`,
		"<b>":                         `\<b>`,
		"<0.0001":                     "<0.0001",
		"&amp;":                       `\&amp;`,
		`a\|b`:                        `a\\\|b`,
		"a\nb\x00\u202e":              "a b  ",
		"www.e.example":               `www\.e.example`,
		"a@e.example":                 `a\@e.example`,
		"~~x~~ $y$":                   `\~\~x\~\~ \$y\$`,
		"\xff":                        "\uFFFD",
	} {
		if got := escapeMarkdown(s); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

func TestMarkdownTablesKeepTheirColumns(t *testing.T) {
	border := regexp.MustCompile(`\\.|\|`)
	columns := func(line string) (n int) {
		for _, m := range border.FindAllString(line, -1) {
			if m == "|" {
				n++
			}
		}
		return n
	}
	text := mustMake(t, hostileInput()).Markdown(nil)
	want := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			want = 0
			continue
		}
		if n := columns(line); want == 0 {
			want = n
		} else if n != want {
			t.Errorf("%d borders and not %d: %s", n, want, line)
		}
	}
	if fences := regexp.MustCompile("(?m)^````?(sh)?$").FindAllString(text, -1); len(fences) != 2 || fences[0] != fences[1]+"sh" {
		t.Errorf("the commands are fenced by %q", fences)
	}
}

func TestAssetsAreThoseOfTheNote(t *testing.T) {
	note, err := os.ReadFile("assets/NOTE")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"uPlot.iife.min.js": uPlotJS, "uPlot.min.css": uPlotCSS, "LICENSE.uPlot": uPlotLicense} {
		sum := sha256.Sum256([]byte(text))
		if !strings.Contains(string(note), fmt.Sprintf("%s  %s", hex.EncodeToString(sum[:]), name)) {
			t.Errorf("%s is not the one of assets/NOTE", name)
		}
	}
	if p := pageOf(t, made("usual", usual, 2, 8)); !strings.Contains(p, "Permission is hereby granted") || !strings.Contains(p, "Copyright (c) 2022 Leon Sorokin") {
		t.Error("the page does not have the licence of what it embeds")
	}
}

func TestLinesOfStrangersAreShortAndPrintable(t *testing.T) {
	if got := oneLine("a\t\x1b[31mb\n\u202ec"+strings.Repeat("x", 100), 12); got != "a [31mb cxx…" {
		t.Errorf("%q", got)
	}
	if got := lastLine("step 1\nerror: that\nhint: do this\n\n"); got != "error: that" {
		t.Errorf("%q", got)
	}
	u := Unfinished{State: sweep.Failed, Error: strings.Repeat("é", 5000)}
	if got := u.reason(); len([]rune(got)) != 300 {
		t.Errorf("%d", len([]rune(got)))
	}
}
