package process

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"strings"

	"github.com/cockroachdb/errors"
)

// maxImage bounds the size of a program in bytes.
const maxImage = 1 << 30

// image is a program that was hashed and can be run.
type image struct {
	path string // what to run
	sum  string
	file *os.File // sealed copy, or nil
}

func (im *image) close() {
	if im.file != nil {
		_ = im.file.Close()
	}
}

// load hashes the program, into a sealed copy where the system has such.
func load(path, want string) (*image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.WithHint(errors.Wrapf(ErrStart, "%v", err), "is the plugin installed?")
	}
	defer func() { _ = f.Close() }()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.Wrapf(ErrStart, "%s is no file", path)
	case st.Size() > maxImage:
		return nil, errors.Wrapf(ErrStart, "%s has %d bytes, at most %d are allowed", path, st.Size(), maxImage)
	}
	im := &image{path: path}
	var w io.Writer = io.Discard
	if c, run, err := sealable(); err == nil {
		im.file, im.path = c, run
		w = c
	}
	n, sum, err := copyHashed(w, f)
	if err == nil && n > maxImage {
		err = errors.Wrapf(ErrStart, "%s grew while it was read", path)
	}
	if err == nil && im.file != nil {
		err = seal(im.file)
	}
	im.sum = hex.EncodeToString(sum)
	if err == nil && want != "" && !strings.EqualFold(want, im.sum) {
		err = errors.WithHint(errors.Wrapf(ErrPin, "%s has sha256 %s, pinned is %s", path, im.sum, want),
			"if you built or replaced it yourself, install it again; else find out who did")
	}
	if err != nil {
		im.close()
		return nil, err
	}
	return im, nil
}

// copyHashed copies at most one byte more than maxImage and hashes what it
// copied, both at once: the start of a plugin waits for it.
func copyHashed(w io.Writer, r io.Reader) (n int64, sum []byte, err error) {
	h := sha256.New()
	full, free, done := make(chan []byte, 2), make(chan []byte, 2), make(chan struct{})
	free <- make([]byte, 1<<20)
	free <- make([]byte, 1<<20)
	go func() {
		defer close(done)
		for p := range full {
			h.Write(p)
			free <- p[:cap(p)]
		}
	}()
	for n <= maxImage && err == nil {
		p := <-free
		var k int
		if k, err = r.Read(p); k > 0 {
			_, werr := w.Write(p[:k])
			n += int64(k)
			err = cmp.Or(werr, err)
		}
		full <- p[:k]
	}
	close(full)
	<-done
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, h.Sum(nil), err
}
