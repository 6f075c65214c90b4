package gguf

import (
	"os"

	"github.com/cockroachdb/errors"
)

// WriteSplit writes a file in parts of at most maxBytes each, named as PartPath
// says, which Open reads as one; where all fits, it writes the one file path
// as WriteFile does. A part holds at least one tensor, so one that is larger
// makes a larger part. The first part carries meta, whose keys of splitting,
// if it has any, are left out for those that are true here; the others carry
// the alignment.
//
// It returns the paths that it wrote. Each part is written whole or not at
// all; if one fails, those written before are removed again. Errors are those
// of WriteFile, and ErrFormat for more than 1,000 parts.
func WriteSplit(path string, meta []KV, tensors []TensorInfo, maxBytes int64) ([]string, error) {
	meta = withoutSplitting(meta)
	if _, _, _, err := layout(meta, tensors); err != nil {
		return nil, err
	}
	if maxBytes <= 0 {
		return nil, unwritable("parts of at most %d bytes", maxBytes)
	}
	groups, err := groupsOf(meta, tensors, maxBytes)
	if err != nil {
		return nil, err
	}
	if len(groups) == 1 {
		if err := WriteFile(path, meta, tensors); err != nil {
			return nil, err
		}
		return []string{path}, nil
	}
	if len(groups) > maxParts {
		return nil, errors.WithHint(errors.Wrapf(ErrFormat, "parts of at most %d bytes make %d files, at most %d are allowed", maxBytes, len(groups), maxParts),
			"allow larger parts; nothing was written")
	}
	var paths []string
	for i, group := range groups {
		p := PartPath(path, i, len(groups))
		if err := WriteFile(p, partMetadata(meta, i, len(groups), len(tensors)), group); err != nil {
			for _, written := range paths {
				err = errors.CombineErrors(err, os.Remove(written))
			}
			return nil, err
		}
		paths = append(paths, p)
	}
	return paths, nil
}

// groupsOf cuts tensors, which layout accepted, where a part would take more
// than maxBytes.
func groupsOf(meta []KV, tensors []TensorInfo, maxBytes int64) ([][]TensorInfo, error) {
	align, _ := alignment(meta)
	var groups [][]TensorInfo
	var head, data int64 // bytes of the part being filled
	first := 0           // its first tensor
	for i, t := range tensors {
		size, err := t.Type.Bytes(t.Shape)
		if err != nil {
			return nil, err
		}
		size = pad(size, align)
		description := int64(24 + len(t.Name) + 8*max(1, len(t.Shape)))
		if i > first && size > maxBytes-data-pad(head+description, align) {
			groups = append(groups, tensors[first:i])
			first = i
		}
		if i == first {
			if head, err = headerBytes(partMetadata(meta, len(groups), 0, 0)); err != nil {
				return nil, err
			}
			data = 0
		}
		head += description
		data += size
	}
	return append(groups, tensors[first:]), nil
}

// headerBytes returns the size of a header without tensors and padding.
func headerBytes(meta []KV) (int64, error) {
	head, err := appendMetadata(nil, meta)
	return 24 + int64(len(head)), err
}

// partMetadata is the metadata of part i of n with so many tensors in all.
func partMetadata(meta []KV, i, n, tensors int) []KV {
	var kvs []KV
	for _, kv := range withoutSplitting(meta) {
		if i == 0 || kv.Key == KeyAlignment {
			kvs = append(kvs, kv)
		}
	}
	return append(kvs, KV{KeySplitNo, uint16(i)}, KV{KeySplitCount, uint16(n)}, KV{KeySplitTensors, int32(tensors)})
}
