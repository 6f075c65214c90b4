package huggingface

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cockroachdb/errors"
	"github.com/google/go-cmp/cmp"
)

// The members that the published config.json of microsoft/bitnet-b1.58-2B-4T has.
const bitnet2B = `{
  "architectures": ["BitNetForCausalLM"],
  "auto_map": {"AutoConfig": "configuration_bitnet.BitNetConfig"},
  "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "relu2", "hidden_size": 2560,
  "initializer_range": 0.02, "intermediate_size": 6912, "max_position_embeddings": 4096,
  "model_type": "bitnet", "rms_norm_eps": 1e-05, "num_attention_heads": 20, "num_hidden_layers": 30,
  "num_key_value_heads": 5, "rope_theta": 500000.0, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "use_cache": true, "vocab_size": 128256,
  "quantization_config": {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}
}`

func parse(t *testing.T, data string) *Config {
	t.Helper()
	c, err := parseConfig([]byte(data))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestConfigOfBitNet(t *testing.T) {
	want := &Config{
		Architectures: []string{"BitNetForCausalLM"}, ModelType: "bitnet",
		HiddenSize: 2560, IntermediateSize: 6912, NumHiddenLayers: 30, NumAttentionHeads: 20, NumKeyValueHeads: 5,
		HeadDim: 128, VocabSize: 128256, MaxPositionEmbeddings: 4096, RMSNormEps: 1e-5, RopeTheta: 500000,
		TieWordEmbeddings: true, HiddenAct: "relu2", DType: "bfloat16", BOS: 128000, EOS: []int32{128001}, PAD: -1,
		Quantization: &Quantization{LinearClass: "autobitlinear", Mode: "offline", RMSNormEps: 1e-6},
	}
	if d := cmp.Diff(want, parse(t, bitnet2B)); d != "" {
		t.Error(d)
	}
}

const least = `"hidden_size":64,"intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":100`

func TestDefaultsAreThoseOfTheModelType(t *testing.T) {
	c := parse(t, `{"model_type":"llama",`+least+`}`)
	if c.NumKeyValueHeads != 4 || c.HeadDim != 16 || c.MaxPositionEmbeddings != 2048 || c.RMSNormEps != 1e-6 || c.RopeTheta != 10000 ||
		c.TieWordEmbeddings || c.HiddenAct != "silu" || c.BOS != -1 || c.EOS != nil || c.PAD != -1 || c.Quantization != nil || c.RopeScaling != nil {
		t.Errorf("llama: %+v", *c)
	}
	c = parse(t, `{"model_type":"bitnet","num_key_value_heads":2,`+least+`}`)
	if c.RMSNormEps != 1e-5 || c.RopeTheta != 500000 || c.HiddenAct != "relu2" {
		t.Errorf("bitnet: %+v", *c)
	}
}

func TestRopeInItsThreeSpellings(t *testing.T) {
	llama3 := &RopeScaling{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositionEmbeddings: 8192}
	for name, c := range map[string]struct {
		json  string
		theta float64
		want  *RopeScaling
	}{
		"version 4": {`"rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}`, 5e5, llama3},
		"version 5": {`"rope_parameters":{"rope_theta":500000.0,"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}`, 5e5, llama3},
		"default":   {`"rope_parameters":{"rope_theta":12345.0,"rope_type":"default"}`, 12345, nil},
		"old":       {`"rope_scaling":{"type":"linear","factor":2.0}`, 10000, &RopeScaling{Type: "linear", Factor: 2}},
		"null":      {`"rope_scaling":null`, 10000, nil},
		"yarn": {
			`"rope_scaling":{"rope_type":"yarn","factor":4,"original_max_position_embeddings":4096,"beta_fast":32,"beta_slow":1,"attention_factor":0.9}`, 10000,
			&RopeScaling{Type: "yarn", Factor: 4, OriginalMaxPositionEmbeddings: 4096, BetaFast: 32, BetaSlow: 1, AttentionFactor: 0.9},
		},
		"yarn of DeepSeek": {
			`"rope_scaling":{"rope_type":"yarn","factor":40,"mscale":0.8,"mscale_all_dim":0.4,"truncate":false}`, 10000,
			&RopeScaling{Type: "yarn", Factor: 40, MScale: 0.8, MScaleAllDim: 0.4, NotTruncated: true},
		},
		"longrope": {
			`"head_dim":4,"rope_parameters":{"rope_theta":500000.0,"rope_type":"longrope","factor":4,"original_max_position_embeddings":4096,"attention_factor":1.25,"short_factor":[1,1.5],"long_factor":[2,64]}`, 5e5,
			&RopeScaling{Type: "longrope", Factor: 4, OriginalMaxPositionEmbeddings: 4096, AttentionFactor: 1.25, ShortFactor: []float64{1, 1.5}, LongFactor: []float64{2, 64}},
		},
		"longrope of Phi": {
			`"head_dim":4,"max_position_embeddings":8192,"original_max_position_embeddings":4096,"rope_scaling":{"type":"longrope","short_factor":[1,1.5],"long_factor":[2,64]}`, 10000,
			&RopeScaling{Type: "longrope", Factor: 2, OriginalMaxPositionEmbeddings: 4096, ShortFactor: []float64{1, 1.5}, LongFactor: []float64{2, 64}},
		},
		"longrope without lengths": {
			`"head_dim":4,"rope_scaling":{"rope_type":"longrope","short_factor":[1,1.5],"long_factor":[1,1.5]}`, 10000,
			&RopeScaling{Type: "longrope", Factor: 1, OriginalMaxPositionEmbeddings: 2048, ShortFactor: []float64{1, 1.5}, LongFactor: []float64{1, 1.5}},
		},
	} {
		got := parse(t, `{"model_type":"llama",`+least+`,`+c.json+`}`)
		if got.RopeTheta != c.theta || cmp.Diff(c.want, got.RopeScaling) != "" {
			t.Errorf("%s: theta %v, %s", name, got.RopeTheta, cmp.Diff(c.want, got.RopeScaling))
		}
	}
}

func TestEndIdsAndPadding(t *testing.T) {
	c := parse(t, `{"model_type":"llama",`+least+`,"eos_token_id":[7,9],"bos_token_id":null,"pad_token_id":100}`)
	if !cmp.Equal(c.EOS, []int32{7, 9}) || c.BOS != -1 || c.PAD != -1 {
		t.Errorf("%v %d %d", c.EOS, c.BOS, c.PAD)
	}
}

func TestMistralHasAWindowUnlessItIsNull(t *testing.T) {
	for json, want := range map[string]int{``: 4096, `"sliding_window":null,`: 0, `"sliding_window":7,`: 7} {
		c := parse(t, `{"model_type":"mistral","num_key_value_heads":2,`+json+least+`}`)
		if c.SlidingWindow != want {
			t.Errorf("%s: %d, want %d", json, c.SlidingWindow, want)
		}
	}
}

// The answers are those of should_convert_module of transformers 5.24.0.
func TestWhichModulesAPatternKeeps(t *testing.T) {
	modules := []string{"model.layers.1.mlp.up_proj", "model.layers.11.mlp.up_proj", "model.layers.1.self_attn.q_proj", "lm_head"}
	for _, c := range []struct {
		pattern string
		kept    []bool
	}{
		{"lm_head", []bool{false, false, false, true}},
		{"model.layers.1", []bool{true, false, true, false}},
		{"model.layers.1.", []bool{true, true, true, false}}, // a point is any character
		{"up_proj", []bool{true, true, false, false}},
		{"proj", []bool{true, true, true, false}},
		{"mlp", []bool{false, false, false, false}},
		{"layers.1", []bool{false, false, false, false}},
		{`model\\.layers\\.1`, []bool{true, false, true, false}},
		{`.*\\.1\\.self_attn\\.[qk]_proj`, []bool{false, false, true, false}},
		{"model.layers.*", []bool{true, true, true, false}},
		{"model.layers.1.mlp.up", []bool{false, false, false, false}},
		{"", []bool{true, true, true, true}},
		{"model.layers.1.mlp.up_proj$", []bool{true, false, false, false}},
		{"model.layers.(1|2)|lm_head", []bool{true, false, true, true}},
	} {
		q := parse(t, `{"model_type":"llama",`+least+`,"quantization_config":{"quant_method":"bitnet","modules_to_not_convert":["`+c.pattern+`"]}}`).Quantization
		for i, module := range modules {
			if q.Converts(module) == c.kept[i] {
				t.Errorf("%q, %s: kept %v", c.pattern, module, !c.kept[i])
			}
		}
	}
	if none := (&Quantization{}); none.Converts("lm_head") || !none.Converts(modules[0]) {
		t.Error("without a list the head is converted, or the rest is not")
	}
}

func TestWhatAScaleMeans(t *testing.T) {
	for json, want := range map[string]Scaling{
		`{"quant_method":"bitnet"}`: Divide,
		`{"quant_method":"bitnet","modules_to_not_convert":null,"quantization_mode":"online"}`:  Divide,
		`{"quant_method":"bitnet","linear_class":"autobitlinear"}`:                              Multiply,
		`{"quant_method":"bitnet","linear_class":"autobitlinear","quantization_mode":"online"}`: Online,
	} {
		c := parse(t, `{"model_type":"llama",`+least+`,"quantization_config":`+json+`}`)
		if got := c.Quantization.Scaling(); got != want {
			t.Errorf("%s: %d, want %d", json, got, want)
		}
	}
}

func TestAWrongMemberIsNamed(t *testing.T) {
	for name, c := range map[string]struct{ json, says string }{
		"no object":        {`[]`, "no JSON object"},
		"null":             {`null`, "no JSON object"},
		"cut":              {`{"model_type":"llama",`, "no JSON object"},
		"missing":          {`{"model_type":"llama","hidden_size":64}`, "intermediate_size"},
		"text":             {`{"model_type":"llama",` + least + `,"head_dim":"16"}`, "head_dim"},
		"fraction":         {`{"model_type":"llama",` + least + `,"num_key_value_heads":1.5}`, "num_key_value_heads"},
		"zero":             {`{"model_type":"llama",` + least + `,"num_key_value_heads":0}`, "num_key_value_heads"},
		"huge":             {`{"model_type":"llama",` + least + `,"num_key_value_heads":1e300}`, "num_key_value_heads"},
		"infinite":         {`{"model_type":"llama",` + least + `,"rope_theta":1e999}`, "rope_theta"},
		"no divisor":       {`{"model_type":"llama",` + least + `,"num_key_value_heads":3}`, "num_key_value_heads"},
		"odd head":         {`{"model_type":"llama",` + least + `,"head_dim":17}`, "head_dim"},
		"bool":             {`{"model_type":"llama",` + least + `,"tie_word_embeddings":1}`, "tie_word_embeddings"},
		"end":              {`{"model_type":"llama",` + least + `,"eos_token_id":[1,"x"]}`, "eos_token_id"},
		"end beyond":       {`{"model_type":"llama",` + least + `,"eos_token_id":100}`, "eos_token_id"},
		"begin":            {`{"model_type":"llama",` + least + `,"bos_token_id":[1]}`, "bos_token_id"},
		"architectures":    {`{"model_type":"llama",` + least + `,"architectures":[1]}`, "architectures"},
		"scaling":          {`{"model_type":"llama",` + least + `,"rope_scaling":2}`, "rope_scaling"},
		"scaling factor":   {`{"model_type":"llama",` + least + `,"rope_scaling":{"type":"linear"}}`, "rope_scaling.factor"},
		"llama3":           {`{"model_type":"llama",` + least + `,"rope_scaling":{"rope_type":"llama3","factor":8,"original_max_position_embeddings":9}}`, "rope_scaling.high_freq_factor"},
		"few factors":      {`{"model_type":"llama",` + least + `,"head_dim":4,"rope_scaling":{"rope_type":"longrope","short_factor":[1],"long_factor":[1,2]}}`, "rope_scaling.short_factor"},
		"no factors":       {`{"model_type":"llama",` + least + `,"head_dim":4,"rope_scaling":{"rope_type":"longrope","short_factor":[1,2]}}`, "rope_scaling.long_factor"},
		"factors of text":  {`{"model_type":"llama",` + least + `,"head_dim":4,"rope_scaling":{"rope_type":"longrope","short_factor":[1,"2"],"long_factor":[1,2]}}`, "rope_scaling.short_factor"},
		"a factor of 0":    {`{"model_type":"llama",` + least + `,"head_dim":4,"rope_scaling":{"rope_type":"longrope","short_factor":[1,2],"long_factor":[0,2]}}`, "rope_scaling.long_factor"},
		"partial":          {`{"model_type":"llama",` + least + `,"partial_rotary_factor":0.5}`, "partial_rotary_factor"},
		"linear class":     {`{"model_type":"llama",` + least + `,"quantization_config":{"quant_method":"bitnet","linear_class":"x"}}`, "quantization_config.linear_class"},
		"pattern":          {`{"model_type":"llama",` + least + `,"quantization_config":{"quant_method":"bitnet","modules_to_not_convert":["("]}}`, "modules_to_not_convert"},
		"key heads absent": {`{"model_type":"bitnet",` + least + `}`, "num_key_value_heads"},
	} {
		_, err := parseConfig([]byte(c.json))
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.says) || len(errors.GetAllHints(err)) == 0 {
			t.Errorf("%s: %v, want something with %q and a hint", name, err, c.says)
		}
	}
	for name, json := range map[string]string{
		"type":         `{"model_type":"qwen2",` + least + `}`,
		"no type":      `{` + least + `}`,
		"quantization": `{"model_type":"llama",` + least + `,"quantization_config":{"quant_method":"gptq"}}`,
	} {
		if _, err := parseConfig([]byte(json)); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAConfigIsWrittenAsItWasRead(t *testing.T) {
	for _, json := range []string{
		bitnet2B,
		`{"model_type":"llama",` + least + `,"eos_token_id":[7,9],"head_dim":32,"rope_scaling":{"type":"linear","factor":2.5},"weight_bits":1,"input_bits":8}`,
		`{"model_type":"mistral","num_key_value_heads":2,"sliding_window":4096,` + least + `}`,
		`{"model_type":"mistral","num_key_value_heads":2,"sliding_window":null,` + least + `}`,
		`{"model_type":"llama",` + least + `,"rope_scaling":{"type":"yarn","factor":40,"mscale":0.8,"mscale_all_dim":0.4,"truncate":false}}`,
		`{"model_type":"llama",` + least + `,"head_dim":4,"original_max_position_embeddings":256,"rope_scaling":{"type":"longrope","short_factor":[1,1.5],"long_factor":[2,64.125]}}`,
	} {
		c := parse(t, json)
		data, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c, parse(t, string(data))); d != "" {
			t.Error(d)
		}
	}
	data, err := parse(t, bitnet2B).encode()
	if err != nil || !strings.Contains(string(data), `"rope_theta": 500000.0,`) || !strings.Contains(string(data), `"rms_norm_eps": 1e-05,`) {
		t.Errorf("%s, %v", data, err)
	}
	c := parse(t, bitnet2B)
	c.SlidingWindow = 7 // which the type bitnet has no word for
	if _, err := c.encode(); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(bitnet2B))
	f.Add([]byte(`{"model_type":"llama",` + least + `,"eos_token_id":[7,9],"rope_parameters":{"rope_type":"yarn","factor":2}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseConfig(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		if c.NumAttentionHeads%c.NumKeyValueHeads != 0 || c.HeadDim < 2 {
			t.Fatalf("%+v", *c)
		}
		if again, err := c.encode(); err == nil && !json.Valid(again) {
			t.Fatalf("%s", again)
		}
	})
}
