package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"

	"heliotrope/internal/load/engine"
)

// runLoad runs a load in the guest until the context ends. See package engine for
// what it leaves in this folder.
func runLoad(ctx context.Context, args []string, _ io.Writer) error {
	var config engine.Config
	if err := decode("config", args[0], &config); err != nil {
		return err
	}
	if err := config.Check(); err != nil {
		return badInput{err}
	}
	config.Version = version
	return engine.Run(ctx, config, ".")
}

// runFill fills a disk. The file progress of this folder has how many bytes are
// written, from FROM on.
func runFill(ctx context.Context, args []string, stdout io.Writer) error {
	var numbers [3]uint64
	for i, name := range []string{"FROM", "TO", "SEED"} {
		var err error
		if numbers[i], err = strconv.ParseUint(args[1+i], 10, 64); err != nil || i < 2 && numbers[i] > 1<<62 {
			return badInput{fmt.Errorf("%s %q: want a number, 0 or more", name, args[1+i])}
		}
	}
	from, to, seed := int64(numbers[0]), int64(numbers[1]), numbers[2] //nolint:gosec // not so large
	var problem error
	told, written := int64(-1), int64(0)
	err := engine.Fill(ctx, args[0], from, to, seed, func(bytes int64) {
		written = bytes
		if told < 0 || bytes-told >= fillStepBytes || bytes == to-from {
			told, problem = bytes, tellProgress(bytes)
		}
	})
	if err == nil {
		err = problem
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, written)
	return err
}

// fillStepBytes is how much is written before it is told again.
const fillStepBytes = 16 << 20

// tellProgress writes the file as a whole.
func tellProgress(bytes int64) error {
	file := engine.ProgressFile
	if err := os.WriteFile(file+".new", []byte(strconv.FormatInt(bytes, 10)+"\n"), 0o644); err != nil {
		return fmt.Errorf("tell the progress: %w", err)
	}
	return os.Rename(file+".new", file) //nolint:forbidigo // the program for the guest imports little (docs/load.md)
}
