// Package tokenizer turns text into ids and ids into text.
//
//	tok, err := tokenizer.Open("gpt2:4096")
//	ids := tok.EncodeString("Once upon a time")
//	text := tok.Decode(ids)
package tokenizer

import "github.com/cockroachdb/errors"

// ErrUnknown is returned for a name that no tokenizer has.
var ErrUnknown = errors.New("unknown tokenizer")
