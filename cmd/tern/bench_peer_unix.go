//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// wholeGroup makes the end of cmd's context the end of what it started, too.
func wholeGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
