package drbd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
	"heliotrope/internal/storage"
	"heliotrope/internal/storage/internal/node"
)

// The steps around a migration, as they are named in errors.
const (
	stepProtocolC    = "switch to protocol C"
	stepTwoPrimaries = "allow two primaries"
	stepUpToDate     = "wait until up to date"
	stepPromote      = "promote destination"
	stepDemote       = "demote source"
	stepOnePrimary   = "forbid two primaries"
	stepProtocolBack = "switch protocol back"
)

// PrepareMigration makes both sites Primary. It does not change the
// configuration files: a resource that is brought up again has the configured
// protocol.
func (s *System) PrepareMigration(ctx context.Context, disk storage.Disk, _, to storage.Site) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path = disk.Path
	minor, err := s.checkDisk(ctx, disk, to)
	if err != nil {
		return node.Before(ctx, err)
	}
	status, err := s.status(ctx, s.sites[to], minor)
	if err != nil {
		return node.Before(ctx, err)
	}
	if status.Healthy() && status.Role == primary && status.PeerRole == primary {
		return nil
	}
	return s.failure(ctx, disk, s.openBoth(ctx, disk.Name, to, minor))
}

func (s *System) openBoth(ctx context.Context, disk string, to storage.Site, minor int) error {
	if s.protocol != ProtocolC {
		err := step(disk, stepProtocolC, func() error { return s.netOptions(ctx, disk, "--protocol=C") })
		if err != nil {
			return err
		}
	}
	err := step(disk, stepTwoPrimaries, func() error {
		return s.netOptions(ctx, disk, "--protocol=C", "--allow-two-primaries=yes")
	})
	if err != nil {
		return err
	}
	err = step(disk, stepUpToDate, func() error { return s.waitHealthy(ctx, to, minor) })
	if err != nil {
		return err
	}
	return step(disk, stepPromote, func() error { return s.promote(ctx, disk, to) })
}

// FinishMigration makes home the only Primary and returns to the configured
// protocol. After a split brain it changes nothing: both replicas stay as they
// are, for inspection.
func (s *System) FinishMigration(ctx context.Context, disk storage.Disk, home storage.Site) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path = disk.Path
	minor, err := minorOf(disk.Device[home])
	if err != nil {
		return node.Before(ctx, err)
	}
	status, err := s.status(ctx, s.sites[home], minor)
	if err != nil {
		return s.failure(ctx, disk, err)
	}
	if status.Connection == standAlone {
		return s.failure(ctx, disk, fmt.Errorf("%s: disk %s: %w (%s)", s.sites[home].Name(), disk.Name, ErrSplitBrain, status))
	}
	return s.failure(ctx, disk, s.closeOther(ctx, disk.Name, home, minor, status))
}

func (s *System) closeOther(ctx context.Context, disk string, home storage.Site, minor int, status Status) error {
	if status.PeerRole != "Secondary" {
		err := step(disk, stepDemote, func() error { return s.demote(ctx, disk, home.Other()) })
		if err != nil {
			return err
		}
	}
	if status.Role != primary {
		err := step(disk, stepPromote, func() error { return s.promote(ctx, disk, home) })
		if err != nil {
			return err
		}
	}
	err := step(disk, stepOnePrimary, func() error { return s.netOptions(ctx, disk, "--allow-two-primaries=no") })
	if err != nil {
		return err
	}
	if s.protocol != ProtocolC {
		err := step(disk, stepProtocolBack, func() error { return s.netOptions(ctx, disk, "--protocol="+string(s.protocol)) })
		if err != nil {
			return err
		}
	}
	return step(disk, stepUpToDate, func() error { return s.waitHealthy(ctx, home, minor) })
}

// netOptions changes settings of the connection at both sites while it is in
// use. With DRBD 8.4 each site also informs the other.
func (s *System) netOptions(ctx context.Context, disk string, options ...string) error {
	return node.Each(func(site storage.Site) error {
		return s.adm(ctx, s.sites[site], disk, "", append([]string{"net-options"}, options...)...)
	})
}

// promote makes a site Primary.
func (s *System) promote(ctx context.Context, disk string, site storage.Site) error {
	return s.adm(ctx, s.sites[site], disk, "", "primary")
}

// demote makes a site Secondary.
func (s *System) demote(ctx context.Context, disk string, site storage.Site) error {
	return retryHeld(ctx, func() error { return s.adm(ctx, s.sites[site], disk, "", "secondary") })
}

// Limits of retryHeld.
const (
	heldTries = 20
	heldPause = 500 * time.Millisecond
)

// retryHeld tries again as long as DRBD reports that the device is open: a
// backend may close it a little after its domain has gone.
func retryHeld(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		var failed *remote.Error
		if !errors.As(err, &failed) || !strings.Contains(failed.Stderr, "held open") {
			return err
		}
		if try == heldTries {
			return fmt.Errorf("%w (tried %d times: by which domain or mount? End that and try again)", err, try)
		}
		if poll.Pause(ctx, heldPause) != nil {
			return err // err says more
		}
	}
}
