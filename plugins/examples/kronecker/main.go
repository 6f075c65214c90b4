// The program tern-plugin-kronecker is a residual for tern: streams mixed by a Kronecker product of 2x2 doubly stochastic
// matrices (KroMHC).
package main

import (
	"github.com/ternlm/tern/plugins"
)

func main() { plugins.ServeResidual(plugin) }

// plugin is what tern sees.
var plugin = plugins.Residual{
	Meta: plugins.Meta{
		Name:    "kronecker",
		Version: "1.0.0",
		Help:    "2, 4 or 8 residual streams mixed by a Kronecker product of doubly stochastic 2x2 matrices (static KroMHC)",
		Options: []plugins.Option{
			{Name: "streams", Type: "choice", Default: "4", Choices: []string{"4", "2", "8"}, Help: "number of streams"},
			{Name: "mix", Type: "float", Default: "8", Help: "first logit of the identity in each 2x2 factor"},
		},
	},
	Open: Open,
}
