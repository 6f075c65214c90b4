package mhc

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
)

// numbered returns a file whose values count up in the file's order from 1.
func numbered(version uint32, streams, subLayers int) *File {
	f := &File{Version: version, Streams: streams}
	next := float32(1)
	take := func(n int) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i], next = next, next+1
		}
		return out
	}
	for range subLayers {
		p := Params{Res: take(map[int]int{2: 1, 4: 24}[streams])}
		p.PreLogits, p.PreBias = take(streams), take(streams)
		p.PostLogits, p.PostBias = take(streams), take(streams)
		f.SubLayers = append(f.SubLayers, p)
	}
	return f
}

// byHand builds the bytes of numbered after the format's description.
func byHand(version, streams uint32, subLayers, values int) []byte {
	b := []byte{0x21, 0x43, 0x48, 0x6D}
	for _, v := range []uint32{version, uint32(subLayers), streams} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	for i := range subLayers * values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(i+1)))
	}
	return b
}

func TestLayoutIsTheDescribedOne(t *testing.T) {
	for _, c := range []struct {
		version, streams uint32
		subLayers        int
		values, bytes    int
	}{{1, 2, 24, 9, 880}, {2, 2, 24, 9, 880}, {2, 4, 24, 40, 16 + 24*160}, {1, 2, 1, 9, 52}} {
		f := numbered(c.version, int(c.streams), c.subLayers)
		var b bytes.Buffer
		if err := Write(&b, f); err != nil {
			t.Fatal(err)
		}
		if b.Len() != c.bytes || Size(c.subLayers, int(c.streams)) != c.bytes {
			t.Errorf("%d sub-layers of %d streams: %d bytes, Size %d, want %d", c.subLayers, c.streams, b.Len(), Size(c.subLayers, int(c.streams)), c.bytes)
		}
		want := byHand(c.version, c.streams, c.subLayers, c.values)
		if !bytes.Equal(b.Bytes(), want) {
			t.Errorf("%d streams: bytes differ from those by hand", c.streams)
		}
		got, err := Read(bytes.NewReader(want))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestReadRefusesHostileFiles(t *testing.T) {
	sound := byHand(2, 2, 3, 9)
	with := func(at int, v uint32) []byte {
		b := bytes.Clone(sound)
		binary.LittleEndian.PutUint32(b[at:], v)
		return b
	}
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"magic":             {with(0, 0x6D484322), "begins with"},
		"magic reversed":    {with(0, 0x2143486D), "begins with"},
		"version 0":         {with(4, 0), "version 0"},
		"version 3":         {with(4, 3), "version 3"},
		"no sub-layers":     {with(8, 0), "sub-layers"},
		"too many":          {with(8, 10_001), "10001 sub-layers"},
		"as many as can be": {with(8, math.MaxUint32), "sub-layers"},
		"three streams":     {with(12, 3), "3 streams"},
		"no streams":        {with(12, 0), "0 streams"},
		"four streams":      {with(12, 4), "ends"},
		"one more":          {with(8, 4), "ends"},
		"one fewer":         {with(8, 2), "after the last"},
		"not a number":      {with(16+4*10, 0x7fc00000), "sub-layer 1: value 1"},
		"infinite":          {with(len(sound)-4, 0xff800000), "sub-layer 2: value 8"},
		"trailing byte":     {append(bytes.Clone(sound), 0), "after the last"},
	} {
		_, err := Read(bytes.NewReader(c.data))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v, want something with %q and a hint", name, err, c.says)
		}
	}
	for n := range sound {
		if _, err := Read(bytes.NewReader(sound[:n])); !errors.Is(err, ErrFormat) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

// zeros never ends.
type zeros struct{ n int }

func (z *zeros) Read(p []byte) (int, error) {
	clear(p)
	z.n += len(p)
	return len(p), nil
}

func TestReadStopsAtWhatTheHeaderSays(t *testing.T) {
	z := &zeros{}
	_, err := Read(io.MultiReader(bytes.NewReader(byHand(2, 2, MaxSubLayers, 9)[:16]), z))
	if !errors.Is(err, ErrFormat) || z.n > Size(MaxSubLayers, 2)+1 {
		t.Fatalf("%v after %d bytes", err, z.n)
	}
}

func TestWriteRefusesWhatReadWould(t *testing.T) {
	for name, spoil := range map[string]func(*File){
		"version":      func(f *File) { f.Version = 3 },
		"streams":      func(f *File) { f.Streams = 3 },
		"negative":     func(f *File) { f.Streams = -2 },
		"no layers":    func(f *File) { f.SubLayers = nil },
		"too many":     func(f *File) { f.SubLayers = make([]Params, MaxSubLayers+1) },
		"short":        func(f *File) { f.SubLayers[1].PreBias = f.SubLayers[1].PreBias[:1] },
		"no res":       func(f *File) { f.SubLayers[0].Res = nil },
		"not a number": func(f *File) { f.SubLayers[1].PostBias[1] = float32(math.NaN()) },
		"infinite":     func(f *File) { f.SubLayers[1].Res[0] = float32(math.Inf(-1)) },
	} {
		f := numbered(1, 2, 2)
		spoil(f)
		var b bytes.Buffer
		if err := Write(&b, f); !errors.Is(err, ErrFormat) || b.Len() != 0 {
			t.Errorf("%s: %v after %d bytes", name, err, b.Len())
		}
	}
}

func TestFilesOnDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "model.mhc")
	f := numbered(1, 4, 2)
	if err := WriteFile(path, f); err != nil {
		t.Fatal(err)
	}
	got, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Open(dir); !errors.Is(err, ErrFormat) {
		t.Errorf("directory: %v", err)
	}
	if _, err := Open(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	f.Version = 9
	if err := WriteFile(path, f); !errors.Is(err, ErrFormat) {
		t.Errorf("bad version: %v", err)
	}
	if got, err := Open(path); err != nil || got.Version != 1 {
		t.Errorf("a failed write touched the file: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(byHand(1, 2, 3, 9))
	f.Add(byHand(2, 4, 1, 40))
	f.Add([]byte("\x21CHm"))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := Read(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		var b bytes.Buffer
		if err := Write(&b, x); err != nil || !bytes.Equal(b.Bytes(), data) {
			t.Fatalf("written again, the bytes differ (%v)", err)
		}
	})
}
