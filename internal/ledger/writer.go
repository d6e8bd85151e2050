package ledger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/pace"
)

// Writer writes an attempt's records, one after the other from number 1. Only Acked may be called
// while another call runs.
type Writer struct {
	device  string
	region  Region
	file    disk
	block   []byte // aligned
	written uint64
	acked   atomic.Uint64
}

// disk is the part of an *os.File that a Writer needs.
type disk interface {
	io.WriterAt
	io.Closer
}

// ErrUsed says that the region has records of the attempt already. A second Writer would begin
// with record 1 again, and a lost record could not be distinguished from one of the other Writer.
var ErrUsed = errors.New("the ledger's region has records of this attempt already")

// OpenWriter opens a block device for writing with direct and synchronous I/O: a write returns
// when the disk reports it durable.
func OpenWriter(device string, region Region) (*Writer, error) {
	file, err := open(device, region, os.O_RDWR|unix.O_DSYNC)
	if err != nil {
		return nil, err
	}
	w := &Writer{device: device, region: region, file: file}
	if err := w.prepare(file); err != nil {
		return nil, fmt.Errorf("%s: %w", device, errors.Join(err, w.Close()))
	}
	return w, nil
}

func (w *Writer) prepare(file io.ReaderAt) error {
	block, err := pages(RecordBytes)
	if err != nil {
		return err
	}
	w.block = block
	if _, err := file.ReadAt(block, w.region.OffsetBytes); err != nil {
		return fmt.Errorf("read what was in the ledger's region: %w", err)
	}
	if seed, _, whole := decode(block, make([]byte, RecordBytes)); whole && seed == w.region.Seed {
		return ErrUsed
	}
	return nil
}

// Acked returns the newest record that the disk has acknowledged; 0 before the first.
func (w *Writer) Acked() uint64 { return w.acked.Load() }

// Write writes the next record, and returns when the disk has acknowledged it. It blocks as long
// as the disk does, and cannot be interrupted. After an error the state of the record is unknown,
// and Write must not be called again.
func (w *Writer) Write() error {
	w.written++
	encode(w.block, w.region.Seed, w.written, time.Now())
	slot := int64((w.written - 1) % uint64(w.region.Slots())) //nolint:gosec // open has seen that there is a slot
	if _, err := w.file.WriteAt(w.block, w.region.OffsetBytes+slot*RecordBytes); err != nil {
		return fmt.Errorf("record %d of the ledger, on %s: %w", w.written, w.device, err)
	}
	w.acked.Store(w.written)
	return nil
}

// Run writes a record each Interval until the context ends, which is no error. After a write that
// took longer it continues at the normal pace: missed records are not made up for. It returns
// after the write that is under way.
func (w *Writer) Run(ctx context.Context) error {
	ticker, err := pace.New(Interval)
	if err != nil {
		return err
	}
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := w.Write(); err != nil {
			return err
		}
	}
}

// Close closes the device.
func (w *Writer) Close() error {
	err := w.file.Close()
	if w.block != nil {
		err = errors.Join(err, unix.Munmap(w.block))
		w.block = nil
	}
	return err
}
