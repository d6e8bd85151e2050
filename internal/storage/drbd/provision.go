package drbd

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/alive"
	"heliotrope/internal/poll"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// finishedSuffix ends the name of the file at site A that says that a disk was provided
// completely. The file holds the ID of the boot in which that happened, and the minor
// number.
const finishedSuffix = ".finished"

// provision provides the disk and returns its minor number.
func (s *System) provision(ctx context.Context, spec storage.Spec, home storage.Site) (int, error) {
	minor, err := s.finished(ctx, spec)
	if err != nil {
		return 0, err
	}
	if minor != 0 {
		return minor, s.comeHome(ctx, spec.Name, minor, home)
	}
	if err := s.checkHostNames(ctx); err != nil {
		return 0, err
	}
	// Nobody has used yet what an interrupted run has left.
	if err := node.Each(func(site storage.Site) error { return s.removeDisk(ctx, s.sites[site], spec.Name) }); err != nil {
		return 0, err
	}
	if minor, err = s.build(ctx, spec); err != nil {
		return 0, err
	}
	if err := s.comeHome(ctx, spec.Name, minor, home); err != nil {
		return 0, err
	}
	return minor, s.markFinished(ctx, spec, minor)
}

func (s *System) finishedFile(ctx context.Context, disk string) (file, boot string, err error) {
	n := s.sites[storage.SiteA]
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return "", "", err
	}
	boot, err = n.Read(ctx, "/proc/sys/kernel/random/boot_id")
	return path.Join(dir, disk+finishedSuffix), boot, err
}

func (s *System) markFinished(ctx context.Context, spec storage.Spec, minor int) error {
	file, boot, err := s.finishedFile(ctx, spec.Name)
	if err != nil {
		return err
	}
	return s.sites[storage.SiteA].Replace(ctx, file, fmt.Sprintf("%s %d %d\n", boot, minor, spec.SizeBytes))
}

