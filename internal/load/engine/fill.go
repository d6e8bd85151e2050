package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/spec"
)

const (
	fillBytes  = 256 << 10 // of a write
	fillSlots  = 8         // writes in flight
	blockBytes = 4096      // after so many bytes the random bytes begin anew
)

// fillAccess describes a fill to the code that checks its target: only writes of whole blocks.
var fillAccess = spec.Access{Lines: []spec.Line{{SizeBytes: blockBytes}}}

// Fill writes to a device or file, which already has its size, bytes that follow from the seed
// and their offset: the same part of any copy has the same bytes, whoever filled it. done is told
// how many bytes are written without a gap from fromByte on; an interrupted fill may continue
// from there. Both ends are multiples of 4 KiB, except that toByte may be the end of the device.
// Fill ends within 10 s after its context ends, even when the disk hangs.
func Fill(ctx context.Context, path string, fromByte, toByte int64, seed uint64, done func(bytes int64)) error {
	if err := fill(ctx, path, fromByte, toByte, seed, done); err != nil {
		return fmt.Errorf("fill %s from byte %d to %d: %w", path, fromByte, toByte, err)
	}
	return nil
}

func fill(ctx context.Context, path string, fromByte, toByte int64, seed uint64, done func(bytes int64)) (err error) {
	if fromByte < 0 || fromByte > toByte || fromByte%blockBytes != 0 || toByte%spec.SectorBytes != 0 {
		return fmt.Errorf("want 0 or more, in order, multiples of %d, the end of %d at least", blockBytes, spec.SectorBytes)
	}
	target := spec.Target{Device: path, OffsetBytes: fromByte, SizeBytes: toByte - fromByte}
	files, _, err := openTargets(fillAccess, []spec.Target{target})
	if errors.Is(err, unix.EINVAL) {
		files, err = openCached(target)
	}
	if err != nil {
		return err
	}
	f := filling{at: fromByte, from: fromByte, end: toByte, seed: seed, report: done, drain: drainLimit}
	err = f.open(ctx, files)
	if f.inFlight == 0 { // otherwise nothing is released: the kernel still uses it
		err = errors.Join(err, closeTargets(files))
	}
	return err
}

// openCached opens a file through the page cache, for a file system without direct I/O such as
// tmpfs before Linux 6.6.
func openCached(target spec.Target) ([]int, error) {
	var stat unix.Stat_t
	if err := unix.Stat(target.Device, &stat); err != nil {
		return nil, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG || target.SizeBytes > stat.Size-target.OffsetBytes {
		return nil, fmt.Errorf("it has no direct I/O, and is no file of %d bytes", target.OffsetBytes+target.SizeBytes)
	}
	file, err := unix.Open(target.Device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return []int{file}, nil
}

// open fills a disk that is open.
func (f *filling) open(ctx context.Context, files []int) error {
	how, err := chooseMethod("")
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if f.device, err = how.open(files, fillSlots); err != nil {
		return err
	}
	if f.memory, err = pages(fillSlots * fillBytes); err != nil {
		return errors.Join(err, f.device.close())
	}
	if err = f.run(ctx); f.inFlight > 0 {
		return err
	}
	err = errors.Join(err, f.device.close(), unix.Munmap(f.memory))
	if err == nil {
		err = unix.Fsync(files[0])
	}
	return err
}

// filling is one run of Fill. Writes are begun in order of their offsets, each in a slot that is
// free.
type filling struct {
	device        device
	memory        []byte
	from, at, end int64 // at: offset of the next write
	seed          uint64
	report        func(bytes int64)
	drain         time.Duration // how long writes in flight may take after the context has ended

	flying   [fillSlots]spec.IO // SizeBytes 0: the slot is free
	inFlight int
	err      error
}

// run returns when everything is written, something has failed, or the context has ended. Writes
// are left in flight only when the device no longer takes calls or does not answer in time.
func (f *filling) run(ctx context.Context) error {
	var ended time.Time // when the context was found to have ended; zero: it has not
	for f.inFlight > 0 || f.at < f.end && f.err == nil && ctx.Err() == nil {
		for slot := range f.flying {
			if f.flying[slot].SizeBytes == 0 && f.at < f.end && f.err == nil && ctx.Err() == nil {
				f.begin(slot)
			}
		}
		if err := f.device.wait(1, lookEvery, f.completed); err != nil {
			return err
		}
		f.report(f.written() - f.from)
		switch {
		case ctx.Err() == nil || f.inFlight == 0:
		case ended.IsZero():
			ended = time.Now()
		case time.Since(ended) >= f.drain:
			return fmt.Errorf("%w; %d writes are still in flight: the disk hangs", context.Cause(ctx), f.inFlight)
		}
	}
	if f.err == nil && f.at < f.end {
		return context.Cause(ctx)
	}
	return f.err
}

func (f *filling) begin(slot int) {
	io := spec.IO{Slot: slot, Write: true, OffsetBytes: f.at, SizeBytes: int(min(fillBytes, f.end-f.at))}
	buffer := f.memory[slot*fillBytes:][:io.SizeBytes]
	fillBlocks(buffer, f.seed, f.at)
	f.flying[slot] = io
	f.inFlight++
	f.at += int64(io.SizeBytes)
	f.device.submit(slot, io, buffer)
}

// fillBlocks fills a buffer that is to be written at offset.
func fillBlocks(buffer []byte, seed uint64, offset int64) {
	for at := 0; at < len(buffer); at += blockBytes {
		random := rand.NewPCG(seed, uint64(offset)+uint64(at)) //nolint:gosec // not negative
		fillRandom(buffer[at:min(at+blockBytes, len(buffer))], random)
	}
}

func (f *filling) completed(slot, result int) {
	io := f.flying[slot]
	f.inFlight--
	if result == io.SizeBytes {
		f.flying[slot] = spec.IO{}
		return
	}
	// The write stays in flying, as the gap that it leaves.
	what := fmt.Sprintf("%d bytes were written", result)
	if result < 0 {
		what = unix.Errno(-result).Error()
	}
	if f.err == nil {
		f.err = fmt.Errorf("write %d bytes at %d: %s", io.SizeBytes, io.OffsetBytes, what)
	}
}

// written returns the offset up to which there is no gap.
func (f *filling) written() int64 {
	written := f.at
	for _, io := range f.flying {
		if io.SizeBytes > 0 {
			written = min(written, io.OffsetBytes)
		}
	}
	return written
}
