package kvm

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// listOpen prints what each QEMU has open that has the UUID of the first argument,
// and what the path of the second is: raw mode, device number and inode, in the
// format of stat(1), and the descriptors' names and flags (proc(5)).
const listOpen = `test -z "$2" || stat -L -c 'want %f %t:%T %d:%i' -- "$2" || exit 1
for p in $(` + listQEMU + `); do
	tr '\0' '\n' 2>/dev/null <"/proc/$p/cmdline" | grep -qxF -- "$1" || continue
	echo "process $p"
	cd "/proc/$p" || exit 1
	stat -L -c 'is %n %f %t:%T %d:%i' fd/* 2>/dev/null
	ls -l fd | sed -n 's|^.* \([0-9][0-9]*\) -> |name fd/\1 |p'
	grep -sH ^flags: fdinfo/*
done
true`

// The bits of a mode and of the flags of open(2) that tell an image of a disk.
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
	device string // of a block device
	inode  string // of its file
	flags  uint64
}

// isDisk tells what may be somebody's disk: a block device, or a file that is
// opened as images are. A QEMU that waits may have opened its own for reading
// only.
func (o opened) isDisk() bool {
	switch o.mode & typeBits {
	case blockDevice:
		return true
	case regularFile:
		return !strings.HasPrefix(o.name, "/memfd:") && (o.flags&direct != 0 || o.flags&accessBits == readWrite)
	}
	return false
}

// is says whether two are the same disk.
func (o opened) is(other opened) bool {
	if o.mode&typeBits != other.mode&typeBits {
		return false
	}
	if o.mode&typeBits == blockDevice {
		return o.device == other.device
	}
	return o.inode == other.inode
}

// inspect looks whether the QEMU that waits for a domain has opened the disk that
// it should have, and no other.
func (h *Host) inspect(ctx context.Context, domain hypervisor.Domain) error {
	text, err := h.script(ctx, listOpen, domain.UUID().String(), domain.Disk.Path)
	if err != nil {
		return err
	}
	if err := compareOpened(text, domain.Disk.Path); err != nil {
		return h.failed("look what QEMU has opened for "+domain.Name, err)
	}
	return nil
}

// compareOpened wants the disk of a path among what one process has open, and no
// other disk.
func compareOpened(text, path string) error {
	var list openList
	if err := list.parse(text); err != nil {
		return err
	}
	if list.processes != 1 {
		return fmt.Errorf("%d processes have its UUID, want one", list.processes)
	}
	found := path == ""
	for _, file := range list.files {
		switch {
		case !file.isDisk() || strings.HasPrefix(file.name, logs+"/"):
		case path != "" && file.is(list.want):
			found = true
		default:
			return fmt.Errorf("it has opened %s, which is not the domain's disk %q: somebody else's data may be there", file.name, path)
		}
	}
	if !found {
		return fmt.Errorf("it has not opened the domain's disk %s", path)
	}
	return nil
}

// openList is what listOpen prints.
type openList struct {
	processes int
	want      opened
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
		l.want = opened{device: fields[1], inode: fields[2]}
		l.want.mode, err = strconv.ParseUint(fields[0], 16, 32)
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

// sizeOf prints the bytes of a block device or a file.
const sizeOf = `if test -b "$1"; then blockdev --getsize64 "$1"; else stat -L -c %s -- "$1"; fi`

// compareSizes wants the target's private disk to have room for the source's.
func (m *migration) compareSizes(ctx context.Context) error {
	var sizes [2]int64
	for i, disk := range []struct {
		host *Host
		path string
	}{{m.from, m.order.Domain.Disk.Path}, {m.to, m.order.AtTarget.Disk.Path}} {
		text, err := disk.host.script(ctx, sizeOf, disk.path)
		if err != nil {
			return fmt.Errorf("look for the private disk: %w", err)
		}
		if sizes[i], err = strconv.ParseInt(strings.TrimSpace(text), 10, 64); err != nil {
			return disk.host.failed("look for the size of "+disk.path, err)
		}
	}
	if sizes[1] < sizes[0] {
		return fault.New(fault.Infrastructure, "%s: the disk %s has %d bytes, and the source's %d: make it larger",
			m.to.Host(), m.order.AtTarget.Disk.Path, sizes[1], sizes[0])
	}
	return nil
}
