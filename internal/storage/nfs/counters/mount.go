package counters

import (
	"bytes"
	"errors"
	"math"
	"path"
	"strconv"

	"golang.org/x/sys/unix"

	"heliotrope/internal/witness"
	"heliotrope/internal/witness/sampler"
)

// MountReader reads the counters of an NFS mount at a site, as counters of a
// disk; the device is the absolute path of the mount point. It is for a guest's
// disk that is a file on that mount. One read or write of the guest may become
// several of NFS, and the number in flight is not reported.
const MountReader = "nfs-mount"

// sectorBytes is the unit in which disks count transferred data.
const sectorBytes = 512

// mostBytes is how much of the text is read at most.
const mostBytes = 1 << 20

// mount is a mount's part of /proc/self/mountstats. The file stays open, which
// does not keep the mount from being unmounted. The kernel returns the text in
// pieces of a page or more.
type mount struct {
	file, place string
	fd          int
	buffer      []byte
}

func openMount(source witness.Source, roots sampler.Roots) sampler.Reader {
	return &mount{file: path.Join(roots.Proc, "self/mountstats"), place: source.Device, fd: -1, buffer: make([]byte, 1<<14)}
}

func (m *mount) Read(to *sampler.Sample, frequent bool) {
	found, ok := parseMount(m.text(), m.place)
	if !ok {
		return
	}
	to.Number("reads", found.reads.done)
	to.Number("writes", found.writes.done)
	if frequent {
		return
	}
	to.Number("read_sectors", found.readBytes/sectorBytes)
	to.Number("read_ms", found.reads.ms)
	to.Number("write_sectors", found.writeBytes/sectorBytes)
	to.Number("write_ms", found.writes.ms)
}

// text is the contents of the file; valid until the next call.
func (m *mount) text() []byte {
	if m.fd < 0 {
		fd, err := unix.Open(m.file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil
		}
		m.fd = fd
	}
	for length := 0; ; {
		if length == len(m.buffer) && length < mostBytes {
			m.buffer = append(m.buffer, make([]byte, length)...)
		}
		n, err := unix.Pread(m.fd, m.buffer[length:], int64(length))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			m.Close()
			return nil
		case n == 0:
			return m.buffer[:length]
		}
		length += n
	}
}

func (m *mount) Close() {
	if m.fd >= 0 {
		_ = unix.Close(m.fd) // it was only read
		m.fd = -1
	}
}

// operationCount is how many operations of one kind NFS has completed, and how
// long they took together.
type operationCount struct{ done, ms int64 }

// mountCounts are the counts of a mount.
type mountCounts struct {
	readBytes, writeBytes int64 // from and to the server
	reads, writes         operationCount
}

// parseMount finds the counts of the mount at a place. Sources: the kernel's
// fs/proc_namespace.c (show_vfsstat), fs/nfs/super.c (nfs_show_stats) and
// net/sunrpc/stats.c (_print_rpc_iostats).
func parseMount(text []byte, place string) (counts mountCounts, found bool) {
	ours, reads, writes := false, false, false
	for line := range bytes.Lines(text) {
		words := bytes.Fields(line)
		if len(words) == 0 {
			continue
		}
		switch string(words[0]) {
		case "device": // SOURCE mounted on PLACE with fstype TYPE
			if ours = len(words) > 7 && string(words[4]) == place && bytes.HasPrefix(words[7], []byte("nfs")); ours {
				counts, reads, writes = mountCounts{}, false, false // of several mounts at the place, the last one counts
			}
		case "bytes:": // read and written by calls, by direct calls, from and to the server; then pages
			if ours && len(words) > 6 {
				counts.readBytes, counts.writeBytes = number(words[5]), number(words[6])
			}
		case "READ:":
			if ours {
				counts.reads, reads = countOf(words)
			}
		case "WRITE:":
			if ours {
				counts.writes, writes = countOf(words)
			}
		}
	}
	return counts, reads && writes
}

// countOf reads `NAME: operations transmissions time-outs bytes-sent
// bytes-received queued-ms round-trips-ms all-ms …`.
func countOf(words [][]byte) (count operationCount, ok bool) {
	if len(words) < 9 {
		return count, false
	}
	return operationCount{done: number(words[1]), ms: number(words[8])}, true
}

// number is a count of the kernel's; 0 when it is impossible.
func number(digits []byte) int64 {
	value, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil || value < 0 || value > math.MaxInt64/2 { // two of them can be added
		return 0
	}
	return value
}
