package sampler

import (
	"bytes"
	"iter"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kept is a file of /proc or /sys that stays open: the kernel makes its text
// anew for each reading from its beginning. The package os would have the
// runtime wait on it for events.
type Kept struct {
	path   string
	fd     int
	buffer []byte
}

// Keep opens a file when it is first read; it reads at most so many bytes of a file.
func Keep(path string, bytes int) *Kept {
	return &Kept{path: path, fd: -1, buffer: make([]byte, bytes)}
}

// Read gives the text, until the next call, or nil when there is none. The file
// of a device that is gone stays unreadable when one of that name comes back.
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

// pread is pread(2), made without a word to Go's scheduler: the kernel makes the
// text without waiting, and the scheduler's watching thread would be woken.
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

// Once is the text of a file that is not kept open, or nil.
func Once(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return text
}

// Words are the words of a line.
func Words(line []byte) iter.Seq[[]byte] { return bytes.FieldsSeq(line) }

// First is the first word.
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
