package sampler

import (
	"bytes"
	"iter"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kept is a file of /proc or /sys that stays open: the kernel generates its text again for each
// read from the beginning. Package os is not used because it would register the file with the
// runtime's poller.
type Kept struct {
	path   string
	fd     int
	buffer []byte
}

// Keep returns a file that is opened when it is first read; at most bytes bytes of it are read.
func Keep(path string, bytes int) *Kept {
	return &Kept{path: path, fd: -1, buffer: make([]byte, bytes)}
}

// Read returns the text, which is valid until the next call, or nil when there is none. The file
// of a device that went away stays unreadable, even when a device with the same name appears.
func (k *Kept) Read() []byte {
	for range 2 {
		if k.fd < 0 {
			fd, err := unix.Open(k.path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return nil
			}
			k.fd = fd
		}
		n, code := k.pread()
		for code == unix.EINTR {
			n, code = k.pread()
		}
		if code == 0 && n > 0 {
			return k.buffer[:n]
		}
		k.Close()
	}
	return nil
}

// pread calls pread(2) without telling Go's scheduler: the kernel generates the text without
// waiting, and the scheduler's monitor thread would be woken.
func (k *Kept) pread() (n int, code unix.Errno) {
	into := unsafe.Pointer(&k.buffer[0]) //nolint:gosec // of the length that is given with it
	got, _, code := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(k.fd), uintptr(into), uintptr(len(k.buffer)), 0, 0, 0)
	return int(got), code
}

// Close closes the file; the next Read opens it again.
func (k *Kept) Close() {
	if k.fd >= 0 {
		_ = unix.Close(k.fd) // it was only read
		k.fd = -1
	}
}

// Once returns the text of a file that is not kept open, or nil.
func Once(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return text
}

// Words returns the words of a line.
func Words(line []byte) iter.Seq[[]byte] { return bytes.FieldsSeq(line) }

// First returns the first word.
func First(text []byte) []byte {
	for word := range Words(text) {
		return word
	}
	return nil
}

func cutPrefix(text []byte, prefix string) ([]byte, bool) {
	if len(text) < len(prefix) || string(text[:len(prefix)]) != prefix {
		return nil, false
	}
	return text[len(prefix):], true
}

func firstLine(text []byte) []byte {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return line
}
