package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/engine"
)

// collectPercent makes the garbage collector run early. A load's log is nearly all of its
// heap, which would otherwise grow to twice that size. Collections are rare all the same,
// because little garbage is made.
const collectPercent = 25

// runLoad runs a load in the guest until the context ends. See package engine for the files
// that it leaves in this folder.
func runLoad(ctx context.Context, args []string, _ io.Writer) error {
	var config engine.Config
	if err := decode("config", args[0], &config); err != nil {
		return err
	}
	if err := config.Check(); err != nil {
		return badInput{err}
	}
	config.Version = version
	debug.SetGCPercent(collectPercent)
	return engine.Run(ctx, config, ".")
}

// runFill fills a disk. The file "progress" in this folder has the byte up to which
// everything is written and on the disk. At the end runFill prints that byte, and how many
// ms it took.
func runFill(ctx context.Context, args []string, stdout io.Writer) (err error) {
	began := time.Now()
	var numbers [3]uint64
	for i, name := range []string{"FROM", "TO", "SEED"} {
		if numbers[i], err = strconv.ParseUint(args[1+i], 10, 64); err != nil || i < 2 && numbers[i] > 1<<62 {
			return badInput{fmt.Errorf("%s %q: want a number, 0 or more", name, args[1+i])}
		}
	}
	from, to, seed := int64(numbers[0]), int64(numbers[1]), numbers[2] //nolint:gosec // not so large
	disk, err := os.OpenFile(args[0], os.O_WRONLY, 0)                  //nolint:gosec // whoever calls the program names the disk
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, disk.Close()) }()
	told, problem := from, error(nil)
	err = engine.Fill(ctx, args[0], from, to, seed, func(bytes int64) {
		if at := from + bytes; problem == nil && (at-told >= fillStepBytes || at == to) {
			told, problem = at, tellProgress(disk, at)
		}
	})
	if err = errors.Join(err, problem); err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, to, time.Since(began).Milliseconds())
	return err
}

// fillStepBytes is the number of bytes written between two reports of the progress.
const fillStepBytes = 16 << 20

// tellProgress replaces the progress file as a whole, after the bytes it reports are on the
// disk: a fill can go on from there even after a power failure.
func tellProgress(disk *os.File, at int64) error {
	file := engine.ProgressFile
	if err := unix.Fdatasync(int(disk.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", disk.Name(), err)
	}
	if err := os.WriteFile(file+".new", []byte(strconv.FormatInt(at, 10)+"\n"), 0o644); err != nil {
		return fmt.Errorf("tell the progress: %w", err)
	}
	return os.Rename(file+".new", file) //nolint:forbidigo // the program for the guest imports little (docs/load.md)
}
