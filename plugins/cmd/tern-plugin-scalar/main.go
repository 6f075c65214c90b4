// Command tern-plugin-scalar serves the reference backend as a plugin, so that
// what runs in another process is tested on every machine.
package main

import (
	"github.com/ternlm/tern/backends/scalar"
	"github.com/ternlm/tern/plugins"
)

func main() {
	plugins.ServeBackend(plugins.Backend{Meta: plugins.Meta{
		Name: "scalar", Version: "0.1.0", Help: "The reference backend in a process of its own.",
		Options: []plugins.Option{{Name: "threads", Type: "int", Default: "0", Help: "worker threads; 0 is one for each processor"}},
	}, Open: scalar.Open})
}
