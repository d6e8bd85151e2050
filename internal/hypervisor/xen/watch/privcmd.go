package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	privcmd = "/dev/xen/privcmd"
	// hypercallMemory maps memory that the kernel never moves and that the
	// hypervisor may use: Linux 4.18 and later.
	hypercallMemory = "/dev/xen/hypercall"

	// ioctlHypercall is IOCTL_PRIVCMD_HYPERCALL of Linux' uapi/xen/privcmd.h.
	ioctlHypercall = 0x305000
	sysctl         = 35 // __HYPERVISOR_sysctl
	memoryPages    = 8
)

// hypercall is struct privcmd_hypercall.
type hypercall struct {
	op   uint64
	args [5]uint64
}

// open finds out how to ask this host's hypervisor.
func open() (*listing, error) {
	device, err := os.OpenFile(privcmd, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: this is no Xen control domain, or its module xen-privcmd is not loaded", err)
	}
	if err != nil {
		return nil, err
	}
	memory, err := mapMemory(memoryPages * os.Getpagesize())
	if err != nil {
		_ = device.Close() // nothing was written
		return nil, fmt.Errorf("map memory for the hypervisor: %w", err)
	}
	address := uint64(uintptr(unsafe.Pointer(&memory[0]))) // #nosec G103 -- mapped memory, which nothing moves
	fd := device.Fd()
	l := &listing{memory: memory, address: address,
		call: func() error {
			// Go sees the arguments as numbers; the memory at address does not
			// belong to the garbage collector. The hypervisor answers at once,
			// so Go's scheduler need not be informed, which would wake its
			// monitoring thread.
			arg := hypercall{op: sysctl, args: [5]uint64{address}}
			_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, fd, ioctlHypercall, uintptr(unsafe.Pointer(&arg))) // #nosec G103 -- as package unsafe allows
			if errno != 0 {
				return errno
			}
			return nil
		},
		free: func() {
			_ = unix.Munmap(memory) // neither can fail, and nothing was written
			_ = device.Close()
		}}
	if err := l.probe(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// mapMemory maps memory that the hypervisor may write to while it handles a
// call. When the kernel offers no memory for that, it uses locked memory, which
// the kernel may still move; the call then fails with EFAULT.
func mapMemory(sizeBytes int) ([]byte, error) {
	device, err := os.OpenFile(hypercallMemory, os.O_RDWR, 0)
	if err == nil {
		defer device.Close()
		return unix.Mmap(int(device.Fd()), 0, sizeBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	memory, err := unix.Mmap(-1, 0, sizeBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, err
	}
	return memory, unix.Mlock(memory)
}
