package report

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/atomicfile"
)

// Files are what Write writes. The SVG files are left out where there is
// nothing to draw.
var Files = []string{"report.html", "report.md", "report.json", "results.csv", lossFile, differenceFile}

// Write makes the report of in and writes its files to dir, which it makes. It
// returns the errors of Make.
func Write(dir string, in Input) error {
	r, err := Make(in)
	if err != nil {
		return err
	}
	_, err = r.Write(dir)
	return err
}

// Write writes the report's files to dir, which it makes, and returns their
// names; each is replaced as a whole.
func (r *Report) Write(dir string) ([]string, error) {
	charts := r.charts()
	pictures, err := r.pictures(charts)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, errors.WithHint(errors.Wrap(err, "make the directory of the report"), "name a directory that you may write to with --out")
	}
	var written []string
	to := func(name string, fn func(io.Writer) error) {
		if err == nil {
			err = atomicfile.Write(filepath.Join(dir, name), fn)
			written = append(written, name)
		}
	}
	to("report.html", func(w io.Writer) error { return r.html(w, charts) })
	to("report.md", func(w io.Writer) error { _, err := io.WriteString(w, r.Markdown(pictures)); return err })
	to("report.json", r.writeJSON)
	to("results.csv", r.CSV)
	for _, p := range pictures {
		to(p.File, func(w io.Writer) error { _, err := w.Write(p.SVG); return err })
	}
	if err != nil {
		return nil, err
	}
	return written, removeStale(dir, written)
}

// removeStale removes the pictures of an earlier report that this one does not
// have.
func removeStale(dir string, written []string) error {
	for _, name := range []string{lossFile, differenceFile} {
		if slices.Contains(written, name) {
			continue
		}
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return errors.Wrap(err, "remove the picture of an earlier report")
		}
	}
	return nil
}

func (r *Report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return errors.Wrap(e.Encode(r), "write JSON")
}

// HTML writes the page.
func (r *Report) HTML(w io.Writer) error { return r.html(w, r.charts()) }

// String is the summary in Markdown.
func (r *Report) String() string { return strings.TrimRight(r.Summary(), "\n") + "\n" }
