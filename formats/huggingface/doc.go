// Package huggingface reads and writes model directories of the layout of
// Hugging Face's transformers, for LLaMA's, Mistral's and BitNet's models:
// config.json, safetensors files, and tokenizer.json or tokenizer.model.
//
//	d, err := huggingface.Open(dir)
//	...
//	defer d.Close()
//	w, err := d.Tensor("model.layers.0.self_attn.q_proj.weight")
//	v, err := d.Vocabulary()
//
// Tensors keep the names, encodings and order of elements that they have in the
// files. Two things matter to whoever computes with them. Rotary positions of
// these models pair element i of a head with element i+size/2; GGUF's
// architecture llama, and tern, pair neighbors, so that the rows of each head
// of q_proj and k_proj stand there in the order 0, size/2, 1, size/2+1, ...
// (bitnet keeps them). And what the weight_scale of a BitNet layer means depends
// on the configuration: see Scaling. llama.cpp's converter always divides by
// it.
//
// The formats are those of transformers 5 (configuration_llama.py,
// configuration_bitnet.py, integrations/bitnet.py, modeling_rope_utils.py), of
// the library tokenizers, and of SentencePiece (sentencepiece_model.proto).
// PyTorch's pickled files are not read.
package huggingface
