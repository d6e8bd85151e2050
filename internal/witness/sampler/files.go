package sampler

import (
	"bytes"
	"iter"
	"os"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kept is a file of /proc or /sys that stays open: the kernel makes its text
// anew for each reading from its beginning. The package os would have the
// runtime wait on it for events.
type kept struct {
	path   string
	fd     int
	buffer []byte
}

// keep reads at most so many bytes of a file.
func keep(path string, bytes int) *kept {
	return &kept{path: path, fd: -1, buffer: make([]byte, bytes)}
}

// read gives the text, until the next call, or nil when there is none. The file
// of a device that is gone stays unreadable when one of that name comes back.
func (k *kept) read() []byte {
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
		k.close()
	}
	return nil
}

// pread is pread(2), made without a word to Go's scheduler: the kernel makes the
// text without waiting, and the scheduler's watching thread would be woken.
func (k *kept) pread() (n int, code unix.Errno) {
	into := unsafe.Pointer(&k.buffer[0]) //nolint:gosec // of the length that is given with it
	got, _, code := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(k.fd), uintptr(into), uintptr(len(k.buffer)), 0, 0, 0)
	return int(got), code
}

func (k *kept) close() {
	if k.fd >= 0 {
		_ = unix.Close(k.fd) // it was only read
		k.fd = -1
	}
}

// once is the text of a file that is not kept open, or nil.
func once(path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return text
}

func lines(text []byte) iter.Seq[[]byte] { return bytes.Lines(text) }

func cutPrefix(text []byte, prefix string) ([]byte, bool) {
	if len(text) < len(prefix) || string(text[:len(prefix)]) != prefix {
		return nil, false
	}
	return text[len(prefix):], true
}

// first is the first word.
func first(text []byte) []byte {
	for word := range bytes.FieldsSeq(text) {
		return word
	}
	return nil
}

// columns adds the words of the first line under the names, as far as they go;
// of the names only those that are wanted, unless that is nil.
func (s *Sampler) columns(device string, names []string, text []byte, wanted []string) {
	i := 0
	for word := range bytes.FieldsSeq(firstLine(text)) {
		if i == len(names) {
			return
		}
		if wanted == nil || slices.Contains(wanted, names[i]) {
			s.value(device, names[i], word)
		}
		i++
	}
}

func firstLine(text []byte) []byte {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	return line
}

// scaled adds a line with a multiple of a number, if it is one.
func (s *Sampler) scaled(device, name string, digits []byte, factor int64) {
	if value, err := strconv.ParseInt(string(digits), 10, 64); err == nil {
		s.number(device, name, value*factor)
	}
}
