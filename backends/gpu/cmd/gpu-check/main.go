// Command gpu-check runs everything that only a machine with a GPU can show, and
// prints one table: what is checked, what came of it, what was wanted. It needs no
// Go: `make gpu-check-build` fills a directory with it, tern, the plugin, and the
// tests that can use a real device.
//
//	gpu-check                     all, in 8 minutes at most
//	gpu-check -only train,decode  some of the parts
//
// It writes table.md, table.json and the output of every program to -out. The exit
// status is 0 where nothing failed, 1 otherwise.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	c := &check{started: time.Now()}
	var only string
	flag.StringVar(&c.bin, "bin", beside(), "directory of tern, tern-plugin-cuda and tests")
	flag.StringVar(&c.out, "out", "gpu-check-results", "directory for the results; what is in it is overwritten")
	flag.StringVar(&c.libraries, "libraries", "", "directory in which NVIDIA's libraries are looked for first")
	flag.StringVar(&c.cache, "cache", "", "directory of compiled kernels; without it the user's")
	flag.StringVar(&c.options, "options", "", "more options of the backend, such as generate=never")
	flag.IntVar(&c.device, "device", 0, "device to use")
	flag.StringVar(&only, "only", "", "parts to run, of "+strings.Join(partNames(), ","))
	flag.BoolVar(&c.quick, "quick", false, "tiny sizes, to try the check itself: its numbers mean nothing")
	flag.Float64Var(&c.scale, "patience", 1, "factor of all limits of time")
	limit := flag.Duration("limit", 8*time.Minute, "of the whole; parts that have not begun by then are left out")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.scale*float64(*limit)))
	defer cancel()
	ok, err := c.run(ctx, only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gpu-check:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// beside is the directory of this program.
func beside() string {
	path, err := os.Executable()
	if err != nil {
		return "."
	}
	return filepath.Dir(path)
}
