package simulated

import (
	"fmt"
	"math"
	"strings"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
)

// Constants of migrations.
const (
	hostStreamBytesPerS = 9e6 // the hosts' sending rate, however fast the WAN is
	wanEfficiency       = 0.95
	streamSpread        = 0.05 // standard deviation of the logarithm of the stream's rate, from trial to trial
	pageBytes           = 4096
	enoughBytes         = 50 * pageBytes // pre-copy ends with so little dirty memory, as in Xen
	maxRounds           = 5              // of pre-copy, as in Xen
	idleDirtyBytesPerS  = 512 << 10
	workingSetBytes     = 8 << 20 // without the load's buffers
	setupTime           = time.Second
	setupRoundTrips     = 30
	handOverTime        = 100 * time.Millisecond // part of the blackout: the toolstacks' last steps
	handOverRoundTrips  = 3
	reconnectTime       = 250 * time.Millisecond // after the guest resumes, until its disk is connected
	reconnectRoundTrips = 3
	settleTime          = 100 * time.Millisecond // from the guest's resumption to the end of the migration

	pauseAfter  = time.Second           // from the mark of the phase to the pause: time for all that is asked of the hosts before
	unpauseLate = 20 * time.Millisecond // at most: until the guest runs again
)

// schedule says when the parts of a migration or a pause happen.
type schedule struct {
	from                 storage.Site // where the guest starts
	begun                bool         // a migration has begun
	moved                bool         // … and it has moved the guest
	held                 bool         // a pause has begun
	started              time.Time
	suspended, resumed   time.Time // of the guest, which stands still between them when it stalls
	connected            time.Time // the guest has its disk again
	finished             time.Time
	prepare, finish      time.Duration // how long the storage takes before and after
	streamBytes          int64
	memoryBytes          int64
	rounds               []int64 // bytes of each round; the last round is sent during the blackout
	streamBytesPerSecond float64
}

// blackout returns how long the guest stands still.
func (s schedule) blackout() time.Duration { return s.resumed.Sub(s.suspended) }

// stalls reports whether the guest stands still at all.
func (s schedule) stalls() bool { return s.moved || s.held }

// where returns the site where the guest is, and whether it is running.
func (s schedule) where(at time.Time) (site storage.Site, runs bool) {
	switch {
	case !s.stalls() || at.Before(s.suspended):
		return s.from, true
	case at.Before(s.resumed):
		return s.from, false
	case s.moved:
		return s.from.Other(), true
	}
	return s.from, true
}

// ran returns how long the guest has run at a site between two moments.
func (s schedule) ran(site storage.Site, from, to time.Time) time.Duration {
	whole := max(0, to.Sub(from))
	if !s.stalls() {
		if site == s.from {
			return whole
		}
		return 0
	}
	before := min(whole, max(0, s.suspended.Sub(from)))
	after := min(whole, max(0, to.Sub(s.resumed)))
	switch {
	case s.held && site == s.from:
		return before + after
	case s.moved && site == s.from:
		return before
	case s.moved && site == s.from.Other():
		return after
	}
	return 0
}

// fails returns when a failing migration fails.
func (s schedule) fails() time.Time {
	return s.started.Add(fromSeconds(failsAt * s.suspended.Sub(s.started).Seconds()))
}

// home returns the site where the trial's guest starts.
func home(ref trial.Ref) storage.Site { return storage.Site(ref.From()) }

// plan makes the schedule of the migration phase.
func (m *model) plan() schedule {
	switch cell := m.ref.Trial.Cell; {
	case cell.Migrates():
		return m.planMigration()
	case cell.Control == campaign.ControlPause:
		return m.planPause(cell.Hold)
	}
	return schedule{from: home(m.ref)}
}

// planPause schedules a pause from the mark of its phase:
//
//	… | the guest stands still: for hold, and until the hypervisor has resumed it
func (m *model) planPause(hold time.Duration) schedule {
	mark, begun := m.ref.Timeline.Start(trial.Migrate)
	if !begun {
		mark = m.ref.Now
	}
	hold += fromSeconds(unpauseLate.Seconds() * source(m.ref, "unpause").Float64())
	scale := m.scale(mark, pauseAfter+hold)
	s := schedule{from: home(m.ref), held: begun}
	s.suspended = mark.Add(fromSeconds(pauseAfter.Seconds() * scale))
	s.resumed = s.suspended.Add(fromSeconds(hold.Seconds() * scale))
	s.started, s.connected, s.finished = s.suspended, s.resumed, s.resumed
	return s
}

