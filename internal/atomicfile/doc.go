// Package atomicfile writes a file whole or not at all.
//
// A reader of the path sees the old content or the new content, never a part,
// whenever the process or the machine stops:
//
//	err := atomicfile.Write("model.gguf", func(w io.Writer) error {
//		_, err := w.Write(data)
//		return err
//	})
package atomicfile
