package ledger

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// check refuses a region that does not consist of whole records.
func (r Region) check() error {
	if r.OffsetBytes < 0 || r.OffsetBytes%RecordBytes != 0 || r.SizeBytes < RecordBytes || r.SizeBytes%RecordBytes != 0 {
		return fmt.Errorf("the ledger's region of %d bytes at %d: want multiples of %d, and one record at least",
			r.SizeBytes, r.OffsetBytes, RecordBytes)
	}
	return nil
}

// open opens a device or a file for direct I/O: data that is read or written through the page
// cache proves nothing about the disk. There is no alternative, so a file system without direct
// I/O is an error. The region must be within the device.
func open(device string, region Region, flags int) (*os.File, error) {
	if err := region.check(); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(device, flags|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("open the ledger's device: %w: no direct I/O there, without which nothing is proved; "+
			"put it on a block device, or a file system that has direct I/O", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open the ledger's device with direct I/O: %w", err)
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err == nil && (region.SizeBytes > size || region.OffsetBytes > size-region.SizeBytes) {
		err = fmt.Errorf("it has %d bytes, but the ledger's region ends at %d", size, uint64(region.OffsetBytes)+uint64(region.SizeBytes)) //nolint:gosec // check has seen that they are not negative
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", device, errors.Join(err, file.Close()))
	}
	return file, nil
}

// pages returns memory that is aligned for direct I/O. Free it with unix.Munmap.
func pages(bytes int) ([]byte, error) {
	memory, err := unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("memory of %d bytes for direct I/O: %w", bytes, err)
	}
	return memory, nil
}
