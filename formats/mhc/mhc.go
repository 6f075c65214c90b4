package mhc

import (
	"encoding/binary"
	"io"
	"math"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/internal/atomicfile"
	"github.com/ternlm/tern/internal/regularfile"
)

// ErrFormat reports bytes that are no well-formed .mhc file, or a File that
// cannot be written as one; test for it with errors.Is.
var ErrFormat = errors.New("mhc: malformed file")

const (
	magic      = 0x6D484321
	headerSize = 16
)

// MaxSubLayers is the largest number of sub-layers that a file may have.
const MaxSubLayers = 10_000

// Params are the parameters of one sub-layer, in the file's order.
type Params struct {
	Res        []float32 // streams 2: [1], the logit of alpha; streams 4: [24], a logit for each permutation, lexicographic, identity first
	PreLogits  []float32 // [streams]
	PreBias    []float32 // [streams]
	PostLogits []float32 // [streams]
	PostBias   []float32 // [streams]
}

// fields lists the slices of p in the file's order.
func (p *Params) fields() [5]*[]float32 {
	return [5]*[]float32{&p.Res, &p.PreLogits, &p.PreBias, &p.PostLogits, &p.PostBias}
}

// File is the content of a .mhc file.
type File struct {
	Version   uint32   // 1 or 2
	Streams   int      // 2 or 4
	SubLayers []Params // attention, then FFN, of each block in turn
}

// ResSize returns the number of logits that mix streams: 1 for 2 streams, 24
// (the permutations of 4) for 4, 0 for any other number.
func ResSize(streams int) int {
	switch streams {
	case 2:
		return 1
	case 4:
		return 24
	}
	return 0
}

// Size returns the size in bytes of a file: 880 for 24 sub-layers of 2
// streams.
func Size(subLayers, streams int) int {
	return headerSize + 4*subLayers*(ResSize(streams)+4*streams)
}

// malformed returns an ErrFormat that says what is wrong.
func malformed(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrFormat, format, args...),
		"the file is damaged or no .mhc file: export it again from the checkpoint")
}

// check returns what keeps a header from being one.
func check(version uint32, subLayers, streams uint64) error {
	switch {
	case version != 1 && version != 2:
		return malformed("version %d is not supported, only 1 and 2 are", version)
	case subLayers == 0 || subLayers > MaxSubLayers:
		return malformed("%d sub-layers, 1 to %d are allowed", subLayers, MaxSubLayers)
	case streams != 2 && streams != 4:
		return malformed("%d streams, only 2 and 4 are supported", streams)
	}
	return nil
}

// Read reads a whole file from r, to its end. Sizes that do not fit, values
// that are not finite and bytes after the end are ErrFormat; what r returns is
// wrapped.
func Read(r io.Reader) (*File, error) {
	var head [headerSize]byte
	if err := fill(r, head[:], "header"); err != nil {
		return nil, err
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(head[4*i:]) }
	if word(0) != magic {
		return nil, malformed("the file begins with %#08x, not with %#08x", word(0), uint32(magic))
	}
	if err := check(word(1), uint64(word(2)), uint64(word(3))); err != nil {
		return nil, err
	}
	f := &File{Version: word(1), Streams: int(word(3))}
	n := f.Streams
	buf := make([]byte, 4*(ResSize(n)+4*n))
	for i := range int(word(2)) {
		if err := fill(r, buf, "sub-layer"); err != nil {
			return nil, errors.Wrapf(err, "sub-layer %d of %d", i, word(2))
		}
		vals := make([]float32, len(buf)/4)
		for j := range vals {
			vals[j] = math.Float32frombits(binary.LittleEndian.Uint32(buf[4*j:]))
		}
		if err := finite(i, vals); err != nil {
			return nil, err
		}
		var p Params
		for k, s := range p.fields() {
			m := n
			if k == 0 {
				m = ResSize(n)
			}
			*s, vals = vals[:m:m], vals[m:]
		}
		f.SubLayers = append(f.SubLayers, p)
	}
	if m, err := io.ReadFull(r, head[:1]); m != 0 || !errors.Is(err, io.EOF) {
		return nil, malformed("bytes after the last sub-layer at byte %d", Size(len(f.SubLayers), n))
	}
	return f, nil
}

// fill reads len(p) bytes; fewer are an ErrFormat.
func fill(r io.Reader, p []byte, what string) error {
	n, err := io.ReadFull(r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("%s: %d of %d bytes, then the file ends", what, n, len(p))
	}
	return errors.Wrapf(err, "read mhc %s", what)
}

func finite(subLayer int, vals []float32) error {
	for j, v := range vals {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return malformed("sub-layer %d: value %d is %v", subLayer, j, v)
		}
	}
	return nil
}

// Write writes f. A File that Read would refuse is ErrFormat, and then nothing
// is written; what w returns is wrapped.
func Write(w io.Writer, f *File) error {
	if err := check(f.Version, uint64(len(f.SubLayers)), uint64(f.Streams)); err != nil {
		return err
	}
	out := make([]byte, 0, Size(len(f.SubLayers), f.Streams))
	for _, v := range []uint32{magic, f.Version, uint32(len(f.SubLayers)), uint32(f.Streams)} {
		out = binary.LittleEndian.AppendUint32(out, v)
	}
	for i := range f.SubLayers {
		for k, s := range f.SubLayers[i].fields() {
			want := f.Streams
			if k == 0 {
				want = ResSize(f.Streams)
			}
			if len(*s) != want {
				return malformed("sub-layer %d: parameter %d has %d values, %d are needed for %d streams", i, k, len(*s), want, f.Streams)
			}
			if err := finite(i, *s); err != nil {
				return err
			}
			for _, v := range *s {
				out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
			}
		}
	}
	_, err := w.Write(out)
	return errors.Wrap(err, "write mhc")
}

// Open reads the file at path, which must be a regular file.
func Open(path string) (*File, error) {
	r, _, err := regularfile.Open(path)
	switch {
	case errors.Is(err, regularfile.ErrIrregular):
		return nil, malformed("%v", err)
	case err != nil:
		return nil, errors.Wrap(err, "open mhc")
	}
	f, err := Read(r)
	return f, errors.Wrapf(errors.CombineErrors(err, r.Close()), "read %s", path)
}

// WriteFile writes f to path whole or not at all.
func WriteFile(path string, f *File) error {
	return atomicfile.Write(path, func(w io.Writer) error { return Write(w, f) })
}
