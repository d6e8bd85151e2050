package vsphere

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/clock"
)

// clockRounds is how often a host is asked for its time; the quickest answer is used.
const clockRounds = 3

// Clock reads the host's clock through vCenter (HostDateTimeSystem.QueryDateTime).
// The delays between vCenter and the host are not known, so the host may have read
// its clock at any time during the call: the uncertainty is the whole round trip,
// plus the resolution of the answer.
func (h *Host) Clock(ctx context.Context) (best clock.Offset, err error) {
	err = h.with(ctx, "read its clock", func(s *site) error {
		best, err = s.clock(ctx)
		return err
	})
	return best, err
}

func (s *site) clock(ctx context.Context) (best clock.Offset, err error) {
	of, err := s.dateTimeSystem(ctx)
	if err != nil {
		return best, err
	}
	return s.clockOf(ctx, of)
}

// clockOf reads the clock of a HostDateTimeSystem.
func (s *site) clockOf(ctx context.Context, of types.ManagedObjectReference) (best clock.Offset, err error) {
	for round := range clockRounds {
		asked := time.Now()
		res, err := methods.QueryDateTime(ctx, s.client, &types.QueryDateTime{This: of})
		if err != nil {
			return best, err
		}
		trip := time.Since(asked)
		middle := asked.Add(trip / 2).Round(0)
		uncertainty := trip + resolutionOf(res.Returnval)
		if round == 0 || uncertainty < best.Uncertainty {
			best = clock.Offset{At: middle, Ahead: res.Returnval.Sub(middle), Uncertainty: uncertainty}
		}
	}
	return best, nil
}

// centerClock reads vCenter's own clock, by which vCenter reports the times of tasks,
// events and counters. The uncertainty is half of the round trip, plus the resolution
// of the answer.
func (s *site) centerClock(ctx context.Context) (clock.Offset, error) {
	asked := time.Now()
	now, err := methods.GetCurrentTime(ctx, s.client)
	if err != nil {
		return clock.Offset{}, fmt.Errorf("ask for the vCenter's time: %w", err)
	}
	trip := time.Since(asked)
	middle := asked.Add(trip / 2).Round(0)
	return clock.Offset{At: middle, Ahead: now.Sub(middle), Uncertainty: trip/2 + resolutionOf(*now)}, nil
}

// dateTimeSystem is the object that reports the host's time. It stays the same as
// long as the host does.
func (s *site) dateTimeSystem(ctx context.Context) (types.ManagedObjectReference, error) {
	if known := s.dateTime.Load(); known != nil {
		return *known, nil
	}
	var host mo.HostSystem
	if err := read(ctx, s.client, s.host, &host, "configManager.dateTimeSystem"); err != nil {
		return types.ManagedObjectReference{}, err
	}
	found := host.ConfigManager.DateTimeSystem
	if found == nil {
		return types.ManagedObjectReference{}, errors.New("vCenter has no HostDateTimeSystem of it")
	}
	s.dateTime.Store(found)
	return *found, nil
}

// checkClock checks whether the host's clock can be read precisely enough to put the
// host's times onto a time base.
func (h *Host) checkClock(ctx context.Context, s *site) ([]error, error) {
	offset, err := s.clock(ctx)
	if err != nil {
		return nil, fmt.Errorf("read its clock: %w", err)
	}
	if offset.Uncertainty >= time.Second {
		return []error{h.lacks("QueryDateTime", fmt.Sprintf("host %s tells its time to within %s only, and no trial would be valid", h.machine.VCenter.Host, offset.Uncertainty), "take a vCenter that tells fractions of seconds")}, nil
	}
	return nil, nil
}

// resolutionOf is the unit of the last digit of a reported time, as far as that can
// be seen.
func resolutionOf(at time.Time) time.Duration {
	switch ns := at.Nanosecond(); {
	case ns == 0:
		return time.Second
	case ns%int(time.Millisecond) == 0:
		return time.Millisecond
	}
	return time.Microsecond
}
