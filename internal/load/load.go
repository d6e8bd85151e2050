// Package load runs the workload in the guest, with the engine that its access specification
// names, and reads what the engine leaves.
//
// It promises that
//   - an access specification means what it means in Iometer, or is refused;
//   - a load runs without a break from Start to Stop, whoever started it;
//   - whichever engine ran it, its I/Os are read as entries of one form, in the
//     order of their completion;
//   - a log that is empty, cut off or damaged is an error that names the line or
//     the block; blocks that are missing are named in the Account.
//
// It is dangerous in three ways. The load writes over its targets. fio keeps its log in the
// guest's memory until it ends, and then writes it, compressed, to the guest's root file system,
// which is memory as well: see fio.MemoryBytes; our own engine needs a few MiB, however long it
// runs. And the log's time is the guest's wall clock, which a migration sets anew from the target
// host's clock: see package clock for what that means, and correct the I/Os before and after the
// migration with the offsets measured before and after it.
package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

const (
	// firstIOLimit is how long a load may take until I/Os complete, in addition to the delay that
	// its specification asks for.
	firstIOLimit = time.Minute
	startPause   = 200 * time.Millisecond
)

// ErrSpec marks an access specification that its engine cannot run with the meaning it has in
// Iometer. It is bad input: another attempt does not help.
var ErrSpec = errors.New("the engine cannot run the access specification")

// New returns the load of one trial, run by the engine of its specification; dir is the folder of
// its files in the guest. program is the path of the witness's program in the guest, which
// contains our own engine. New starts nothing. It returns ErrSpec for a specification that the
// engine cannot run.
func New(host remote.Runner, program, dir string, c engine.Config) (record.Recording, error) {
	c.Access = c.Access.Complete()
	if c.Access.Engine == spec.EngineFio {
		return newFio(host, dir, c)
	}
	return newOwn(host, program, dir, c)
}

// reading is how far a load had come at one time.
type reading struct {
	at   time.Time     // by our clock
	ios  int64         // completed
	took time.Duration // their response times, summed
}

// looker reads the state of a load's process and how far the load has come.
type looker func(ctx context.Context) (record.Status, reading, error)

// startUntilIO starts a load's process and returns once I/Os complete. check examines the guest
// before anything is started there.
func startUntilIO(ctx context.Context, process record.Process, args []string, limit time.Duration, look looker, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errors.New("no I/O has completed within "+limit.String()))
	defer cancel()
	status, before, err := look(ctx)
	if err == nil && status.State == record.None {
		err = check(ctx)
	}
	if err == nil {
		err = process.Start(ctx, args...)
	}
	if err == nil {
		err = poll.Until(ctx, startPause, func(ctx context.Context) (bool, error) {
			status, now, err := look(ctx)
			if err == nil && status.State != record.Running {
				err = fmt.Errorf("it does not run: %s %s", status.State, status.Problem())
			}
			return now.ios > before.ios, err
		})
	}
	if err != nil {
		return fmt.Errorf("%s: start the load: %w", process.Host.Name(), err)
	}
	return nil
}

// meter turns readings into progress.
type meter struct {
	mu   sync.Mutex
	last *reading
}

// progress counts the I/Os, and gives the rate and the mean response time of those since the last
// call.
func (m *meter) progress(ctx context.Context, look looker) (record.Progress, error) {
	status, now, err := look(ctx)
	if err != nil {
		return record.Progress{}, fmt.Errorf("progress of the load: %w", err)
	}
	progress := record.Progress{
		Running: status.State == record.Running, Problem: status.Problem(), Steps: now.ios, At: now.at,
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.last != nil {
		ios := now.ios - m.last.ios
		if seconds := now.at.Sub(m.last.at).Seconds(); seconds > 0 {
			progress.IOPS = float64(ios) / seconds
		}
		if ios > 0 {
			progress.MeanLatencyMs = (now.took - m.last.took).Seconds() * 1000 / float64(ios)
		}
	}
	m.last = &now
	return progress, nil
}

// stop ends a load's process and waits until its files are complete.
func stop(ctx context.Context, process record.Process, signal string, grace time.Duration) error {
	killed, err := process.Stop(ctx, signal, grace)
	if err == nil && killed {
		err = fmt.Errorf("%s: it did not end within %s and was killed: its log is lost", process.Host.Name(), grace)
	}
	if err != nil {
		return fmt.Errorf("stop the load: %w", err)
	}
	return nil
}

// fetch copies the files that a load leaves.
func fetch(ctx context.Context, process record.Process, names []string, folder string, progress func(doneBytes, totalBytes int64)) ([]string, error) {
	paths, err := process.Fetch(ctx, names, folder, progress)
	if err != nil {
		return nil, fmt.Errorf("fetch the load's log: %w", err)
	}
	return paths, nil
}

// remove ends a load and removes its files from the guest.
func remove(ctx context.Context, process record.Process) error {
	if err := process.Remove(ctx); err != nil {
		return fmt.Errorf("remove the load: %w", err)
	}
	return nil
}
