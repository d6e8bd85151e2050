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

// The constants of migrations.
const (
	hostStreamBytesPerS = 9e6 // what the hosts can send, however fast the WAN is
	wanEfficiency       = 0.95
	streamSpread        = 0.05 // of the logarithm of the stream's rate, from trial to trial
	pageBytes           = 4096
	enoughBytes         = 50 * pageBytes // so little dirty memory ends pre-copy, as in Xen
	maxRounds           = 5              // of pre-copy, as in Xen
	idleDirtyBytesPerS  = 512 << 10
	workingSetBytes     = 8 << 20 // without the load's buffers
	setupTime           = time.Second
	setupRoundTrips     = 30
	handOverTime        = 100 * time.Millisecond // of the blackout: the toolstacks' last steps
	handOverRoundTrips  = 3
	reconnectTime       = 250 * time.Millisecond // the guest runs again, but its disk is not connected yet
	reconnectRoundTrips = 3
	settleTime          = 100 * time.Millisecond // from the guest's resumption to the end of the migration

	pauseAfter  = time.Second           // from the mark of the phase to the pause: whatever is asked of the hosts before
	unpauseLate = 20 * time.Millisecond // at most: until the guest runs again
)

// schedule is when the parts of the migration, or of the pause, happen.
type schedule struct {
	from                 storage.Site // where the guest starts
	begun                bool         // a migration has begun
	moved                bool         // … and the guest has been moved in it
	held                 bool         // a pause has begun
	started              time.Time
	suspended, resumed   time.Time // of the guest, which stands still between them when it stalls
	connected            time.Time // the guest has its disk again
	finished             time.Time
	prepare, finish      time.Duration // of the storage
	streamBytes          int64
	memoryBytes          int64
	rounds               []int64 // bytes of each, the last one's during the blackout
	streamBytesPerSecond float64
}

// blackout is how long the guest stands still.
func (s schedule) blackout() time.Duration { return s.resumed.Sub(s.suspended) }

// stalls says whether the guest stands still at all.
func (s schedule) stalls() bool { return s.moved || s.held }

// where is the site that the guest is at, and whether it runs.
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

// ran is how long the guest has run at a site from one moment to another.
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

// fails is when a migration that fails does.
func (s schedule) fails() time.Time {
	return s.started.Add(fromSeconds(failsAt * s.suspended.Sub(s.started).Seconds()))
}

// home is where the trial's guest starts.
func home(ref trial.Ref) storage.Site { return storage.Site(ref.From()) }

// plan lays out what happens in the phase of the migration.
func (m *model) plan() schedule {
	switch cell := m.ref.Trial.Cell; {
	case cell.Migrates():
		return m.planMigration()
	case cell.Control == campaign.ControlPause:
		return m.planPause(cell.Hold)
	}
	return schedule{from: home(m.ref)}
}

// planPause lays a pause out from the mark of its phase:
//
//	… | the guest stands still: hold, and until the hypervisor has let it go
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

// scale is what shortens all that is planned from a mark on, when the timeline
// says that the next phase began earlier; at most 1.
func (m *model) scale(mark time.Time, planned time.Duration) float64 {
	if after, ended := m.ref.Timeline.Start(trial.After); ended {
		return min(1, after.Sub(mark).Seconds()/planned.Seconds())
	}
	return 1
}

// log is what a toolstack might print.
func (s schedule) log() string {
	var text strings.Builder
	for i, sent := range s.rounds {
		fmt.Fprintf(&text, "simulated: round %d: %d bytes\n", i+1, sent)
	}
	fmt.Fprintf(&text, "simulated: suspended %s\nsimulated: resumed %s\n",
		s.suspended.UTC().Format(time.RFC3339Nano), s.resumed.UTC().Format(time.RFC3339Nano))
	return text.String()
}

// account is what happened to the guest, in words.
func (s schedule) account() string {
	switch {
	case s.stalls():
		return s.log()
	case s.begun:
		return "simulated: the migration has not ended, or has failed; the guest is at site " + string(s.from) + "\n"
	}
	return "simulated: the guest is at site " + string(s.from) + "\n"
}

// planMigration lays the migration out from the mark of its phase:
//
//	storage prepared | set-up | pre-copy | blackout | settled | storage finished
//	                                               | disk connected |
//
// Where the timeline says that the next phase began earlier than all that
// would take, all of it is shortened alike.
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

// precopy fills in the rounds and says how long those of pre-copy take, and the
// last one, which is sent while the guest stands still. Each round sends what
// the one before let become dirty:
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

// storageTimes are how long the storage takes before and after a migration.
func (m *model) storageTimes() (prepare, finish time.Duration) {
	if m.kind == replicated {
		// Two primaries and protocol C, and back.
		return 1200*time.Millisecond + 10*m.rtt, 800*time.Millisecond + 10*m.rtt
	}
	return 400*time.Millisecond + 4*m.rtt, 300*time.Millisecond + 4*m.rtt
}
