package plugins

import (
	"io"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/framework"
	"github.com/ternlm/tern/framework/tensor"
)

// chunkLen is the most data in a message that is sent, in bytes. Buffers of up
// to 1 MiB, the rest of the message included, gRPC uses again.
const chunkLen = 1<<20 - 4<<10

// ErrReply is returned when a backend answers with what was not asked for, such
// as a tensor of another size.
var ErrReply = errors.New("plugin answered with what was not asked for")

// errLength is a number of bytes that is not the promised one.
var errLength = errors.Wrap(framework.ErrMismatch, "wrong number of bytes")

// pieces calls send with data in chunks.
func pieces(data []byte, send func([]byte) error) error {
	for len(data) > 0 {
		n := min(len(data), chunkLen)
		if err := send(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

// gather receives exactly n bytes and the end. It takes memory only for what has
// come: n is the other side's word.
func gather(n uint64, next func() ([]byte, error)) ([]byte, error) {
	data := tensor.AlignedBytes(int(min(n, 2*chunkLen)))[:0]
	for {
		piece, err := next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		if uint64(len(piece)) > n-uint64(len(data)) {
			return nil, errors.Wrapf(errLength, "more than %d", n)
		}
		if room := cap(data) - len(data); len(piece) > room {
			grown := tensor.AlignedBytes(int(min(n, uint64(2*cap(data)+len(piece)))))[:len(data)]
			copy(grown, data)
			data = grown
		}
		data = append(data, piece...)
	}
	if uint64(len(data)) != n {
		return nil, errors.Wrapf(errLength, "%d of %d", len(data), n)
	}
	return data, nil
}

// receive fills parts, one after another, with exactly what comes.
func receive(parts [][]byte, next func() ([]byte, error)) error {
	for {
		piece, err := next()
		for len(parts) > 0 && len(parts[0]) == 0 {
			parts = parts[1:]
		}
		switch {
		case errors.Is(err, io.EOF) && len(parts) == 0:
			return nil
		case errors.Is(err, io.EOF):
			return errors.Wrap(errLength, "too few")
		case err != nil:
			return err
		}
		for len(piece) > 0 {
			if len(parts) == 0 {
				return errors.Wrap(errLength, "too many")
			}
			n := copy(parts[0], piece)
			piece = piece[n:]
			if parts[0] = parts[0][n:]; len(parts[0]) == 0 {
				parts = parts[1:]
			}
		}
	}
}

// lied makes a wrong number of bytes from the plugin a breach of the protocol.
func lied(err error) error {
	if errors.Is(err, errLength) {
		return errors.Mark(err, ErrReply)
	}
	return err
}
