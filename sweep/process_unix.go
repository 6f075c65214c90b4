//go:build unix

package sweep

import (
	"os"
	"os/exec"
	"syscall"
)

func isolate(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// terminate asks a process to save and end.
func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// killGroup ends a process with those that it started.
func killGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }

func endingOf(s *os.ProcessState) ending {
	w, ok := s.Sys().(syscall.WaitStatus)
	if ok && w.Signaled() {
		return ending{exit: -1, signal: w.Signal().String()}
	}
	return ending{exit: s.ExitCode()}
}
