package load

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

// ownStopGrace is how long our own engine may take to end: 10 s for a disk that does not answer,
// and then the time to write the log.
const ownStopGrace = 30 * time.Second

// own is a load that our own engine runs, in a process separate from the witness's.
type own struct {
	process    record.Process
	args       []string
	firstLimit time.Duration
	meter      meter
}

// newOwn refuses what the engine would refuse in the guest, as far as that is known without the
// guest's disk.
func newOwn(host remote.Runner, program, dir string, c engine.Config) (record.Recording, error) {
	if _, err := spec.NewSequence(c.Access, c.Targets, 0, c.Seed); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSpec, err)
	}
	config, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("%s: the load's configuration: %w", host.Name(), err)
	}
	limit := firstIOLimit
	for _, line := range c.Access.Lines {
		limit = max(limit, firstIOLimit+time.Duration(line.DelayMs)*time.Millisecond)
	}
	return &own{process: record.Process{Host: host, Dir: dir}, args: []string{program, "load", string(config)}, firstLimit: limit}, nil
}

// Started returns a load of our own engine that was started before; its folder is all that is
// needed to watch, stop, fetch and remove it. It cannot be started.
func Started(host remote.Runner, dir string) record.Recording {
	return &own{process: record.Process{Host: host, Dir: dir}, firstLimit: firstIOLimit}
}

// Start returns once I/Os complete.
func (o *own) Start(ctx context.Context) error {
	return startUntilIO(ctx, o.process, o.args, o.firstLimit, o.look, func(context.Context) error { return nil })
}

// look reads the state of the process, and the progress file, which the engine writes each
// second. The file does not exist at first.
func (o *own) look(ctx context.Context) (record.Status, reading, error) {
	status, err := o.process.Status(ctx, engine.ProgressFile)
	if err != nil {
		return status, reading{}, err
	}
	now := reading{at: time.Now()}
	if line := status.Lines[0]; line != "" {
		if _, err := fmt.Sscanf(line, "%d %d", &now.ios, &now.took); err != nil {
			return status, now, fmt.Errorf("%s: the load's file %s, %.80q: want I/Os and ns: %w", o.process.Host.Name(), engine.ProgressFile, line, err)
		}
	}
	return status, now, nil
}

// Progress counts the load's I/Os.
func (o *own) Progress(ctx context.Context) (record.Progress, error) {
	return o.meter.progress(ctx, o.look)
}

// Stop waits until the engine has written its log.
func (o *own) Stop(ctx context.Context) error { return stop(ctx, o.process, "TERM", ownStopGrace) }

// Fetch copies the log and the engine's result.
func (o *own) Fetch(ctx context.Context, folder string, progress func(doneBytes, totalBytes int64)) ([]string, error) {
	return fetch(ctx, o.process, []string{engine.LogFile, engine.ResultFile}, folder, progress)
}

// Remove ends the load and removes its files from the guest.
func (o *own) Remove(ctx context.Context) error { return remove(ctx, o.process) }
