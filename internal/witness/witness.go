// Package witness samples what the hosts see during a trial.
//
// It promises that a sample is complete or left out, that a counter which a
// host does not have is left out and never made up, and that sampling costs a
// host little: two processes for the whole run that read a few files. On the
// emulated testbed, one sample a second took 2.4 % of a host's processor while
// the machine had other work; a shell that reads the files itself took 20 %.
//
// Dangerous: counters are as the kernel has them. They start again at 0 when
// their device is made anew, as when a disk is connected again; take
// differences only between neighbours, and only where they do not fall.
package witness

import (
	"context"
	_ "embed" // the scripts
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

// A shell gives the pace and awk makes the samples. With busybox or bash no
// process is started for a sample.
var (
	//go:embed launch.sh
	launchScript string
	//go:embed pace.sh
	paceScript string
	//go:embed counters.awk
	countersProgram string
)

// CountersConfig says what is sampled beside the host's processors and memory.
type CountersConfig struct {
	// Interval from one sample to the next, at least 10 ms.
	Interval time.Duration
	// Devices by role: the path of a block device for GuestDisk, the name of
	// a network interface for TestNet and WAN. A role without a device is
	// left out.
	Devices map[string]string
}

// Interval is how often the hosts' counters are sampled in a trial.
const Interval = time.Second

const (
	minInterval = 10 * time.Millisecond
	// samplesFile counts the samples.
	samplesFile = "samples"
	// firstSampleLimit is how long the first sample may take.
	firstSampleLimit = time.Minute
	startPause       = 100 * time.Millisecond
	stopGrace        = 10 * time.Second
)

// counters is the recording.
type counters struct {
	process record.Process
	args    []string
	steps   atomic.Int64 // when last seen
}

// deviceName is a name in /sys/class/block or /sys/class/net; the kernel
// forbids slashes and spaces in both.
var deviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// NewCounters samples the counters of a host into CountersFile in dir, a folder
// of its own there. Nothing is started yet.
func NewCounters(host remote.Runner, dir string, config CountersConfig) (record.Recording, error) {
	if config.Interval < minInterval {
		return nil, fmt.Errorf("%s: counters every %s: want at least %s", host.Name(), config.Interval, minInterval)
	}
	args := []string{"sh", "-c", launchScript, "counters", paceScript, countersProgram, strconv.FormatInt(config.Interval.Microseconds(), 10)}
	for _, role := range slices.Sorted(maps.Keys(config.Devices)) {
		device := config.Devices[role]
		if device == "" {
			continue
		}
		name := device
		switch role {
		case GuestDisk:
			if name = path.Base(device); device != "/dev/"+name {
				return nil, fmt.Errorf("%s: %s %q: want the path of a block device, such as /dev/sda", host.Name(), role, device)
			}
		case TestNet, WAN:
		default:
			return nil, fmt.Errorf("%s: no counters for a %q", host.Name(), role)
		}
		if !deviceName.MatchString(name) {
			return nil, fmt.Errorf("%s: %s %q is no name of a device", host.Name(), role, device)
		}
		args = append(args, role, name)
	}
	return &counters{process: record.Process{Host: host, Dir: dir}, args: args}, nil
}

// Start returns when there is a sample.
func (c *counters) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, firstSampleLimit, errors.New("no sample within "+firstSampleLimit.String()))
	defer cancel()
	err := c.process.Start(ctx, c.args...)
	for pause := time.NewTimer(0); err == nil; pause.Reset(startPause) {
		select {
		case <-ctx.Done():
			err = context.Cause(ctx)
			continue
		case <-pause.C:
		}
		var progress record.Progress
		progress, err = c.Progress(ctx)
		switch {
		case err != nil:
		case !progress.Running:
			err = errors.New("it does not run: " + progress.Problem)
		case progress.Steps > 0:
			return nil
		}
	}
	return fmt.Errorf("%s: start the counters: %w", c.process.Host.Name(), err)
}

// Progress counts samples.
func (c *counters) Progress(ctx context.Context) (record.Progress, error) {
	status, err := c.process.Status(ctx, samplesFile)
	if err != nil {
		return record.Progress{}, fmt.Errorf("progress of the counters: %w", err)
	}
	progress := record.Progress{Running: status.State == record.Running, Problem: status.Problem(), At: time.Now()}
	// The file is not there at first, and empty while it is written.
	if steps, err := strconv.ParseInt(status.Lines[0], 10, 64); err == nil {
		c.steps.Store(steps)
	}
	progress.Steps = c.steps.Load()
	return progress, nil
}

// Stop ends the sampling.
func (c *counters) Stop(ctx context.Context) error {
	if _, err := c.process.Stop(ctx, "TERM", stopGrace); err != nil {
		return fmt.Errorf("stop the counters: %w", err)
	}
	return nil
}

// Fetch brings CountersFile.
func (c *counters) Fetch(ctx context.Context, folder string, progress func(doneBytes, totalBytes int64)) ([]string, error) {
	paths, err := c.process.Fetch(ctx, []string{CountersFile}, folder, progress)
	if err != nil {
		return nil, fmt.Errorf("fetch the counters: %w", err)
	}
	return paths, nil
}

// Remove ends the sampling and removes its files.
func (c *counters) Remove(ctx context.Context) error {
	if err := c.process.Remove(ctx); err != nil {
		return fmt.Errorf("remove the counters: %w", err)
	}
	return nil
}
