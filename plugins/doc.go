// Package plugins makes quantizers, residuals and backends of separate
// programs, and uses those of others.
//
// An author writes a framework.Quantizer, Residual or Backend and a main of
// one line:
//
//	func main() {
//		plugins.ServeQuantizer(plugins.Quantizer{Meta: plugins.Meta{Name: "mine", Version: "0.1.0", Help: "..."}, Open: open})
//	}
//
// A host starts the program with Dial and opens from the Client what looks
// like a built-in one. Quantizers and residuals answer with fragments of graph
// while a model is traced; the host verifies them, and nothing crosses between
// the processes while the model runs. A backend gets whole graphs.
package plugins
