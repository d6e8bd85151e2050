package simulated

import (
	"fmt"
	"math"
	"strings"
	"time"

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
)

// schedule is when the parts of the migration happen. The zero value has none.
type schedule struct {
	begun                bool // the migration phase has begun
	moved                bool // … and the guest has been moved in it
	started              time.Time
	suspended, resumed   time.Time
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
	s := schedule{begun: begun, moved: begun && isMigrated(m.ref, m.faults), prepare: prepare, finish: finish,
		memoryBytes: int64(memoryMiB(m.ref)) << 20}
	precopy, last := m.precopy(&s)
	blackout := last + handOverTime + handOverRoundTrips*m.rtt
	setup := setupTime + setupRoundTrips*m.rtt

	scale := 1.0
	total := prepare + setup + precopy + blackout + settleTime + finish
	if after, ended := m.ref.Timeline.Start(trial.After); ended && begun {
		scale = min(1, after.Sub(mark).Seconds()/total.Seconds())
	}
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
	loaded := conditions{site: storage.SiteA, migrating: true, protocol: m.protocol}
	dirtyPerS := idleDirtyBytesPerS + m.iops(loaded)*max(size, pageBytes)
	workingSet := min(float64(s.memoryBytes), float64(workingSetBytes+m.access.Outstanding*max(largest, pageBytes)))

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
