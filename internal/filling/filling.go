// Package filling has the witness's program fill a disk on the disk's own machine, so that the
// measured I/O later neither meets holes nor allocates.
//
// It promises that a fill outlives the process that asked for it: it is found again by its
// folder, and an interrupted fill continues from where it was.
//
// Dangerous: the disk's previous content is lost. The caller must know that nothing uses the
// disk; for an image file nothing else checks that.
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
	// lookEvery is how often the state of a fill is read.
	lookEvery  = 500 * time.Millisecond
	outputFile = "output" // of a record.Process
)

// Disk is a disk or an image file, and the process that fills it.
type Disk struct {
	Process record.Process // its folder is for this fill only
	Program string         // the witness's path on the machine
	Path    string
}

// Fill fills the disk from fromByte to toByte with bytes that follow from the seed, and returns
// how long the program took. It calls reached with the byte up to which everything is written,
// each time that has grown; an error of reached ends Fill. The end of the context does not end
// the program: Fill finds it again when it is called with the same arguments, or with a fromByte
// that was reached.
//
// After success the process's folder stays, so that Fill does nothing more until somebody removes
// the folder. After a failure Fill removes it.
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
				err = nil // the next look finds how it ended
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

// zeroPiece is how many MiB of zeros are written at once. zeroLimit is how long that may take,
// which is less than a step on a testbed may be silent. At 2 Mbit/s a piece takes 67 s.
const (
	zeroPiece = 16
	zeroLimit = 4 * time.Minute
)

// Zero writes zeros from fromByte to toByte, both multiples of 1 MiB: the part after the filled
// one, for a ledger. It calls alive.Tell after each piece.
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

// failed returns why a fill did not succeed.
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
