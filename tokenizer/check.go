package tokenizer

import (
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/cockroachdb/errors"
)

const (
	// MaxTokens is the number of tokens that a vocabulary may have.
	MaxTokens = 1 << 20

	maxMerges          = 1 << 21
	maxVocabularyBytes = 64 << 20 // of tokens and merges

	modelGPT2  = "gpt2"
	modelLlama = "llama"
)

// ErrVocabulary is returned for a vocabulary that no tokenizer can be made of.
var ErrVocabulary = errors.New("unusable vocabulary")

func vocabularyError(format string, args ...any) error {
	return errors.WithHint(errors.Wrapf(ErrVocabulary, format, args...), "the file's tokenizer is damaged or of another kind: convert the model again")
}

// check returns the split of v after it has looked at all that New takes for
// granted, but for the merges, which it only counts.
func check(v *Vocabulary) (s split, err error) {
	switch {
	case v == nil:
		return s, vocabularyError("there is none")
	case v.Model == modelGPT2:
		if s, err = splitOf(v.Pre); err != nil {
			return s, err
		}
	case v.Model != modelLlama:
		return s, errors.WithHint(errors.Wrapf(ErrUnknown, "model of tokenizer %q", v.Model), `tokenizer.ggml.model may be "gpt2" or "llama"`)
	}
	n := len(v.Tokens)
	switch {
	case n == 0 || n > MaxTokens:
		return s, vocabularyError("it has %d tokens, between 1 and %d are allowed", n, MaxTokens)
	case len(v.Types) != 0 && len(v.Types) != n:
		return s, vocabularyError("%d tokens have %d types", n, len(v.Types))
	case len(v.Scores) != 0 && len(v.Scores) != n:
		return s, vocabularyError("%d tokens have %d scores", n, len(v.Scores))
	case len(v.Merges) > maxMerges:
		return s, vocabularyError("it has %d merges, at most %d are allowed", len(v.Merges), maxMerges)
	}
	if err := checkSpecial(v); err != nil {
		return s, err
	}
	return s, checkTokens(v)
}

// checkSpecial looks at the ids with a meaning.
func checkSpecial(v *Vocabulary) error {
	for _, id := range []struct {
		name  string
		id    int32
		asked bool
	}{{"BOS", v.BOS, v.AddBOS}, {"EOS", v.EOS, v.AddEOS}, {"UNK", v.UNK, false}, {"PAD", v.PAD, false}} {
		if id.id < -1 || int(id.id) >= len(v.Tokens) {
			return vocabularyError("%s is %d, which is no id of %d tokens", id.name, id.id, len(v.Tokens))
		}
		if id.asked && id.id < 0 {
			return vocabularyError("a text gets %s, but there is none", id.name)
		}
	}
	return nil
}

// checkTokens looks at each token and adds up bytes.
func checkTokens(v *Vocabulary) error {
	total := 0
	for _, list := range [][]string{v.Tokens, v.Merges} {
		for _, s := range list {
			if total += len(s); total > maxVocabularyBytes {
				return vocabularyError("its tokens and merges are more than %d bytes", maxVocabularyBytes)
			}
		}
	}
	for i, s := range v.Tokens {
		if !utf8.ValidString(s) {
			return vocabularyError("token %d %q is not UTF-8", i, s)
		}
		if len(v.Scores) != 0 && math.IsNaN(float64(v.Scores[i])) {
			return vocabularyError("token %d %q has a score that is no number", i, s)
		}
		if len(v.Types) == 0 {
			continue
		}
		switch kind := v.Types[i]; kind {
		case TokenNormal, TokenUnknown, TokenControl, TokenUnused:
		case TokenUserDefined:
			if len(s) > maxUserDefined {
				return vocabularyError("token %d is user-defined with %d bytes, more than %d", i, len(s), maxUserDefined)
			}
		case TokenByte:
			if _, ok := byteToken(s); !ok {
				return vocabularyError("token %d %q is a byte's and has not the form <0xXX>", i, s)
			}
		default:
			return vocabularyError("token %d %q has type %d, known are 1 to 6", i, s, kind)
		}
	}
	return nil
}

// byteToken returns the byte of a token <0xXX>.
func byteToken(s string) (b byte, ok bool) {
	if len(s) != 6 || s[:3] != "<0x" || s[5] != '>' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[3:5], 16, 8)
	return byte(n), err == nil
}
