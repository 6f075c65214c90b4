package modelfile

import (
	"os"
	"path/filepath"

	"github.com/cockroachdb/errors"

	"github.com/ternlm/tern/formats/llama2c"
	"github.com/ternlm/tern/internal/regularfile"
)

// Kind tells model files apart by content: "gguf", "llama2c", "huggingface" (a
// directory) or "", which is none of these.
func Kind(path string) string {
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		if _, err := os.Stat(filepath.Join(path, "config.json")); err == nil {
			return "huggingface"
		}
		return ""
	}
	f, _, err := regularfile.Open(path) // a pipe would block
	if err != nil {
		return ""
	}
	var magic [4]byte
	_, err = f.ReadAt(magic[:], 0)
	if err = errors.CombineErrors(err, f.Close()); err != nil {
		return ""
	}
	if string(magic[:]) == "GGUF" {
		return "gguf"
	}
	if m, err := llama2c.Open(path); err == nil && m.Close() == nil {
		return "llama2c" // its sizes agree with the file's to the byte
	}
	return ""
}

// Open reads a model of any kind that Kind knows, others as GGUF. The caller
// closes the weights.
func Open(path string) (*Weights, error) {
	switch Kind(path) {
	case "huggingface":
		return ReadHuggingFace(path)
	case "llama2c":
		return ReadLlama2C(path)
	}
	return ReadGGUF(path)
}
