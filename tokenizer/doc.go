// Package tokenizer turns text into ids and ids into text.
//
//	tok, err := tokenizer.Open("gpt2:4096")
//	ids := tok.EncodeString("Once upon a time")
//	text := tok.Decode(ids)
//
// Open names GPT-2's vocabulary and its parts; New makes the tokenizer of a
// vocabulary that a model's file describes: byte-level BPE or SentencePiece's.
package tokenizer

import "github.com/cockroachdb/errors"

// ErrUnknown is returned for a name that no tokenizer has.
var ErrUnknown = errors.New("unknown tokenizer")