// forgetFinished removes the files that mark disks as finished.
func (s *System) forgetFinished(ctx context.Context) error {
	n := s.sites[storage.SiteA]
	if !n.HasShell() {
		return nil
	}
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return err
	}
	names, err := n.Names(ctx, dir, "")
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasSuffix(name, finishedSuffix) {
			if err := n.Remove(ctx, path.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// finished returns the minor number of a disk that was provided completely, or 0.
func (s *System) finished(ctx context.Context, spec storage.Spec) (int, error) {
	file, boot, err := s.finishedFile(ctx, spec.Name)
	if err != nil {
		return 0, err
	}
	n := s.sites[storage.SiteA]
	text, err := n.ReadIfThere(ctx, file)
	if err != nil || text == "" {
		return 0, err
	}
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return 0, fmt.Errorf("%s: %s holds %q: tear the testbed's disks down", n.Name(), file, text)
	}
	switch minor, err := strconv.Atoi(fields[1]); {
	case err != nil:
		return 0, fmt.Errorf("%s: %s: %w", n.Name(), file, err)
	case fields[0] != boot:
		return 0, fmt.Errorf("%s was started anew since disk %s was provided: tear the testbed's disks down first", n.Name(), spec.Name)
	case fields[2] != fmt.Sprint(spec.SizeBytes):
		return 0, fmt.Errorf("%s: disk %s is there with %s bytes, want %d: tear the testbed's disks down first", n.Name(), spec.Name, fields[2], spec.SizeBytes)
	default:
		return minor, nil
	}
}

// build makes both replicas, blank or filled alike, and in sync.
func (s *System) build(ctx context.Context, spec storage.Spec) (int, error) {
	if err := node.Each(func(site storage.Site) error { return loadModules(ctx, s.sites[site]) }); err != nil {
		return 0, err
	}
	minor, err := s.pickMinor(ctx, spec.Name)
	if err != nil {
		return 0, err
	}
	var replicas [2]replica
	err = node.Each(func(site storage.Site) (err error) {
		i, n := index(site), s.sites[site]
		replicas[i].address = n.Address
		if replicas[i].host, err = n.HostName(ctx); err != nil {
			return err
		}
		replicas[i].backing, err = s.makeBacking(ctx, n, spec)
		return err
	})
	if err != nil {
		return 0, err
	}
	configure := func(site storage.Site, pingTimeout int) error {
		file, err := configFile(ctx, s.sites[site], spec.Name)
		if err != nil {
			return err
		}
		return s.sites[site].Replace(ctx, file, s.config(spec, minor, pingTimeout, replicas))
	}
	err = node.Each(func(site storage.Site) error {
		if err := configure(site, pingTimeoutAtFirst); err != nil {
			return err
		}
		return s.adm(ctx, s.sites[site], spec.Name, "", "--force", "create-md")
	})
	if err != nil {
		return 0, err
	}
	// Bring both up at the same time: a site that finds its peer missing tries again only
	// after connect-int.
	err = node.Each(func(site storage.Site) error { return s.adm(ctx, s.sites[site], spec.Name, "", "up") })
	if err != nil {
		return 0, err
	}
	if err := s.skipSync(ctx, spec.Name, minor); err != nil {
		return 0, err
	}
	if err := node.Each(func(site storage.Site) error { return configure(site, pingTimeout(spec.Path)) }); err != nil {
		return 0, err
	}
	return minor, s.netOptions(ctx, spec.Name, fmt.Sprintf("--ping-timeout=%d", pingTimeout(spec.Path)))
}

// skipSync declares the two replicas equal, which they are. DRBD refuses that for
// metadata that was used before.
func (s *System) skipSync(ctx context.Context, disk string, minor int) error {
	err := s.wait(ctx, storage.SiteA, minor, "both sites to connect", func(status Status) bool {
		return status.Connection == "Connected"
	})
	if err != nil {
		return err
	}
	return s.adm(ctx, s.sites[storage.SiteA], disk, "/0", "new-current-uuid", "--clear-bitmap")
}

// filled is how the slower of the two replicas was filled.
func (s *System) filled(ctx context.Context, spec storage.Spec) (slower storage.Filled, err error) {
	for _, n := range s.sites {
		dir, err := n.Dir(ctx, kind)
		if err != nil {
			return slower, err
		}
		filled, err := n.Filled(ctx, path.Join(dir, spec.Name+imageSuffix), spec)
		if err != nil {
			return slower, err
		}
		slower = slower.Slower(filled)
	}
	return slower, nil
}

// makeBacking makes a site's backing file and the loop device over it. The data bytes are
// the same at both sites, so that the replicas need no synchronisation; DRBD's metadata
// is behind them.
func (s *System) makeBacking(ctx context.Context, n *node.Node, spec storage.Spec) (string, error) {
	dir, err := n.Dir(ctx, kind)
	if err != nil {
		return "", err
	}
	file := path.Join(dir, spec.Name+imageSuffix)
	if err := n.FilledImage(ctx, kind, file, backingBytes(spec.SizeBytes), spec); err != nil {
		return "", err
	}
	return n.AttachLoop(ctx, dir, file, false)
}

// helperSetting is the setting for the program that DRBD starts when the state of any
// resource changes (drbd_main.c, usermode_helper), and noHelper is a program that does
// nothing.
const (
	helperSetting = "/sys/module/drbd/parameters/usermode_helper"
	noHelper      = "/bin/true"
)

// loadModules loads DRBD, and makes it start no helper program while our resources are
// there, because they have no handlers. That is a setting of the whole host, so it is
// borrowed, and only when nobody's resources are up. DRBD 9 is refused.
func loadModules(ctx context.Context, n *node.Node) error {
	loaded, err := n.Exists(ctx, procFile)
	if err != nil {
		return err
	}
	if !loaded {
		if _, err := n.Run(ctx, "/sbin/modprobe", "drbd"); err != nil {
			return fmt.Errorf("loading DRBD (is it built for the running kernel?): %w", err)
		}
	}
	text, err := n.Read(ctx, procFile)
	if err != nil {
		return err
	}
	version, devices := ParseProc(text)
	if err := supported(n, version); err != nil {
		return err
	}
	if err := n.Modprobe(ctx, "loop", "crc32c"); err != nil || len(devices) > 0 {
		return err
	}
	helper, err := n.ReadIfThere(ctx, helperSetting)
	if err != nil || helper == "" { // DRBD starts no helper
		return err
	}
	return n.Borrow(ctx, kind, helperSetting, noHelper)
}

// comeHome waits until the disk is healthy and makes home its Primary.
func (s *System) comeHome(ctx context.Context, disk string, minor int, home storage.Site) error {
	if err := s.waitHealthy(ctx, home, minor); err != nil {
		return err
	}
	status, err := s.status(ctx, s.sites[home], minor)
	if err != nil || status.Role == primary {
		return err
	}
	if status.PeerRole == primary {
		if err := s.demote(ctx, disk, home.Other()); err != nil {
			return err
		}
	}
	return s.promote(ctx, disk, home)
}

// Pauses and limits when waiting.
const (
	waitPause = 100 * time.Millisecond
	// leastPatience is how long the status may stay the same while waiting, over a path
	// that answers at once.
	leastPatience = time.Minute
)

// patience is how long the status may stay the same while waiting: the messages that
// change it may be behind a full queue.
func (s *System) patience() time.Duration { return leastPatience + 2*s.path.Answer() }

func (s *System) waitHealthy(ctx context.Context, site storage.Site, minor int) error {
	return s.wait(ctx, site, minor, "both replicas to be up to date", Status.Healthy)
}

// wait waits until the status at a site satisfies done. It gives up after a time without
// progress, and at once on a split brain.
func (s *System) wait(ctx context.Context, site storage.Site, minor int, what string, done func(Status) bool) error {
	n := s.sites[site]
	var last Status
	changed := time.Now()
	for {
		status, err := s.status(ctx, n, minor)
		if err != nil || done(status) {
			return err
		}
		if status.Connection == standAlone {
			return fmt.Errorf("%s: waiting for %s: %w (%s), or was told to; see the kernel's log there", n.Name(), what, ErrSplitBrain, status)
		}
		// The guest's writes alone are no progress.
		progress := status
		progress.SentBytes, progress.ReceivedBytes, progress.OutOfSyncBytes = 0, 0, 0
		if progress != last {
			last, changed = progress, time.Now()
			alive.Reached(ctx, int64(10*progress.DonePercent), 1000)
		}
		if stalled := time.Since(changed); stalled > s.patience() {
			return fmt.Errorf("%s: waiting for %s: no progress for %s (%s): is the path between the sites up?",
				n.Name(), what, stalled.Round(time.Second), status)
		}
		if err := poll.Pause(ctx, waitPause); err != nil {
			return fmt.Errorf("%s: waiting for %s (%s): %w", n.Name(), what, status, err)
		}
	}
}

func index(site storage.Site) int {
	if site == storage.SiteA {
		return 0
	}
	return 1
}
