package load

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/fault"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/fio"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

const (
	// fioStopGrace is how long fio may take to end and to write its log.
	fioStopGrace = 2 * time.Minute
	versionLimit = 30 * time.Second
)

// byFio is a load that fio runs.
type byFio struct {
	process record.Process
	args    []string
	stat    string // path of the device's stat file in the guest
	meter   meter
}

var deviceName = regexp.MustCompile(`^/dev/([a-z0-9]+)$`)

// newFio returns a load on one block device of the guest, such as /dev/xvda. The target must
// begin where the device begins, because fio's offsets begin at 0.
func newFio(host remote.Runner, dir string, c engine.Config) (record.Recording, error) {
	if len(c.Targets) != 1 || c.Targets[0].OffsetBytes != 0 {
		return nil, fmt.Errorf("%w: %s: fio wants one target that begins where its device does, not %v", ErrSpec, c.Access.Name, c.Targets)
	}
	target := c.Targets[0]
	name := deviceName.FindStringSubmatch(target.Device)
	if name == nil {
		return nil, fmt.Errorf("%s: %q is no block device's path, such as /dev/xvda", host.Name(), target.Device)
	}
	args, err := fio.Args(c.Access, target, c.Seed, dir)
	if errors.Is(err, fio.ErrSpec) {
		err = fmt.Errorf("%w: %w", ErrSpec, err)
	}
	if err != nil {
		return nil, err
	}
	return &byFio{process: record.Process{Host: host, Dir: dir}, args: fio.Packed(args, dir), stat: "/sys/block/" + name[1] + "/stat"}, nil
}

// Start returns once I/Os complete.
func (r *byFio) Start(ctx context.Context) error {
	return startUntilIO(ctx, r.process, r.args, firstIOLimit, r.look, r.checkVersion)
}

// checkVersion asks the guest for its fio. A missing fio, or one whose log is not understood, is
// bad input: the next attempt would find the same.
func (r *byFio) checkVersion(ctx context.Context) error {
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

// look reads the state of the process and the disk's I/O counters.
func (r *byFio) look(ctx context.Context) (record.Status, reading, error) {
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
	var values [8]int64
	for _, i := range []int{0, 3, 4, 7} {
		if values[i], err = strconv.ParseInt(fields[i], 10, 64); err != nil {
			return status, now, fmt.Errorf("%s: %s: %w", r.process.Host.Name(), r.stat, err)
		}
	}
	now.ios, now.took = values[0]+values[4], time.Duration(values[3]+values[7])*time.Millisecond
	return status, now, nil
}

// Progress counts the I/Os that the disk has completed since the guest started.
func (r *byFio) Progress(ctx context.Context) (record.Progress, error) {
	return r.meter.progress(ctx, r.look)
}

// Stop waits until fio has written its log.
func (r *byFio) Stop(ctx context.Context) error { return stop(ctx, r.process, "INT", fioStopGrace) }

// Fetch copies the log and fio's own result.
func (r *byFio) Fetch(ctx context.Context, folder string, progress func(doneBytes, totalBytes int64)) ([]string, error) {
	return fetch(ctx, r.process, []string{PackedFile, ResultFile}, folder, progress)
}

// Remove ends the load and removes its files from the guest.
func (r *byFio) Remove(ctx context.Context) error { return remove(ctx, r.process) }
