package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"heliotrope/internal/load/iolog"
	"heliotrope/internal/onhost"
	"heliotrope/internal/witness"
	"heliotrope/internal/witness/beat"
	"heliotrope/internal/witness/sampler"
	"heliotrope/internal/witness/traffic"
)

// runHost watches on a host until the context ends. Its parts end together; the error is
// that of the part that failed.
func runHost(ctx context.Context, args []string, _ io.Writer) (err error) {
	var config witness.HostConfig
	if err := decode("config", args[0], &config); err != nil {
		return err
	}
	if err := config.Check(); err != nil {
		return badInput{err}
	}
	watcher, err := watcherOf(config)
	if err != nil {
		return badInput{err}
	}
	files, err := openLogs(config.Files())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.close()) }()
	var more func([]byte) ([]byte, error)
	if len(config.Classes) > 0 {
		counting, err := traffic.Open(config.Device(witness.WAN), config.Classes)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, counting.Close()) }()
		more = counting.Append
	}
	counters, err := sampler.New(config.Sources, onhost.Readers(), more)
	if err != nil {
		return badInput{err}
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
	var near func() bool
	if watcher != nil {
		domains := &nearby{out: files[witness.DomainsFile]}
		near = domains.runs.Load
		start("domains", func() error { return watcher(ctx, domains) })
	}
	if config.Listen.IsValid() {
		start("heartbeats", func() error {
			return beat.Host(ctx, beat.HostOptions{Config: config,
				Heartbeats: files[witness.HeartbeatsFile], Exchanges: files[witness.ExchangesFile], Near: near})
		})
	}
	if config.LogListen.IsValid() {
		start("the load's log", func() error {
			// An acknowledged block must be in the file: blocks are not buffered.
			return iolog.Receive(ctx, config.LogListen, config.Guest.Addr(), config.Token, files[witness.LogFile].file)
		})
	}
	start("counters", func() error {
		return counters.Run(ctx, files[witness.CountersFile], func(samples int64) error {
			if err := files.flush(); err != nil {
				return err
			}
			return sign(life, samples)
		})
	})
	return parts.Wait()
}

// watcherOf is the watcher of the domain that the configuration names; nil when none is
// wanted.
func watcherOf(config witness.HostConfig) (func(ctx context.Context, out io.Writer) error, error) {
	if config.Watcher == "" {
		return nil, nil
	}
	watcher := onhost.Watcher(config.Watcher)
	if watcher == nil {
		return nil, fmt.Errorf("watcher %q: this program has none of that name", config.Watcher)
	}
	domain, err := uuid.Parse(config.Domain)
	if err != nil {
		return nil, fmt.Errorf("domain %q: %w", config.Domain, err)
	}
	return func(ctx context.Context, out io.Writer) error { return watcher(ctx, out, domain) }, nil
}

// sign writes the number of samples over the number before, which has at most as many
// digits: at every moment, readers of the file see one of the two.
func sign(life *os.File, samples int64) error {
	_, err := life.WriteAt(append(strconv.AppendInt(nil, samples, 10), '\n'), 0)
	return err
}
