package arena

import (
	"os"

	"github.com/cockroachdb/errors"
	"golang.org/x/sys/unix"
)

// seals keep the size as it is: memory of a file that shrinks is a bus error.
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

func create(n uint64) (*os.File, []byte, error) {
	if uint64(int(n)) != n || int(n) < 0 {
		return nil, nil, errors.Wrapf(ErrUnsupported, "%d bytes", n)
	}
	fd, err := unix.MemfdCreate("tern-arena", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, errors.Wrapf(ErrUnsupported, "memfd: %v", err)
	}
	file := os.NewFile(uintptr(fd), "tern-arena")
	data, err := prepare(fd, n)
	if err != nil {
		_ = file.Close()
		return nil, nil, err
	}
	return file, data, nil
}

// prepare gives the file its size for good and maps it.
func prepare(fd int, n uint64) ([]byte, error) {
	if err := unix.Ftruncate(fd, int64(n)); err != nil {
		return nil, errors.Wrapf(ErrUnsupported, "%d bytes: %v", n, err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, errors.Wrapf(ErrUnsupported, "seal: %v", err)
	}
	return mapShared(uintptr(fd), n)
}

func mapShared(fd uintptr, n uint64) ([]byte, error) {
	data, err := unix.Mmap(int(fd), 0, int(n), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return nil, errors.Wrapf(ErrUnsupported, "map %d bytes: %v", n, err)
	}
	_ = unix.Madvise(data, unix.MADV_HUGEPAGE) // a hint
	return data, nil
}

func inherit(fd uintptr, n uint64) ([]byte, error) {
	if uint64(int(n)) != n || int(n) < 0 {
		return nil, errors.Wrapf(ErrUnsupported, "%d bytes", n)
	}
	have, err := unix.FcntlInt(fd, unix.F_GET_SEALS, 0)
	if err != nil || have&seals != seals {
		return nil, errors.Wrapf(ErrUnsupported, "file %d is no sealed memory", fd)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(fd), &st); err != nil || uint64(st.Size) != n {
		return nil, errors.Wrapf(ErrUnsupported, "file %d has %d bytes, %d are promised", fd, st.Size, n)
	}
	unix.CloseOnExec(int(fd)) // what the plugin starts has no business with it
	return mapShared(fd, n)
}

// release gives the whole pages of data[from:to] back; they read as zeros
// afterwards. data starts on a page.
func release(data []byte, from, to uint64) {
	page := uint64(os.Getpagesize())
	from, to = (from+page-1)/page*page, to/page*page
	if from < to {
		_ = unix.Madvise(data[from:to], unix.MADV_REMOVE) // a hint
	}
}

func discard(b []byte) { _ = unix.Munmap(b) }
