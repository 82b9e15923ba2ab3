package audit

import (
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// syncer does fdatasync in the kernel's background (io_submit(2), IOCB_CMD_FDSYNC) and waits for it in Go's poller. A
// plain fdatasync keeps a processor of the Go runtime until the runtime notices, and a sidecar on a small node has one:
// every request would stand still for a good part of every sync. Where the kernel or a sandbox has no such call, or for
// a file system that does not know it, the plain one serves.
type syncer struct {
	context uintptr  // aio_context_t, 0 without one
	done    *os.File // eventfd that a finished sync raises
	request iocb
}

// iocb and ioEvent are struct iocb and struct io_event of linux/aio_abi.h as far as a sync uses them.
type iocb struct {
	_         [16]byte // aio_data, aio_key, aio_rw_flags
	opcode    uint16
	_         int16 // aio_reqprio
	fd        uint32
	_         [32]byte // aio_buf, aio_nbytes, aio_offset, aio_reserved2
	flags     uint32
	completed uint32 // aio_resfd, an eventfd
}

type ioEvent struct {
	_      [16]byte // data, obj
	result int64
	_      int64 // res2
}

const (
	iocbFDSync  = 3 // IOCB_CMD_FDSYNC
	iocbEventFD = 1 // IOCB_FLAG_RESFD
)

func newSyncer() *syncer {
	s := &syncer{}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return s
	}
	s.done = os.NewFile(uintptr(fd), "audit-sync")
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, 1, uintptr(unsafe.Pointer(&s.context)), 0); errno != 0 {
		s.context = 0
	}
	s.request = iocb{opcode: iocbFDSync, flags: iocbEventFD, completed: uint32(fd)}
	return s
}

// sync returns when the file's content is on disk, and calls meanwhile once before that. One goroutine calls it at a time.
func (s *syncer) sync(f *os.File, meanwhile func()) error {
	if s.context == 0 {
		meanwhile()
		return fdatasync(f)
	}
	s.request.fd = uint32(f.Fd())
	requests := [1]*iocb{&s.request}
	n, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, s.context, 1, uintptr(unsafe.Pointer(&requests)))
	runtime.KeepAlive(f)
	if errno != 0 || n != 1 {
		s.release() // this file will not be able to later either
		meanwhile()
		return fdatasync(f)
	}
	meanwhile()
	var raised [8]byte
	if _, err := s.done.Read(raised[:]); err != nil {
		return fmt.Errorf("wait for the sync: %w", err)
	}
	var event ioEvent
	n, _, errno = unix.Syscall6(unix.SYS_IO_GETEVENTS, s.context, 1, 1, uintptr(unsafe.Pointer(&event)), 0, 0)
	switch {
	case errno != 0 || n != 1:
		return fmt.Errorf("result of the sync: %w", errno)
	case event.result < 0:
		return os.NewSyscallError("fdatasync", unix.Errno(-event.result))
	}
	return nil
}

// release gives the kernel's context back; syncs are plain from then on.
func (s *syncer) release() {
	if s.context != 0 {
		_, _, _ = unix.Syscall(unix.SYS_IO_DESTROY, s.context, 0, 0)
		s.context = 0
	}
	if s.done != nil {
		_ = s.done.Close()
		s.done = nil
	}
}
