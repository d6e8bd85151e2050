package ledger

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// chunkBytes is how much is read at once.
const chunkBytes = 1 << 20

// Check reads a whole region back from one copy of the disk, without the page cache, and looks in
// each slot for the newest acknowledged record or a newer one. It fills in the report except for
// the copy's name and host. An error means that the region could not be read; it says nothing
// about the records.
//
// Nobody may write to the region meanwhile. If the guest crashed during a write and the disk does
// not write RecordBytes atomically, the record that the write was about to replace may be
// damaged.
func Check(device string, region Region, acked uint64) (Report, error) {
	report := Report{Acked: acked}
	file, err := open(device, region, os.O_RDONLY)
	if err != nil {
		return report, err
	}
	defer file.Close()
	chunk, err := pages(int(min(chunkBytes, region.SizeBytes)))
	if err != nil {
		return report, err
	}
	err = report.read(file, region, chunk)
	if err := errors.Join(err, unix.Munmap(chunk)); err != nil {
		return report, fmt.Errorf("read the ledger back from %s: %w", device, err)
	}
	return report, nil
}

// CheckFrom does what Check does with a copy of the disk that is read in another way than by
// opening it on this machine. The caller must make sure that no cache lies between the copy and
// disk.
func CheckFrom(disk io.ReaderAt, region Region, acked uint64) (Report, error) {
	report := Report{Acked: acked}
	if err := region.check(); err != nil {
		return report, err
	}
	if err := report.read(disk, region, make([]byte, min(chunkBytes, region.SizeBytes))); err != nil {
		return report, fmt.Errorf("read the ledger back: %w", err)
	}
	return report, nil
}

// read reads the region and fills in the report.
func (r *Report) read(file io.ReaderAt, region Region, chunk []byte) error {
	var lost []uint64
	scratch := make([]byte, RecordBytes)
	for done := int64(0); done < region.SizeBytes; done += int64(len(chunk)) {
		chunk = chunk[:min(int64(len(chunk)), region.SizeBytes-done)]
		if n, err := file.ReadAt(chunk, region.OffsetBytes+done); n < len(chunk) {
			return fmt.Errorf("%d of %d bytes at %d: %w", n, len(chunk), region.OffsetBytes+done, err)
		}
		for at := 0; at < len(chunk); at += RecordBytes {
			slot := (done + int64(at)) / RecordBytes
			if number := r.slot(chunk[at:at+RecordBytes], scratch, region, slot); number > 0 {
				lost = append(lost, number)
			}
		}
	}
	r.LostCount = int64(len(lost))
	slices.Sort(lost)
	r.Lost = lost[:min(len(lost), MaxNamed)]
	return nil
}

// slot examines the content of a slot, and returns the number of the acknowledged record that is
// lost from it, or 0.
func (r *Report) slot(block, scratch []byte, region Region, slot int64) (lost uint64) {
	seed, number, whole := decode(block, scratch)
	slots := uint64(region.Slots()) //nolint:gosec // open has seen that there is a slot
	index := uint64(slot)           //nolint:gosec // of one of them
	ours := whole && seed == region.Seed
	misplaced := ours && (number-1)%slots != index
	if ours && !misplaced {
		r.Newest = max(r.Newest, number)
	}
	if index >= r.Acked {
		return 0 // no acknowledged record was ever written there
	}
	r.Checked++
	expected := r.Acked - (r.Acked-1-index)%slots
	if ours && !misplaced && number >= expected {
		r.Found++
		return 0
	}
	if misplaced || !whole && slices.ContainsFunc(block, func(b byte) bool { return b != 0 }) {
		r.Damaged++
	}
	return expected
}
