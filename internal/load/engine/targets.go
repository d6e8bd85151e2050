package engine

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/spec"
)

// openTargets opens the device of each target for direct I/O and checks that it can do these
// I/Os. A block device that is mounted or that another load has open is refused (O_EXCL of
// open(2)). Targets on one device share a descriptor; it is a raw one, because it must not get
// into Go's poller. alignBytes is the alignment of every buffer.
func openTargets(access spec.Access, targets []spec.Target) (files []int, alignBytes int64, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, closeTargets(files))
			files = nil
		}
	}()
	flags := unix.O_RDONLY
	if writes(access) {
		flags = unix.O_RDWR
	}
	byDevice := map[string]int{}
	for _, target := range targets {
		file, open := byDevice[target.Device]
		if !open {
			if file, err = unix.Open(target.Device, flags|unix.O_DIRECT|unix.O_EXCL|unix.O_CLOEXEC, 0); err != nil {
				return files, 0, fmt.Errorf("open %s with direct I/O: %w%s", target.Device, err, hints[err])
			}
			byDevice[target.Device] = file
		}
		files = append(files, file)
		disk, err := look(file)
		if err == nil {
			err = disk.check(access, target)
		}
		if err != nil {
			return files, 0, fmt.Errorf("target %s: %w", target.Device, err)
		}
		alignBytes = max(alignBytes, disk.sectorBytes)
	}
	return files, alignBytes, nil
}

// hints say what to do about an error.
var hints = map[error]string{
	unix.EINVAL: ": it has none; want a block device, or a file system that has direct I/O",
	unix.EBUSY:  ": something else has it, such as a mount; want a disk that nobody uses",
}

func closeTargets(files []int) (err error) {
	files = slices.Clone(files)
	slices.Sort(files)
	for _, file := range slices.Compact(files) {
		err = errors.Join(err, unix.Close(file))
	}
	return err
}

// writes reports whether an access specification has writes; the reply to a read is a write.
func writes(access spec.Access) bool {
	for _, line := range access.Lines {
		if line.ReadPercent < 100 || line.ReplyBytes > 0 {
			return true
		}
	}
	return false
}

// disk is what is known of a device or file. Offsets and sizes of direct I/O are multiples of its
// sector size, and so are the addresses of buffers: before Linux 6.0 they had to be.
type disk struct {
	sizeBytes, sectorBytes int64
	readOnly               bool
}

// check returns why a disk cannot do these I/Os.
func (d disk) check(access spec.Access, target spec.Target) error {
	if target.OffsetBytes > d.sizeBytes || target.SizeBytes > d.sizeBytes-target.OffsetBytes {
		return fmt.Errorf("it has %d bytes: %d from %d on are wanted", d.sizeBytes, target.SizeBytes, target.OffsetBytes)
	}
	if d.readOnly && writes(access) {
		return errors.New("it is read-only, and the load has writes")
	}
	check := func(setting string, bytes int64) error {
		if bytes%d.sectorBytes != 0 {
			return fmt.Errorf("%s %d: want a multiple of its sector, %d bytes", setting, bytes, d.sectorBytes)
		}
		return nil
	}
	err := check("its first byte", target.OffsetBytes)
	for i, line := range access.Lines {
		err = cmp.Or(err, check(fmt.Sprintf("lines[%d].size_bytes", i), int64(line.SizeBytes)),
			check(fmt.Sprintf("lines[%d].align_bytes", i), int64(line.AlignBytes)),
			check(fmt.Sprintf("lines[%d].reply_bytes", i), int64(line.ReplyBytes)))
	}
	return err
}

// look asks the kernel about a descriptor: ioctl_list(2), and for a file's sector size statx(2),
// since 6.1.
func look(file int) (disk, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(file, &stat); err != nil {
		return disk{}, fmt.Errorf("stat: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		sector := int64(spec.SectorBytes)
		var more unix.Statx_t
		if err := unix.Statx(file, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &more); err == nil && more.Mask&unix.STATX_DIOALIGN != 0 {
			sector = max(sector, int64(more.Dio_offset_align))
		}
		return disk{sizeBytes: stat.Size, sectorBytes: sector}, nil
	}
	size, err := unix.Seek(file, 0, unix.SEEK_END) // BLKGETSIZE64, on any machine
	if err != nil {
		return disk{}, fmt.Errorf("ask for its size: %w", err)
	}
	sector, err := unix.IoctlGetInt(file, unix.BLKSSZGET)
	if err != nil {
		return disk{}, fmt.Errorf("ask for its sector: %w", err)
	}
	readOnly, err := unix.IoctlGetInt(file, unix.BLKROGET)
	if err != nil {
		return disk{}, fmt.Errorf("ask whether it is read-only: %w", err)
	}
	return disk{sizeBytes: size, sectorBytes: int64(sector), readOnly: readOnly != 0}, nil
}
