package simulated

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

const (
	// clockRTT is the round-trip time of an exchange over a local network.
	clockRTT = 600 * time.Microsecond
	// maxAhead is the largest error of any clock.
	maxAhead = 50 * time.Millisecond
)

// hostClock is a host's clock. It runs as ours does, except for at most one jump.
type hostClock struct {
	ahead time.Duration // of our clock
	set   time.Time     // when the clock was set; zero: never
	by    time.Duration
}

// says returns what the clock shows at a moment of our clock.
func (c hostClock) says(at time.Time) time.Time {
	if !c.set.IsZero() && !at.Before(c.set) {
		return at.Add(c.ahead + c.by)
	}
	return at.Add(c.ahead)
}

// hostClock returns the clock of a host, by the host's name, in an attempt.
func (b *Bed) hostClock(ref trial.Ref, name string) hostClock {
	c := hostClock{ahead: evenly(seeded(0, name), maxAhead)}
	if host, at, by, jumps := b.faults.clockJumps(ref); jumps && host == slices.Index(b.HostNames(), name) {
		c.set, c.by = at, by
	}
	return c
}

// guestClock is the guest's clock, in ns. Up to the stall it is ahead of ours by a constant. It
// loses the time of a migration's stall, but continues through a pause, so that both kinds of
// clocks occur.
type guestClock struct {
	ahead, lost        int64
	suspended, resumed int64 // the stall whose time the clock loses; 0: none
}

func (m *model) guestClock() guestClock {
	c := guestClock{ahead: int64(guestAhead(m.ref))}
	if s := m.schedule; s.moved {
		c.suspended, c.resumed = s.suspended.UnixNano(), s.resumed.UnixNano()
		c.lost = c.resumed - c.suspended
	}
	return c
}

// says returns what the clock shows at a moment of our clock; both are in ns since 1970.
func (c guestClock) says(at int64) int64 {
	switch {
	case c.lost == 0 || at < c.suspended:
		return at + c.ahead
	case at < c.resumed:
		return c.suspended + c.ahead
	}
	return at + c.ahead - c.lost
}

// guestAhead returns how far the guest's clock is ahead of ours until the stall.
func guestAhead(ref trial.Ref) time.Duration { return evenly(source(ref, "guest clock"), maxAhead) }

// Clock returns the true offset with an error within the uncertainty that it gives. Each call is
// another exchange.
func (b *Bed) Clock(ctx context.Context, name string) (clock.Offset, error) {
	if err := b.spend(ctx, commandTime); err != nil {
		return clock.Offset{}, err
	}
	now := b.Now()
	offset := clock.Offset{At: now, Uncertainty: clockRTT / 2}
	switch {
	case name == testbed.GuestName:
		offset.Ahead = guestAhead(b.ref)
		if b.guestIsAt(home(b.ref).Other()) {
			m, err := modelOf(b.ref, b.faults)
			if err != nil {
				return clock.Offset{}, fmt.Errorf("clock of %s: %w", name, err)
			}
			offset.Ahead -= m.schedule.blackout()
		}
		if b.guestIsAt(storage.SiteB) {
			offset.Uncertainty += b.rtt() / 2
		}
	case b.isHost(name):
		offset.Ahead = b.hostClock(b.ref, name).says(now).Sub(now)
	default:
		return clock.Offset{}, fmt.Errorf("clock of %s: no such machine: there are %v and %s", name, b.HostNames(), testbed.GuestName)
	}
	if b.faults.uncertainClocks(b.ref) {
		offset.Uncertainty += uncertainBy
	}
	// A good exchange is nearly symmetric, whatever its round-trip time.
	random := source(b.ref, "clock "+name+strconv.FormatInt(now.UnixNano(), 10))
	offset.Ahead += evenly(random, clockRTT/2)
	return offset, nil
}

// evenly draws uniformly from -limit to limit.
func evenly(random *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration((2*random.Float64() - 1) * float64(limit))
}
