package process

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// mfdExec asks for a memory file that may be run where the system's default
// is that it may not (Linux 6.3).
const mfdExec = 0x10

// sealable makes an empty memory file and the path by which a child runs it.
func sealable() (f *os.File, run string, err error) {
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		return nil, "", err
	}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("tern-plugin", flags|mfdExec)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("tern-plugin", flags)
	}
	if err != nil {
		return nil, "", err
	}
	// A child gets its files from descriptor 0 on: this one stays out of their way.
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 200)
	_ = unix.Close(fd)
	if err != nil {
		return nil, "", err
	}
	return os.NewFile(uintptr(high), "tern-plugin"), fmt.Sprintf("/proc/self/fd/%d", high), nil
}

// seal forbids any change of f from now on.
func seal(f *os.File) error {
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	return errors.Wrap(err, "sealing the copy of the plugin")
}

// isolate puts the process into a group of its own, which the kernel kills
// with the host.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitExit returns when the process has ended and is not reaped yet, or false
// where the system cannot tell.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}

func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
