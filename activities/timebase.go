package activities

import (
	"math"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/load"
)

// guestClock turns the guest's clock into the controller's. A guest's clock may
// stand still while the guest is stopped for its migration, so there are two
// offsets, measured before and after, and a moment between them: the end of the
// longest silence of the load around the migration. The clock's loss thus
// becomes part of that silence, as it must. Silences of a pre-copy that starves
// the guest are no candidates: they are before the guest's last I/O at site A.
type guestClock struct {
	before, after clock.Offset
	stepNs        int64 // on the guest's clock: from here on, after holds
}

func (c guestClock) oursNs(guestNs int64) int64 {
	if guestNs >= c.stepNs {
		return guestNs - c.after.Ahead.Nanoseconds()
	}
	return guestNs - c.before.Ahead.Nanoseconds()
}

// latencyNs turns a latency on the guest's clock into one on ours: an I/O that
// was in flight over the clock's step, as the stalled one is, has the step in
// its latency.
func (c guestClock) latencyNs(completedGuestNs, latencyNs int64) int64 {
	return max(0, c.oursNs(completedGuestNs)-c.oursNs(completedGuestNs-latencyNs))
}

// settle is how long after the toolstack's end of a migration its silence may
// last: the disk connects again after the guest runs.
const settle = 5 * time.Second

// silence finds the longest time between two completions that touches the
// migration, as entries come in their nearly sorted order.
type silence struct {
	fromNs, toNs   int64 // of the migration, on the guest's clock
	lastNs         int64 // the latest completion so far
	lengthNs, ends int64
}

// newSilence looks from the guest's last I/O at site A, as the host there
// counted it (zero: not known), or from the migration's start.
func newSilence(migrated Migrated, lastAtA time.Time, before clock.Offset) *silence {
	ahead := before.Ahead.Nanoseconds()
	from := migrated.Started
	if lastAtA.After(from) && lastAtA.Before(migrated.Finished) {
		from = lastAtA
	}
	return &silence{fromNs: from.UnixNano() + ahead, toNs: migrated.Finished.Add(settle).UnixNano() + ahead,
		ends: math.MaxInt64}
}

func (s *silence) add(entry load.Entry) {
	at := entry.GuestTimeNs
	if s.lastNs != 0 && at >= s.fromNs && s.lastNs <= s.toNs && at-s.lastNs > s.lengthNs {
		s.lengthNs, s.ends = at-s.lastNs, at
	}
	s.lastNs = max(s.lastNs, at)
}

// hostClock turns a host's clock into the controller's, drifting evenly from
// one measured offset to the next.
type hostClock struct {
	before, after clock.Offset
}

func (c hostClock) oursNs(host time.Time) int64 {
	ahead := c.before.Ahead
	if span := c.after.At.Sub(c.before.At); span > 0 {
		share := float64(c.before.Ours(host).Sub(c.before.At)) / float64(span)
		ahead += time.Duration(min(max(share, 0), 1) * float64(c.after.Ahead-c.before.Ahead))
	}
	return host.Add(-ahead).UnixNano()
}
