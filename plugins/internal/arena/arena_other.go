//go:build !linux

package arena

import (
	"os"

	"github.com/cockroachdb/errors"
)

func create(uint64) (*os.File, []byte, error) {
	return nil, nil, errors.Wrap(ErrUnsupported, "this system has no sealed memory")
}

func inherit(uintptr, uint64) ([]byte, error) {
	return nil, errors.Wrap(ErrUnsupported, "this system has no sealed memory")
}

func release([]byte, uint64, uint64) {}

func discard([]byte) {}
