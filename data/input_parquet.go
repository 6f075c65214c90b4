package data

import (
	"io"

	"github.com/cockroachdb/errors"
	"github.com/parquet-go/parquet-go"
)

// readParquet reads one column of strings, page by page.
func (p *preparer) readParquet(r io.ReaderAt, size int64, name string) (err error) {
	defer func() {
		if r := recover(); r != nil { // the library panics on some broken files
			err = brokenParquet(errors.Newf("%v", r))
		}
	}()
	f, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return brokenParquet(err)
	}
	column, err := textColumn(f, p.o.Field)
	if err != nil {
		return err
	}
	p.source = &source{name: name, unit: "row", check: true}
	row, start := int64(1), p.done
	for i, group := range f.RowGroups() {
		p.done = start + size*int64(i)/int64(len(f.RowGroups()))
		n, err := p.readChunk(group.ColumnChunks()[column], row)
		if err != nil {
			return err
		}
		row += n
	}
	return nil
}

// readChunk reads the strings of one column chunk, whose first is in row.
func (p *preparer) readChunk(chunk parquet.ColumnChunk, row int64) (rows int64, err error) {
	pages := chunk.Pages()
	defer func() { err = errors.CombineErrors(err, pages.Close()) }()
	values := make([]parquet.Value, 256)
	for {
		page, err := pages.ReadPage()
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return rows, brokenParquet(err)
		}
		n, err := p.readPage(page, values, row+rows)
		parquet.Release(page)
		rows += n
		if err != nil {
			return rows, err
		}
	}
}

func (p *preparer) readPage(page parquet.Page, values []parquet.Value, row int64) (rows int64, err error) {
	r := page.Values()
	for {
		n, err := r.ReadValues(values)
		for _, v := range values[:n] {
			if !v.IsNull() {
				if len(v.ByteArray()) > p.size.record {
					return rows, errors.WithHint(errors.Wrapf(ErrTooLarge, "row %d: more than %d MiB", row+rows, p.size.record>>20), "split that text")
				}
				if err := p.add(v.ByteArray(), row+rows, true, true); err != nil {
					return rows, err
				}
			}
			rows++
		}
		if err == io.EOF {
			return rows, nil
		}
		if err != nil {
			return rows, brokenParquet(err)
		}
		if n == 0 {
			return rows, brokenParquet(io.ErrNoProgress)
		}
	}
}

// textColumn returns the index of the column that holds the text.
func textColumn(f *parquet.File, want string) (int, error) {
	var names, texts []string
	index := map[string]int{}
	for _, c := range f.Root().Columns() {
		if !c.Leaf() {
			continue
		}
		if c.Repeated() || c.Type().Kind() != parquet.ByteArray {
			if c.Name() == want {
				return 0, errors.WithHint(errors.Wrapf(ErrFormat, "column %q holds no strings", want), "name a column of strings")
			}
			continue
		}
		names = append(names, c.Name())
		index[c.Name()] = c.Index()
		if t := c.Type().LogicalType(); t != nil && t.String() == "STRING" {
			texts = append(texts, c.Name())
		}
	}
	if len(texts) == 0 { // old writers do not annotate strings
		texts = names
	}
	name, err := pickField(names, texts, want)
	if err != nil {
		return 0, err
	}
	return index[name], nil
}

func brokenParquet(err error) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, "parquet: %v", err), "the file is damaged or cut short: copy it again")
}
