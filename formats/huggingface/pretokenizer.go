package huggingface

import (
	"encoding/json"
	"slices"
	"strings"
)

// maxComponent bounds what describes a part of a tokenizer's way from text to
// ids, in bytes; it is some hundred in real files.
const maxComponent = 1 << 18

// component is a normalizer, pre-tokenizer, post-processor or decoder of
// tokenizer.json (the library huggingface/tokenizers), with what any has.
type component struct {
	Type           string      `json:"type"`
	Normalizers    []component `json:"normalizers"`
	Pretokenizers  []component `json:"pretokenizers"`
	Processors     []component `json:"processors"`
	Pattern        pattern     `json:"pattern"`
	Behavior       string      `json:"behavior"`
	Invert         bool        `json:"invert"`
	AddPrefixSpace *bool       `json:"add_prefix_space"`
	UseRegex       *bool       `json:"use_regex"`
	Individual     bool        `json:"individual_digits"`
	Prepend        string      `json:"prepend"`
	Content        string      `json:"content"`
	Replacement    string      `json:"replacement"`
	PrependScheme  *string     `json:"prepend_scheme"`

	Single   []map[string]templatePiece `json:"single"`
	Specials map[string]templateSpecial `json:"special_tokens"`
}

type pattern struct {
	String string
	Regex  string
}

// templatePiece is an element of a TemplateProcessing, under the key
// "SpecialToken" or "Sequence".
type templatePiece struct {
	ID string `json:"id"`
}

type templateSpecial struct {
	IDs []int32 `json:"ids"`
}

// parseComponent reads a component and returns those it consists of, in order.
func parseComponent(name string, data []byte) ([]component, error) {
	if len(data) == 0 || string(data) == "null" {
		return nil, nil
	}
	if len(data) > maxComponent {
		return nil, unsupported("tokenizer.json: a %s of %d bytes", name, len(data))
	}
	var c component
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, malformed("tokenizer.json: %s: %v", name, err)
	}
	return c.flat(), nil
}

func (c component) flat() []component {
	if c.Type != "Sequence" {
		return []component{c}
	}
	var all []component
	for _, list := range [][]component{c.Normalizers, c.Pretokenizers, c.Processors} {
		for _, x := range list {
			all = append(all, x.flat()...)
		}
	}
	return all
}

// split is a way to cut text into pieces: the names that llama.cpp has for it,
// the first of which readers get, and the pre-tokenizers that do it.
type split struct {
	names        []string
	ignoreMerges bool // a piece that is a token is never split
	steps        []string
}

// Steps of a split, as component.step writes them.
const (
	stepGPT2   = "ByteLevel with regex"
	stepBytes  = "ByteLevel"
	stepDigits = "Digits one by one"

	llama3Regex = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Regex  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// splits are those that can be told from a tokenizer.json. The patterns are
// what the models' files hold; llama.cpp has them in src/llama-vocab.cpp.
var splits = []split{
	{[]string{"gpt-2", "mpt", "olmo", "phi-2"}, false, []string{stepGPT2}},
	{[]string{"llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"}, true, []string{llama3Regex, stepBytes}},
	{[]string{"dbrx", "smaug-bpe"}, false, []string{llama3Regex, stepBytes}},
	{[]string{"qwen2", "deepseek-r1-qwen", "stablelm2"}, false, []string{qwen2Regex, stepBytes}},
	{[]string{"smollm", "starcoder", "refact", "command-r"}, false, []string{stepDigits, stepGPT2}},
	{[]string{"falcon"}, false, []string{"Punctuation", stepGPT2, "Digits", "[0-9][0-9][0-9]"}},
}

// step is the pre-tokenizer in the words of splits.
func (c component) step() string {
	switch c.Type {
	case "ByteLevel":
		if c.UseRegex == nil || *c.UseRegex {
			return stepGPT2
		}
		return stepBytes
	case "Digits":
		if c.Individual {
			return stepDigits
		}
		return "Digits"
	case "Punctuation":
		if c.Behavior == "Contiguous" {
			return "Punctuation"
		}
	case "Split":
		if c.Pattern.Regex != "" && (c.Behavior == "Isolated" && !c.Invert || c.Behavior == "Removed" && c.Invert) {
			return strings.NewReplacer(
				"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", "(?i:'s|'t|'re|'ve|'m|'ll|'d)").Replace(c.Pattern.Regex)
		}
	}
	return c.Type + " " + c.Behavior
}

// splitOf names the split that pre-tokenizers do.
func splitOf(steps []component, ignoreMerges bool) (string, error) {
	var words []string
	for _, c := range steps {
		words = append(words, c.step())
	}
	for _, s := range splits {
		if slices.Equal(s.steps, words) && (s.ignoreMerges == ignoreMerges || len(words) == 1) {
			return s.names[0], nil
		}
	}
	return "", unsupported("tokenizer.json: pre_tokenizer %.300q with ignore_merges %v", words, ignoreMerges)
}

// object is a JSON object to write.
type object = map[string]any

// preTokenizer is the inverse of splitOf: the component for a split's name.
func preTokenizer(name string) (pre object, ignoreMerges bool, err error) {
	for _, s := range splits {
		if !slices.Contains(s.names, name) {
			continue
		}
		var list []object
		for _, step := range s.steps {
			list = append(list, stepObject(step))
		}
		if len(list) == 1 {
			return list[0], s.ignoreMerges, nil
		}
		return object{"type": "Sequence", "pretokenizers": list}, s.ignoreMerges, nil
	}
	return nil, false, unwritable("no tokenizer.json is known for the split %q", name)
}

func stepObject(step string) object {
	switch step {
	case stepGPT2, stepBytes:
		return object{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": step == stepGPT2}
	case stepDigits, "Digits":
		return object{"type": "Digits", "individual_digits": step == stepDigits}
	case "Punctuation":
		return object{"type": "Punctuation", "behavior": "Contiguous"}
	}
	return object{"type": "Split", "pattern": object{"Regex": step}, "behavior": "Isolated", "invert": false}
}
