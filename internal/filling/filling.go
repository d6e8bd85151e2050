// Package filling has our witness's program fill a disk on the machine where it
// is, so that what is measured later neither meets holes nor allocates.
//
// It promises that a fill outlives whoever asked for it: it is found again by its
// folder, and one that was broken off goes on from where it was.
//
// Dangerous: what the disk had is gone. Whoever asks must know that nothing uses
// it, for an image file nobody else looks.
package filling

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/alive"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

const (
	// lookEvery is how often a fill is looked at.
	lookEvery  = 500 * time.Millisecond
	outputFile = "output" // of a record.Process
)

// Disk is a disk, or an image file, and who fills it.
type Disk struct {
	Process record.Process // whose folder is its own
	Program string         // the witness's path on the machine
	Path    string
}

// Fill fills the disk from a byte to another with what follows from the seed, and
// tells how long the program took for it. reached is told up to which byte all is
// written, each time that there is more of it; its error ends Fill. The context's
// end does not end the program: Fill, called again with the same arguments, or with
// a byte that was reached, finds it.
//
// After success the process's folder stays, so that Fill does nothing there until
// somebody removes it. After a failure it is removed.
func (d Disk) Fill(ctx context.Context, fromByte, toByte int64, seed uint64, reached func(byte int64) error) (took time.Duration, err error) {
	last := fromByte
	err = poll.Until(ctx, lookEvery, func(ctx context.Context) (bool, error) {
		status, err := d.Process.Status(ctx, engine.ProgressFile, outputFile)
		if err != nil {
			return false, err
		}
		var at, ms int64
		if _, scanErr := fmt.Sscan(status.Lines[0], &at); scanErr == nil && at > last {
			last = at
			alive.Reached(ctx, at, toByte)
			err = reached(at)
		}
		switch {
		case err != nil:
			return false, err
		case status.State == record.None:
			err := d.Process.Start(ctx, d.Program, "fill", d.Path,
				strconv.FormatInt(fromByte, 10), strconv.FormatInt(toByte, 10), strconv.FormatUint(seed, 10))
			if errors.Is(err, record.ErrEnded) {
				err = nil // it is looked at next
			}
			return false, err
		case status.State == record.Running:
			return false, nil
		}
		if _, scanErr := fmt.Sscan(status.Lines[1], &at, &ms); scanErr == nil && at == toByte && status.State == record.Ended {
			took = time.Duration(ms) * time.Millisecond
			return true, nil
		}
		return false, errors.Join(d.failed(status), d.Process.Remove(ctx))
	})
	if err != nil {
		return 0, fmt.Errorf("%s: fill %s: %w", d.Process.Host.Name(), d.Path, err)
	}
	return took, nil
}

// zeroPiece is how many MiB of zeros are written at once, and zeroLimit how long that may
// take: less than a step on a testbed may be silent. At 2 Mbit/s it is 67 s.
const (
	zeroPiece = 16
	zeroLimit = 4 * time.Minute
)

// Zero writes zeros from a byte to another, both of which are multiples of a MiB: behind what
// is filled, for a ledger. It says so after each piece (alive.Tell).
func (d Disk) Zero(ctx context.Context, fromByte, toByte int64) error {
	const mebibyte = 1 << 20
	end := toByte / mebibyte
	for at := fromByte / mebibyte; at < end; at += zeroPiece {
		_, err := d.Process.Host.Run(ctx, remote.Command{Timeout: zeroLimit, Args: []string{"dd", "if=/dev/zero", "of=" + d.Path, "bs=" + strconv.Itoa(mebibyte),
			"seek=" + strconv.FormatInt(at, 10), "count=" + strconv.FormatInt(min(zeroPiece, end-at), 10), "conv=notrunc,fsync"}})
		if err != nil {
			return fmt.Errorf("write zeros to %s: %w", d.Path, err)
		}
		alive.Tell(ctx)
	}
	return nil
}

// failed is why a fill has not ended well.
func (d Disk) failed(status record.Status) error {
	if status.State == record.Stopped {
		return errors.New("somebody has stopped it")
	}
	said := strings.TrimSpace(status.Said)
	if said == "" {
		said = "it ended without a word"
	}
	return errors.New(said)
}
