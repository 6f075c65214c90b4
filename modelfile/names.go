package modelfile

import "regexp"

// Names that GGUF files use for the parts of a model.
var (
	modelParts = map[string]string{"tok_embed": "token_embd", "norm": "output_norm", "lm_head": "output"}
	blockParts = map[string]string{"wq": "q", "wk": "k", "wv": "v", "wo": "output"}
)

var (
	blockState = regexp.MustCompile(`^(blk\.\d+)\.(attn|ffn)\.(\w+)\.(\w+)$`)
	modelState = regexp.MustCompile(`^(\w+)\.(\w+)$`)
)

// fileName gives the tensor name of a state: blk.0.attn.wq.codes is
// blk.0.attn_q.codes in a file, tok_embed.weight is token_embd.weight.
func fileName(state string) string {
	rename := func(parts map[string]string, s string) string {
		if f, ok := parts[s]; ok {
			return f
		}
		return s
	}
	if m := blockState.FindStringSubmatch(state); m != nil {
		return m[1] + "." + m[2] + "_" + rename(blockParts, m[3]) + "." + m[4]
	}
	if m := modelState.FindStringSubmatch(state); m != nil {
		return rename(modelParts, m[1]) + "." + m[2]
	}
	return state
}