// scale returns the factor, at most 1, by which everything planned from a mark on is shortened
// when the timeline says that the next phase began earlier than planned.
func (m *model) scale(mark time.Time, planned time.Duration) float64 {
	if after, ended := m.ref.Timeline.Start(trial.After); ended {
		return min(1, after.Sub(mark).Seconds()/planned.Seconds())
	}
	return 1
}

// log returns text such as a toolstack might print.
func (s schedule) log() string {
	var text strings.Builder
	for i, sent := range s.rounds {
		fmt.Fprintf(&text, "simulated: round %d: %d bytes\n", i+1, sent)
	}
	fmt.Fprintf(&text, "simulated: suspended %s\nsimulated: resumed %s\n",
		s.suspended.UTC().Format(time.RFC3339Nano), s.resumed.UTC().Format(time.RFC3339Nano))
	return text.String()
}

// account describes what happened to the guest.
func (s schedule) account() string {
	switch {
	case s.stalls():
		return s.log()
	case s.begun:
		return "simulated: the migration has not ended, or has failed; the guest is at site " + string(s.from) + "\n"
	}
	return "simulated: the guest is at site " + string(s.from) + "\n"
}

// planMigration schedules a migration from the mark of its phase:
//
//	storage prepared | set-up | pre-copy | blackout | settled | storage finished
//	                                               | disk connected |
//
// If the timeline says that the next phase began before all of this would have ended, all parts
// are shortened by the same factor.
func (m *model) planMigration() schedule {
	prepare, finish := m.storageTimes()
	mark, begun := m.ref.Timeline.Start(trial.Migrate)
	if !begun {
		mark = m.ref.Now
	}
	s := schedule{from: home(m.ref), begun: begun, moved: begun && isMigrated(m.ref, m.faults), prepare: prepare, finish: finish,
		memoryBytes: int64(memoryMiB(m.ref)) << 20}
	precopy, last := m.precopy(&s)
	blackout := last + handOverTime + handOverRoundTrips*m.rtt
	setup := setupTime + setupRoundTrips*m.rtt

	scale := m.scale(mark, prepare+setup+precopy+blackout+settleTime+finish)
	at := mark
	next := func(length time.Duration) time.Time {
		at = at.Add(time.Duration(float64(length) * scale))
		return at
	}
	s.started = next(prepare)
	s.suspended = next(setup + precopy)
	s.resumed = next(blackout)
	s.connected = s.resumed.Add(time.Duration(float64(reconnectTime+reconnectRoundTrips*m.rtt) * scale))
	s.finished = next(settleTime)
	return s
}

// precopy fills in the rounds. It returns how long the rounds of pre-copy take, and how long the
// last round takes, which is sent while the guest stands still. Each round sends the pages that
// became dirty during the previous one:
//
//	v₀ = memory,  tᵢ = vᵢ ÷ stream rate + RTT,  vᵢ₊₁ = min(working set, dirty rate × tᵢ)
func (m *model) precopy(s *schedule) (copying, last time.Duration) {
	rate := hostStreamBytesPerS
	if m.profile.RateBits != 0 {
		rate = min(rate, float64(m.profile.RateBits)/8*wanEfficiency)
	}
	rate *= math.Exp(streamSpread * source(m.ref, "stream").NormFloat64())
	s.streamBytesPerSecond = rate

	size, largest := 0.0, 0
	for _, line := range m.access.Lines {
		size += float64(line.SizeBytes) * float64(line.SharePercent) / 100
		largest = max(largest, line.SizeBytes)
	}
	loaded := conditions{site: s.from, migrating: true, protocol: m.protocol}
	dirtyPerS := idleDirtyBytesPerS + m.iops(loaded)*max(size, pageBytes)
	workingSet := min(float64(s.memoryBytes), float64(workingSetBytes+m.slots()*max(largest, pageBytes)))

	send := float64(s.memoryBytes)
	for round := 1; ; round++ {
		took := fromSeconds(send/rate) + m.rtt
		s.rounds = append(s.rounds, int64(send))
		s.streamBytes += int64(send)
		if round > maxRounds || round > 1 && send < enoughBytes {
			return copying, took
		}
		copying += took
		send = min(workingSet, dirtyPerS*took.Seconds())
	}
}

// storageTimes returns how long the storage takes before and after a migration.
func (m *model) storageTimes() (prepare, finish time.Duration) {
	if m.kind == replicated {
		// To two primaries with protocol C, and back.
		return 1200*time.Millisecond + 10*m.rtt, 800*time.Millisecond + 10*m.rtt
	}
	return 400*time.Millisecond + 4*m.rtt, 300*time.Millisecond + 4*m.rtt
}
