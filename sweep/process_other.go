//go:build !unix

package sweep

import (
	"os"
	"os/exec"
)

func isolate(*exec.Cmd) {}

// terminate ends a process: here none can be asked to save first. The trial goes
// on from its last checkpoint.
func terminate(p *os.Process) error { return p.Kill() }

func killGroup(p *os.Process) error { return p.Kill() }

func endingOf(s *os.ProcessState) ending { return ending{exit: s.ExitCode()} }
