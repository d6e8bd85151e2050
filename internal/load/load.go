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
// keeps its log in the guest's memory until it ends, and then writes it to the
// guest's root file system, which is memory as well: measured are 45 bytes of
// log for each I/O, and as much again in fio while both exist. And the log's
// time is the guest's wall clock, which a migration sets anew from the target
// host's: see package clock for what that means, and use the offsets from before
// and after it for the I/Os before and after it.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

const (
	// firstIOLimit is how long a load may take until I/Os complete.
	firstIOLimit = time.Minute
	startPause   = 200 * time.Millisecond
	// stopGrace is how long fio may take to end and to write its log.
	stopGrace = 2 * time.Minute
	// logPrefix and fio's "_lat.log" are LogFile.
	logPrefix = "io"
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
func New(host remote.Runner, dir string, spec campaign.AccessSpec, seed uint64, device string, sizeBytes int64) (record.Recording, error) {
	name := deviceName.FindStringSubmatch(device)
	if name == nil {
		return nil, fmt.Errorf("%s: %q is no block device's path, such as /dev/xvda", host.Name(), device)
	}
	args, err := FioArgs(spec, device, sizeBytes, seed, path.Join(dir, logPrefix))
	if err != nil {
		return nil, err
	}
	return &recording{process: record.Process{Host: host, Dir: dir}, args: args, stat: "/sys/block/" + name[1] + "/stat"}, nil
}

// Start returns when I/Os complete.
func (r *recording) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, firstIOLimit, errors.New("no I/O has completed within "+firstIOLimit.String()))
	defer cancel()
	_, before, err := r.look(ctx)
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
	paths, err := r.process.Fetch(ctx, []string{LogFile, ResultFile}, folder, progress)
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

// Result is fio's own summary of a load.
type Result struct {
	Version string // fio's, "fio-3.33"
	IOs     int64  // completed; as many as the log has lines
	Error   int    // the errno of the first I/O that failed and ended the load, or 0
}

// ReadResult reads fio's summary. A load with failed I/Os is no error here:
// look at Result.Error.
func ReadResult(r io.Reader) (Result, error) {
	var report struct {
		Version string `json:"fio version"`
		Jobs    []struct {
			Error int `json:"error"`
			Read  struct {
				IOs int64 `json:"total_ios"`
			} `json:"read"`
			Write struct {
				IOs int64 `json:"total_ios"`
			} `json:"write"`
		} `json:"jobs"`
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return Result{}, fmt.Errorf("fio's result: %w", err)
	}
	// fio writes what it has to say, such as that it was interrupted, before it.
	start := max(bytes.IndexByte(text, '{'), 0)
	if err := json.Unmarshal(text[start:], &report); err != nil {
		return Result{}, fmt.Errorf("fio's result is damaged, %.80q: %w", text, err)
	}
	if len(report.Jobs) != 1 {
		return Result{}, fmt.Errorf("fio's result has %d jobs, want 1", len(report.Jobs))
	}
	job := report.Jobs[0]
	return Result{Version: report.Version, IOs: job.Read.IOs + job.Write.IOs, Error: job.Error}, nil
}
