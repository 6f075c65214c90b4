// The program tern-plugin-nf4 is a quantizer for tern: NormalFloat4, the 16-level code book of QLoRA.
package main

import (
	"github.com/ternlm/tern/plugins"
)

func main() { plugins.ServeQuantizer(plugin) }

// plugin is what tern sees.
var plugin = plugins.Quantizer{
	Meta: plugins.Meta{
		Name:    "nf4",
		Version: "1.0.0",
		Help:    "16 levels that are equally likely under a normal distribution (QLoRA's NF4), by the largest magnitude of a group",
		Options: []plugins.Option{
			{Name: "group", Type: "int", Default: "64", Help: "consecutive weights of a row that share a scale"},
			{Name: "scale", Type: "choice", Default: "f16", Choices: []string{"f16", "f32"}, Help: "how scales are kept"},
		},
	},
	Open: Open,
}
