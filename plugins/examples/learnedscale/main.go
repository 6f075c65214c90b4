// The program tern-plugin-learned-scale is a quantizer for tern: ternary weights by a scale that is learned (LSQ).
package main

import (
	"github.com/ternlm/tern/plugins"
)

func main() { plugins.ServeQuantizer(plugin) }

// plugin is what tern sees.
var plugin = plugins.Quantizer{
	Meta: plugins.Meta{
		Name:    "learned-scale",
		Version: "1.0.0",
		Help:    "ternary by a learned multiple of the mean magnitude of a group (LSQ)",
		Options: []plugins.Option{
			{Name: "group", Type: "string", Default: "128", Help: "consecutive weights of a row that share a scale, or row"},
			{Name: "scale", Type: "choice", Default: "f16", Choices: []string{"f16", "f32"}, Help: "how scales are kept"},
		},
	},
	Open: Open,
}
