package huggingface

import (
	"bytes"
	"encoding/json"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/regularfile"
)

// readBounded returns a file's bytes, at most limit of them. Errors are
// ErrNotFound, ErrFormat and those of the file system.
func readBounded(path string, limit int64) ([]byte, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	if size > limit {
		err := malformed("%s has %d bytes, at most %d are read", filepath.Base(path), size, limit)
		return nil, errors.CombineErrors(err, f.Close())
	}
	data := make([]byte, size)
	if n, err := io.ReadFull(f, data); err != nil {
		err := malformed("%s: %d of %d bytes read: %v", filepath.Base(path), n, size, err)
		return nil, errors.CombineErrors(err, f.Close())
	}
	return data, f.Close()
}

func openRegular(path string) (io.ReadCloser, int64, error) {
	f, size, err := regularfile.Open(path)
	switch {
	case errors.Is(err, regularfile.ErrIrregular):
		return nil, 0, malformed("%v", err)
	case err != nil:
		return nil, 0, notFound(err)
	}
	return f, size, nil
}

// fields are the members of a JSON object. Its getters take a default for a
// member that is absent or null and keep the first error, which names the member.
type fields struct {
	prefix  string // of names in errors: the file, and the object within it
	members map[string]json.RawMessage
	err     *error
}

// parseFields reads a JSON object.
func parseFields(file string, data []byte) fields {
	var err error
	f := fields{prefix: file + ": ", err: &err}
	if e := json.Unmarshal(data, &f.members); e != nil || f.members == nil {
		err = malformed("%s is no JSON object: %v", file, e)
	}
	return f
}

func (f fields) fail(name, format string, args ...any) {
	if *f.err == nil {
		*f.err = errors.Wrapf(malformed(format, args...), "%s%s", f.prefix, name)
	}
}

// raw returns a member, or nil if it is absent or null.
func (f fields) raw(name string) json.RawMessage {
	if v := f.members[name]; len(v) > 0 && string(v) != "null" {
		return v
	}
	return nil
}

func (f fields) has(name string) bool { return f.raw(name) != nil }

// short is a value for an error message.
func short(v json.RawMessage) string { return string(v[:min(len(v), 40)]) }

// number reads a finite number in [lo, hi].
func (f fields) number(name string, absent, lo, hi float64) float64 {
	v := f.raw(name)
	if v == nil {
		return absent
	}
	x, err := strconv.ParseFloat(string(v), 64)
	if err != nil || math.IsInf(x, 0) || x != x {
		f.fail(name, "%s is no number", short(v))
		return absent
	}
	if x < lo || x > hi {
		f.fail(name, "%v is not in %v..%v", x, lo, hi)
		return absent
	}
	return x
}

// integer reads a whole number in [lo, hi], which fit a float64.
func (f fields) integer(name string, absent, lo, hi int) int {
	x := f.number(name, float64(absent), float64(lo), float64(hi))
	if x != math.Trunc(x) {
		f.fail(name, "%v is no whole number", x)
		return absent
	}
	return int(x)
}

// numbers reads a list of n finite numbers in [lo, hi].
func (f fields) numbers(name string, n int, lo, hi float64) (list []float64) {
	f.decode(name, "a list of numbers", &list)
	if len(list) != n {
		f.fail(name, "%d numbers, wants %d", len(list), n)
	}
	for _, x := range list {
		if !(x >= lo && x <= hi) {
			f.fail(name, "%v is not in %v..%v", x, lo, hi)
		}
	}
	return list
}

func (f fields) boolean(name string, absent bool) bool {
	f.decode(name, "true or false", &absent)
	return absent
}

func (f fields) text(name, absent string) string {
	f.decode(name, "a text", &absent)
	return absent
}

func (f fields) texts(name string) (list []string) {
	f.decode(name, "a list of texts", &list)
	return list
}

func (f fields) decode(name, what string, into any) {
	if v := f.raw(name); v != nil {
		if err := json.Unmarshal(v, into); err != nil {
			f.fail(name, "%s is not %s", short(v), what)
		}
	}
}

// object reads a member that is an object; one without members if it is absent.
func (f fields) object(name string) fields {
	sub := fields{prefix: f.prefix + name + ".", err: f.err}
	f.decode(name, "an object", &sub.members)
	return sub
}

// eachMember calls fn for every member of the object that data is, in order,
// and stops after limit of them; fn decodes the value from d. Unlike
// json.Unmarshal it takes no memory for what is too much.
func eachMember(data []byte, limit int, fn func(key string, d *json.Decoder) error) error {
	return each(data, '{', limit, func(d *json.Decoder) error {
		tok, err := d.Token()
		if err != nil {
			return malformed("%v", err)
		}
		key, _ := tok.(string)
		return fn(key, d)
	})
}

// eachElement is eachMember for the elements of an array.
func eachElement(data []byte, limit int, fn func(d *json.Decoder) error) error {
	return each(data, '[', limit, fn)
}

func each(data []byte, open json.Delim, limit int, fn func(d *json.Decoder) error) error {
	if !json.Valid(data) { // also bounds the depth
		return malformed("no JSON")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if tok, err := d.Token(); err != nil || tok != open {
		return malformed("%v where %v should be", tok, open)
	}
	for n := 0; d.More(); n++ {
		if n == limit {
			return malformed("more than %d entries", limit)
		}
		if err := fn(d); err != nil {
			return err
		}
	}
	return nil
}

// encode returns indented JSON with a line feed at the end, as Python's json
// writes it with an indent of 2.
func encode(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, unwritable("%v", err)
	}
	return []byte(b.String()), nil
}
