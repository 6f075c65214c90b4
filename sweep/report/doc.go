// Package report compares the cells of a sweep: tables, paired statistics and
// curves as Markdown, JSON, CSV, SVG and one page of HTML.
package report
