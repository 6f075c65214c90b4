package tinystories

import (
	_ "embed" // for the two files
	"sync"

	"github.com/cockroachdb/errors"
	"github.com/klauspost/compress/zstd"
)

// The number of stories in Train and in Valid.
const (
	TrainStories = 8826
	ValidStories = 1000
)

//go:embed train.txt.zst
var trainZst []byte

//go:embed valid.txt.zst
var validZst []byte

var (
	train = sync.OnceValues(func() ([]byte, error) { return unpack(trainZst) })
	valid = sync.OnceValues(func() ([]byte, error) { return unpack(validZst) })
)

// Train returns 8,826 stories of the training split (7.4 MB of UTF-8), each
// closed by a line <|endoftext|>. The caller must not change the bytes.
func Train() ([]byte, error) { return train() }

// Valid returns the first 1,000 stories of the validation split, in order and
// in the form of Train. None of them is in Train.
func Valid() ([]byte, error) { return valid() }

func unpack(packed []byte) ([]byte, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, errors.Wrap(err, "open the TinyStories sample")
	}
	defer d.Close()
	text, err := d.DecodeAll(packed, nil)
	return text, errors.Wrap(err, "unpack the TinyStories sample")
}
