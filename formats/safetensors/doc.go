// Package safetensors reads and writes safetensors files: named arrays, a
// JSON header and no code.
//
// The format is Hugging Face's: a u64 header length, the header, then the
// tensors' bytes without holes. Bytes written are a function of the arguments
// alone. tern's packed code types (u1, u2, u4) are stored as U8 arrays of
// their bytes; a metadata entry "tern.type.NAME" holds the real type, such as
// "u2[768,2048]", and any other reader sees plain bytes.
//
//	err := safetensors.WriteFile("w.safetensors", nil, []safetensors.Entry{safetensors.Of("w", t)})
//	...
//	f, err := safetensors.Open("w.safetensors")
//	defer f.Close()
//	t, err := f.ReadTensor("w")
package safetensors
