// Package witness has what watches during a trial, on the hosts and in the guest. Program does
// the watching; this package starts it on a machine, fetches its raw files and reads them.
//
// It promises that a sample is complete or left out, and that a counter which a host does not
// have is left out and never made up. A witness of which any part fails ends as a whole, and is
// seen to have ended: no file continues while a part is missing.
//
// Dangerous: counters are those of the kernel. They start again at 0 when their device is created
// again, as when a disk is reconnected; take differences only between consecutive readings, and
// only when they do not fall. All times are on the clock of the machine that wrote them.
package witness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

// Files by which the program shows that it is alive. Each has one line whose first word is a
// number.
const (
	// SamplesFile has the number of samples of all counters on a host. It may be behind
	// CountersFile, but never ahead.
	SamplesFile = "samples"
	// BeatsFile has `sent acked`: the number of heartbeats that the guest has sent, and the
	// newest record of its ledger that the disk has acknowledged.
	BeatsFile = "beats"
)

const (
	// startLimit is how long the first sign of life may take.
	startLimit = time.Minute
	startPause = 100 * time.Millisecond
	stopGrace  = 10 * time.Second
)

// recording is the program that runs on one machine.
type recording struct {
	process record.Process
	args    []string
	life    string   // SamplesFile or BeatsFile
	files   []string // raw files that the program leaves
	steps   atomic.Int64
}

// Started returns a witness that was started before, in the guest or on a host; its folder is all
// that is needed to watch it. It cannot be started, and its Fetch copies nothing.
func Started(machine remote.Runner, dir string, guest bool) record.Recording {
	life := SamplesFile
	if guest {
		life = BeatsFile
	}
	return &recording{process: record.Process{Host: machine, Dir: dir}, life: life}
}

// NewHost returns a witness on a host; dir is a folder of its own there, and program is the
// program's path on the host. NewHost starts nothing.
func NewHost(host remote.Runner, program, dir string, config HostConfig) (record.Recording, error) {
	if err := config.Check(); err != nil {
		return nil, fmt.Errorf("%s: witness on a host: %w", host.Name(), err)
	}
	return newRecording(host, program, dir, SamplesFile, config.Files(), "host", config)
}

// NewGuest returns a witness that reports from the guest; dir is a folder of its own there. It
// leaves no files: what it reports arrives at the hosts.
func NewGuest(host remote.Runner, program, dir string, config GuestConfig) (record.Recording, error) {
	if err := config.Check(); err != nil {
		return nil, fmt.Errorf("%s: witness in the guest: %w", host.Name(), err)
	}
	return newRecording(host, program, dir, BeatsFile, nil, "guest", config)
}

// Files returns the names of the raw files that this configuration leaves. All of them exist from
// the first sample on. HeartbeatsFile stays empty on site B's host, and LogFile stays empty
// unless the load's log outgrew the guest's memory.
func (c HostConfig) Files() []string {
	files := []string{CountersFile}
	if c.Watcher != "" {
		files = append(files, DomainsFile)
	}
	if c.Listen.IsValid() {
		files = append(files, HeartbeatsFile, ExchangesFile)
	}
	if c.LogListen.IsValid() {
		files = append(files, LogFile)
	}
	return files
}

func newRecording(host remote.Runner, program, dir, life string, files []string, subcommand string, config any) (record.Recording, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	return &recording{process: record.Process{Host: host, Dir: dir},
		args: []string{program, subcommand, string(text)}, life: life, files: files}, nil
}

// Start returns once there is a sample, or once heartbeats are sent.
func (r *recording) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, errors.New("no sign of life within "+startLimit.String()))
	defer cancel()
	err := r.process.Start(ctx, r.args...)
	if err == nil {
		err = poll.Until(ctx, startPause, func(ctx context.Context) (bool, error) {
			status, err := r.status(ctx)
			switch {
			case err != nil:
				return false, err
			case status.State != record.Running:
				return false, errors.New("it does not run: " + status.Problem())
			}
			return status.Lines[0] != "", nil // also "0 0" of a guest that has sent none yet
		})
	}
	if err != nil {
		return fmt.Errorf("%s: start the witness: %w", r.process.Host.Name(), err)
	}
	return nil
}

// Progress counts the samples or the heartbeats.
func (r *recording) Progress(ctx context.Context) (record.Progress, error) {
	status, err := r.status(ctx)
	if err != nil {
		return record.Progress{}, fmt.Errorf("progress of the witness: %w", err)
	}
	return record.Progress{Running: status.State == record.Running, Problem: status.Problem(),
		Steps: r.steps.Load(), At: time.Now()}, nil
}

func (r *recording) status(ctx context.Context) (record.Status, error) {
	status, err := r.process.Status(ctx, r.life)
	if err != nil {
		return record.Status{}, err
	}
	// The file does not exist at first.
	word, _, _ := strings.Cut(status.Lines[0], " ")
	if steps, err := strconv.ParseInt(word, 10, 64); err == nil {
		r.steps.Store(max(steps, r.steps.Load()))
	}
	return status, nil
}

// Stop ends the program, which completes its files. A program that hangs, as in a guest whose
// disk does not answer, is killed after a while: then at most the last second is missing from the
// files.
func (r *recording) Stop(ctx context.Context) error {
	if _, err := r.process.Stop(ctx, "TERM", stopGrace); err != nil {
		return fmt.Errorf("stop the witness: %w", err)
	}
	return nil
}

// Tail returns the end of a raw file. The program flushes the file each second.
func (r *recording) Tail(ctx context.Context, file string, bytes int64) ([]byte, error) {
	text, err := r.process.Tail(ctx, file, bytes)
	if err != nil {
		return nil, fmt.Errorf("look at what the witness saw: %w", err)
	}
	return text, nil
}

// Fetch copies the raw files.
func (r *recording) Fetch(ctx context.Context, folder string, progress func(doneBytes, totalBytes int64)) ([]string, error) {
	if len(r.files) == 0 {
		return nil, nil
	}
	paths, err := r.process.Fetch(ctx, r.files, folder, progress)
	if err != nil {
		return nil, fmt.Errorf("fetch what the witness saw: %w", err)
	}
	return paths, nil
}

// Remove ends the program and removes its files.
func (r *recording) Remove(ctx context.Context) error {
	if err := r.process.Remove(ctx); err != nil {
		return fmt.Errorf("remove the witness: %w", err)
	}
	return nil
}
