package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"

	"github.com/ternlm/tern/backends/gpu/cuda/probe"
)

// check says which of NVIDIA's libraries and devices are found. The exit status is
// 0 where the backend can run, 1 where it cannot, 2 for wrong usage.
func check(args []string, out, errs io.Writer) int {
	fs := flag.NewFlagSet("tern-plugin-cuda check", flag.ContinueOnError)
	fs.SetOutput(errs)
	asJSON := fs.Bool("json", false, "write JSON")
	var o probe.Options
	fs.StringVar(&o.Libraries, "libraries", "", "directory in which libraries are looked for first")
	fs.IntVar(&o.Device, "device", 0, "of those that are there")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(errs, "check takes no arguments: %q\n", fs.Arg(0))
		return 2
	}
	r := probe.Look(o)
	write := r.Write
	if *asJSON {
		write = func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(r)
		}
	}
	if write(out) != nil || !r.Ready {
		return 1
	}
	return 0
}
