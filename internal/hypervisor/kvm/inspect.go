package kvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"heliotrope/internal/hypervisor"
)

// listOpen prints what each QEMU with the UUID in the first argument has open, and
// what the paths in the other arguments are: raw mode, device number and inode, in
// the format of stat(1), and the descriptors' names and flags (proc(5)).
const listOpen = `uuid=$1
shift
test $# = 0 || stat -L -c 'want %f %t:%T %d:%i' -- "$@" || exit 1
for p in $(` + listQEMU + `); do
	tr '\0' '\n' 2>/dev/null <"/proc/$p/cmdline" | grep -qxF -- "$uuid" || continue
	echo "process $p"
	cd "/proc/$p" || exit 1
	stat -L -c 'is %n %f %t:%T %d:%i' fd/* 2>/dev/null
	ls -l fd | sed -n 's|^.* \([0-9][0-9]*\) -> |name fd/\1 |p'
	grep -sH ^flags: fdinfo/*
done
true`

// Bits of a mode and of the flags of open(2) that identify an image of a disk.
const (
	typeBits    = 0o170000
	blockDevice = 0o060000
	regularFile = 0o100000
	accessBits  = 0o3
	readWrite   = 0o2
	direct      = 0o40000 // O_DIRECT on x86
)

// opened is one open file.
type opened struct {
	name   string
	mode   uint64
	device string // its number, for a block device
	inode  string // of the file itself, with the device that it is on
	flags  uint64
}

// isDisk says whether a file may be somebody's disk: a block device, or a file
// that is opened as images are. A QEMU that waits for a migration may have opened
// its own image only for reading.
func (o opened) isDisk() bool {
	switch o.mode & typeBits {
	case blockDevice:
		return true
	case regularFile:
		return !strings.HasPrefix(o.name, "/memfd:") && (o.flags&direct != 0 || o.flags&accessBits == readWrite)
	}
	return false
}

// is says whether two open files are the same disk.
func (o opened) is(other opened) bool {
	if o.mode&typeBits != other.mode&typeBits {
		return false
	}
	if o.mode&typeBits == blockDevice {
		return o.device == other.device
	}
	return o.inode == other.inode
}

// inspect checks that the QEMU that waits for a domain has opened the disk that it
// should have, and no other disk.
func (h *Host) inspect(ctx context.Context, domain hypervisor.Domain) error {
	paths := pathsOf(domain.Disk)
	text, err := h.script(ctx, listOpen, append([]string{domain.UUID().String()}, paths...)...)
	if err != nil {
		return err
	}
	if err := compareOpened(text, paths...); err != nil {
		return h.failed("look what QEMU has opened for "+domain.Name, err)
	}
	return nil
}

// pathsOf are the paths that QEMU opens for a disk.
func pathsOf(disk hypervisor.Disk) (paths []string) {
	for _, path := range []string{disk.Path, disk.Base} {
		if path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}

// compareOpened requires that one process has all of a disk's paths open, and no
// other disk.
func compareOpened(text string, paths ...string) error {
	var list openList
	if err := list.parse(text); err != nil {
		return err
	}
	if list.processes != 1 {
		return fmt.Errorf("%d processes have its UUID, want one", list.processes)
	}
	if len(list.want) != len(paths) {
		return fmt.Errorf("%d of the paths %q were found", len(list.want), paths)
	}
	found := make([]bool, len(paths))
	for _, file := range list.files {
		if !file.isDisk() || strings.HasPrefix(file.name, logs+"/") {
			continue
		}
		i := slices.IndexFunc(list.want, file.is)
		if i < 0 {
			return fmt.Errorf("it has opened %s, which is not of the domain's disk %q: somebody else's data may be there", file.name, paths)
		}
		found[i] = true
	}
	if i := slices.Index(found, false); i >= 0 {
		return fmt.Errorf("it has not opened the domain's disk %s", paths[i])
	}
	return nil
}

// openList is the output of listOpen.
type openList struct {
	processes int
	want      []opened
	files     map[string]opened // by their names in the process's folder: "fd/3"
}

func (l *openList) parse(text string) error {
	l.files = map[string]opened{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if err := l.line(line); err != nil {
			return fmt.Errorf("unreadable line %q: %w", line, err)
		}
	}
	return nil
}

func (l *openList) line(line string) (err error) {
	kind, rest, _ := strings.Cut(line, " ")
	fields := strings.Fields(rest)
	switch {
	case kind == "process":
		l.processes++
	case kind == "want" && len(fields) == 3:
		want := opened{device: fields[1], inode: fields[2]}
		want.mode, err = strconv.ParseUint(fields[0], 16, 32)
		l.want = append(l.want, want)
	case kind == "is" && len(fields) == 4:
		file := l.files[fields[0]]
		file.device, file.inode = fields[2], fields[3]
		file.mode, err = strconv.ParseUint(fields[1], 16, 32)
		l.files[fields[0]] = file
	case kind == "name" && len(fields) >= 1:
		number, name, _ := strings.Cut(rest, " ")
		file := l.files[number]
		file.name = name
		l.files[number] = file
	case strings.HasPrefix(line, "fdinfo/"):
		number, value, _ := strings.Cut(strings.TrimPrefix(line, "fdinfo/"), ":flags:")
		file := l.files["fd/"+number]
		file.flags, err = strconv.ParseUint(strings.TrimSpace(value), 8, 64)
		l.files["fd/"+number] = file
	default:
		return errors.New("want a file that is open")
	}
	return err
}
