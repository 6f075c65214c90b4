//go:build !unix

package main

import "os/exec"

// wholeGroup does nothing where there are no groups of processes.
func wholeGroup(*exec.Cmd) {}
