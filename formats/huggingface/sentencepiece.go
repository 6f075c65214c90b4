package huggingface

import (
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ternlm/tern/tokenizer"
)

const (
	maxTokenizer = 64 << 20 // bytes of a tokenizer file
	maxText      = 1 << 16  // bytes of a token
	bpeModel     = 2        // TrainerSpec.ModelType
)

// ParseSentencePiece reads a tokenizer.model: a ModelProto of SentencePiece
// (sentencepiece_model.proto), of the type BPE. The normalizer's rules are not
// applied by tern, as by llama.cpp; models of LLaMA's kind have none. AddBOS is
// true, what files beside it may change. Errors are ErrFormat, and
// ErrUnsupported for other types of model.
func ParseSentencePiece(data []byte) (*tokenizer.Vocabulary, error) {
	s := spModel{kind: 1, unk: 0, bos: 1, eos: 2, pad: -1, prefix: true}
	if err := message(data, s.model); err != nil {
		return nil, err
	}
	if len(s.tokens) == 0 {
		return nil, malformed("tokenizer.model: no pieces")
	}
	if s.kind != bpeModel {
		return nil, unsupported("tokenizer.model: SentencePiece model of type %d, not BPE", s.kind)
	}
	v := &tokenizer.Vocabulary{
		Model: "llama", Pre: "default", Tokens: s.tokens, Types: s.types, Scores: s.scores,
		BOS: s.id(s.bos), EOS: s.id(s.eos), UNK: s.id(s.unk), PAD: s.id(s.pad), AddBOS: true, AddSpacePrefix: s.prefix,
	}
	return v, nil
}

// spModel is what is read of a ModelProto.
type spModel struct {
	tokens             []string
	scores             []float32
	types              []int32
	kind               int64
	unk, bos, eos, pad int64
	prefix             bool
}

// id is a special id, or -1 for one that is no token.
func (s *spModel) id(v int64) int32 {
	if v < 0 || v >= int64(len(s.tokens)) {
		return -1
	}
	return int32(v)
}

func (s *spModel) model(f field) error {
	switch f.num {
	case 1:
		return s.piece(f)
	case 2: // trainer_spec
		return f.message(func(f field) error {
			into := map[protowire.Number]*int64{3: &s.kind, 40: &s.unk, 41: &s.bos, 42: &s.eos, 43: &s.pad}[f.num]
			if into == nil {
				return nil
			}
			if f.typ != protowire.VarintType {
				return malformed("tokenizer.model: trainer_spec field %d is no integer", f.num)
			}
			*into = int64(int32(f.number))
			return nil
		})
	case 3: // normalizer_spec
		return f.message(func(f field) error {
			if f.num == 3 {
				s.prefix = f.number != 0
			}
			return nil
		})
	}
	return nil
}

func (s *spModel) piece(f field) error {
	id := len(s.tokens)
	if id == maxTokens {
		return malformed("tokenizer.model: more than %d pieces", maxTokens)
	}
	text, score, kind := "", float32(0), int32(tokenizer.TokenNormal)
	err := f.message(func(f field) error {
		switch f.num {
		case 1:
			text = string(f.bytes)
		case 2:
			score = math.Float32frombits(uint32(f.number))
		case 3:
			kind = int32(f.number)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case text == "" || len(text) > maxText || !utf8.ValidString(text):
		return malformed("tokenizer.model: the text of piece %d is empty, longer than %d bytes or not UTF-8", id, maxText)
	case score != score:
		return malformed("tokenizer.model: the score of piece %d is no number", id)
	case kind < tokenizer.TokenNormal || kind > tokenizer.TokenByte:
		return malformed("tokenizer.model: piece %d is of type %d", id, kind)
	case kind == tokenizer.TokenByte && !isByte(text):
		return malformed("tokenizer.model: piece %d, %q, is of type byte", id, text)
	}
	s.tokens, s.scores, s.types = append(s.tokens, text), append(s.scores, score), append(s.types, kind)
	return nil
}

// isByte reports whether a token is written as a byte, "<0x0A>".
func isByte(text string) bool {
	var b byte
	n, err := fmt.Sscanf(text, "<0x%02X>", &b)
	return n == 1 && err == nil && text == byteName(int(b))
}

func byteName(b int) string { return fmt.Sprintf("<0x%02X>", b) }

// field is one field of a protocol buffer's message; of number and bytes the
// one that its type has is set.
type field struct {
	num    protowire.Number
	typ    protowire.Type
	number uint64
	bytes  []byte
}

// message calls fn for each field of the message that f holds.
func (f field) message(fn func(field) error) error {
	if f.typ != protowire.BytesType {
		return malformed("tokenizer.model: field %d is no message", f.num)
	}
	return message(f.bytes, fn)
}

// message calls fn for each field of a message.
func message(b []byte, fn func(field) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return malformed("tokenizer.model: no protocol buffer: %v", protowire.ParseError(n))
		}
		b = b[n:]
		f := field{num: num, typ: typ}
		switch typ {
		case protowire.VarintType:
			f.number, n = protowire.ConsumeVarint(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			f.number = uint64(v)
		case protowire.BytesType:
			f.bytes, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return malformed("tokenizer.model: field %d: %v", num, protowire.ParseError(n))
		}
		b = b[n:]
		if err := fn(f); err != nil {
			return err
		}
	}
	return nil
}
