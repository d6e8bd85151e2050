// Package load runs the workload in the guest: fio, from an access
// specification, one log line for each I/O.
//
// It promises that
//   - an access specification means what it means in Iometer, or is refused;
//   - a load runs without a break from Start to Stop, whoever started it;
//   - a log that is empty, cut off or damaged is an error that names the line,
//     and so is a load in which I/Os failed.
//
// It is dangerous in three ways. The load writes over the whole device. fio
// keeps its log in the guest's memory until it ends, and then writes it, packed,
// to the guest's root file system, which is memory as well: see fio.MemoryBytes.
// And the log's
// time is the guest's wall clock, which a migration sets anew from the target
// host's: see package clock for what that means, and use the offsets from before
// and after it for the I/Os before and after it.
package load

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"heliotrope/internal/fault"
	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

const (
	// firstIOLimit is how long a load may take until I/Os complete.
	firstIOLimit = time.Minute
	startPause   = 200 * time.Millisecond
	versionLimit = 30 * time.Second
	// stopGrace is how long fio may take to end and to write its log.
	stopGrace = 2 * time.Minute
)

// recording is one load.
type recording struct {
	process record.Process
	args    []string
	stat    string // of the device, in the guest

	mu   sync.Mutex
	last *reading
}

// reading is the disk's state at one time.
type reading struct {
	at  time.Time // our clock
	ios int64     // completed reads and writes since the guest began
	ms  int64     // that they took, summed
}

var deviceName = regexp.MustCompile(`^/dev/([a-z0-9]+)$`)

// New is the load of one trial on the first sizeBytes of a block device of the
// guest, such as /dev/xvda, or on all of it when that is 0, with dir as the folder of its files there. Nothing is started yet.
// An access specification that fio cannot run is ErrSpec.
func New(host remote.Runner, dir string, access spec.Access, seed uint64, device string, sizeBytes int64) (record.Recording, error) {
	name := deviceName.FindStringSubmatch(device)
	if name == nil {
		return nil, fmt.Errorf("%s: %q is no block device's path, such as /dev/xvda", host.Name(), device)
	}
	args, err := fio.Args(access, spec.Target{Device: device, SizeBytes: sizeBytes}, seed, dir)
	if err != nil {
		return nil, err
	}
	return &recording{process: record.Process{Host: host, Dir: dir}, args: fio.Packed(args, dir), stat: "/sys/block/" + name[1] + "/stat"}, nil
}

// Start returns when I/Os complete.
func (r *recording) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, firstIOLimit, errors.New("no I/O has completed within "+firstIOLimit.String()))
	defer cancel()
	status, before, err := r.look(ctx)
	if err == nil && status.State == record.None {
		err = r.checkVersion(ctx)
	}
	if err == nil {
		err = r.process.Start(ctx, r.args...)
	}
	if err == nil {
		err = poll.Until(ctx, startPause, func(ctx context.Context) (bool, error) {
			status, now, err := r.look(ctx)
			if err == nil && status.State != record.Running {
				err = fmt.Errorf("it does not run: %s %s", status.State, status.Problem())
			}
			return now.ios > before.ios, err
		})
	}
	if err != nil {
		return fmt.Errorf("%s: start the load: %w", r.process.Host.Name(), err)
	}
	return nil
}

// checkVersion asks the guest for its fio. One that is missing, or whose log is not
// understood, is bad input: it is the same at the next attempt.
func (r *recording) checkVersion(ctx context.Context) error {
	host := r.process.Host
	result, err := host.Run(ctx, remote.Command{Args: []string{"sh", "-c", fio.VersionScript}, Env: []string{"LC_ALL=C"}, Timeout: versionLimit})
	if code, ended := remote.ExitCode(err); ended && code != 0 {
		return fault.New(fault.BadInput, "%s: the guest's image lacks what a load by fio needs (fio, gzip, mkfifo): %.200q", host.Name(), result.Stderr)
	}
	if err == nil {
		err = fault.As(fault.BadInput, fio.CheckVersion(string(result.Stdout)))
	}
	return err
}

// look asks for the process and the disk.
func (r *recording) look(ctx context.Context) (record.Status, reading, error) {
	status, err := r.process.Status(ctx, r.stat)
	if err != nil {
		return status, reading{}, err
	}
	now := reading{at: time.Now()}
	// Documentation/block/stat.rst: 1 reads, 4 their ms, 5 writes, 8 their ms.
	fields := strings.Fields(status.Lines[0])
	if len(fields) < 8 {
		return status, now, fmt.Errorf("%s: %s is missing or unreadable: %q", r.process.Host.Name(), r.stat, status.Lines[0])
	}
	for i, sum := range map[int]*int64{0: &now.ios, 3: &now.ms, 4: &now.ios, 7: &now.ms} {
		value, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return status, now, fmt.Errorf("%s: %s: %w", r.process.Host.Name(), r.stat, err)
		}
		*sum += value
	}
	return status, now, nil
}

// Progress counts the I/Os that the disk has completed since the guest began.
func (r *recording) Progress(ctx context.Context) (record.Progress, error) {
	status, now, err := r.look(ctx)
	if err != nil {
		return record.Progress{}, fmt.Errorf("progress of the load: %w", err)
	}
	progress := record.Progress{
		Running: status.State == record.Running, Problem: status.Problem(), Steps: now.ios, At: now.at,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last != nil {
		if seconds := now.at.Sub(r.last.at).Seconds(); seconds > 0 {
			progress.IOPS = float64(now.ios-r.last.ios) / seconds
		}
		if ios := now.ios - r.last.ios; ios > 0 {
			progress.MeanLatencyMs = float64(now.ms-r.last.ms) / float64(ios)
		}
	}
	r.last = &now
	return progress, nil
}

// Stop waits until fio has written its log.
func (r *recording) Stop(ctx context.Context) error {
	killed, err := r.process.Stop(ctx, "INT", stopGrace)
	if err == nil && killed {
		err = fmt.Errorf("%s: fio did not end within %s and was killed: its log is lost", r.process.Host.Name(), stopGrace)
	}
	if err != nil {
		return fmt.Errorf("stop the load: %w", err)
	}
	return nil
}

// Fetch brings the log and fio's own result.
func (r *recording) Fetch(ctx context.Context, folder string, progress func(doneBytes, totalBytes int64)) ([]string, error) {
	paths, err := r.process.Fetch(ctx, []string{fio.PackedFile, fio.ResultFile}, folder, progress)
	if err != nil {
		return nil, fmt.Errorf("fetch the load's log: %w", err)
	}
	return paths, nil
}

// Remove ends the load and removes its files from the guest.
func (r *recording) Remove(ctx context.Context) error {
	if err := r.process.Remove(ctx); err != nil {
		return fmt.Errorf("remove the load: %w", err)
	}
	return nil
}
