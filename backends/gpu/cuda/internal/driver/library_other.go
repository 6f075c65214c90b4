//go:build android || !(linux || windows) || !(amd64 || arm64)

package driver

import "github.com/cockroachdb/errors"

// There is no CUDA here, or no way to call it without cgo.
const reachable = false

func load(string) (uintptr, error) { return 0, errors.New("cannot load libraries on this system") }

func lookup(uintptr, string) uintptr { return 0 }

func call(uintptr, ...uintptr) uintptr { panic("driver: a call without a library") }

func callSlice(uintptr, []uintptr) uintptr { panic("driver: a call without a library") }
