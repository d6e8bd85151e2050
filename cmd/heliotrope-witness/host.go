package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sync/errgroup"

	"heliotrope/internal/witness"
	"heliotrope/internal/witness/beat"
	"heliotrope/internal/witness/sampler"
	"heliotrope/internal/witness/traffic"
	"heliotrope/internal/witness/xenwatch"
)

// runHost watches on a host until the context ends. Its parts end together:
// what one of them fails with is the error.
func runHost(ctx context.Context, args []string, _ io.Writer) (err error) {
	var config witness.HostConfig
	if err := decode("config", args[0], &config); err != nil {
		return err
	}
	if err := config.Check(); err != nil {
		return badInput{err}
	}
	files, err := openLogs(config.Files())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.close()) }()
	var more func([]byte) ([]byte, error)
	if len(config.Classes) > 0 {
		counting, err := traffic.Open(config.Devices[witness.WAN], config.Classes)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, counting.Close()) }()
		more = counting.Append
	}
	life, err := os.Create(witness.SamplesFile)
	if err != nil {
		return err
	}
	defer life.Close()

	parts, ctx := errgroup.WithContext(ctx)
	start := func(name string, run func() error) {
		parts.Go(func() error {
			err := run()
			if err == nil && ctx.Err() == nil {
				err = errors.New("it ended before it was told to")
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", name, err)
			}
			return err
		})
	}
	if config.Domains {
		start("domains", func() error { return xenwatch.Watch(ctx, files[witness.DomainsFile], witness.DomainInterval) })
	}
	if config.Listen.IsValid() {
		start("heartbeats", func() error {
			return beat.Host(ctx, beat.HostOptions{Config: config,
				Heartbeats: files[witness.HeartbeatsFile], Exchanges: files[witness.ExchangesFile]})
		})
	}
	start("counters", func() error {
		return sampler.New(config.Devices, more).Run(ctx, files[witness.CountersFile], func(samples int64) error {
			if err := files.flush(); err != nil {
				return err
			}
			return sign(life, samples)
		})
	})
	return parts.Wait()
}

// sign writes how many samples there are over the number before, which has
// fewer digits or as many: whoever reads the file at that moment sees either.
func sign(life *os.File, samples int64) error {
	_, err := life.WriteAt(append(strconv.AppendInt(nil, samples, 10), '\n'), 0)
	return err
}
