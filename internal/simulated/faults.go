package simulated

import (
	"errors"
	"time"

	"heliotrope/internal/trial"
)

// Faults are the probabilities, 0 to 1, of faults in a trial, and some options for tests; the
// zero value has no faults. Whether a fault happens follows from the trial's seed and the
// attempt, so a repeated call fails again.
type Faults struct {
	// MigrationFails makes the migration fail half-way with a *hypervisor.MigrationError; the
	// guest stays at site A.
	MigrationFails float64 `json:"migration_fails,omitempty"`
	// ProvisionFails causes an error of the infrastructure while the disk is provisioned, in the
	// first attempt only.
	ProvisionFails float64 `json:"provision_fails,omitempty"`
	// RTTOutside adds 100 ms to the measured round-trip time, in the first attempt only.
	RTTOutside float64 `json:"rtt_outside,omitempty"`
	// LoadEnds makes the load end by itself within 3 s after the warm-up began.
	LoadEnds float64 `json:"load_ends,omitempty"`
	// WitnessDies makes the witness of one of the hosts end by itself within the first second of
	// phase before, in the first attempt only.
	WitnessDies float64 `json:"witness_dies,omitempty"`
	// ClockJumps sets the clock of one of the hosts forward or back by 0.2 to 2 s, within the
	// first second of phase before, in the first attempt only.
	ClockJumps float64 `json:"clock_jumps,omitempty"`
	// UncertainClocks adds 100 ms to the uncertainty of every reading of a clock, in the first
	// attempt only.
	UncertainClocks float64 `json:"uncertain_clocks,omitempty"`
	// LosesWrites makes 1 to 5 acknowledged records of the ledger be missing on one copy of the
	// disk: the only copy, or site B's replica.
	LosesWrites float64 `json:"loses_writes,omitempty"`
	// GuestHangs makes the guest do nothing after its migration or pause, although its hypervisor
	// sees it run.
	GuestHangs float64 `json:"guest_hangs,omitempty"`
	// DiskStaysAway lets no I/O complete after the migration or the pause; the guest keeps
	// running.
	DiskStaysAway float64 `json:"disk_stays_away,omitempty"`
	// TargetUnplugged makes an I/O fail 2 s after the guest has resumed, which ends the load.
	TargetUnplugged float64 `json:"target_unplugged,omitempty"`
	// MemoryGone leaves the target without free memory when it is checked before the migration,
	// in the first attempt only.
	MemoryGone float64 `json:"memory_gone,omitempty"`
	// Leaves makes the teardown of a first attempt leave a thing on the storage server until the
	// next teardown. It needs Hosts.
	Leaves float64 `json:"leaves,omitempty"`

	// Held stops a trial in a phase; nil: the trial is not stopped.
	Held *Held `json:"held,omitempty"`
	// Hosts is a folder that has a folder for each of the model's hosts, by the host's name, with
	// a file for each thing that was made on that host and not yet removed. "": no such folder.
	Hosts string `json:"hosts,omitempty"`
}

const (
	rttOutsideBy = 100 * time.Millisecond
	loadEndsMin  = 500 * time.Millisecond
	loadEndsMax  = 3 * time.Second
	uncertainBy  = 100 * time.Millisecond
	clockJumpMin = 200 * time.Millisecond
	clockJumpMax = 2 * time.Second
	hostCount    = 3 // of Bed.HostNames
	pluggedFor   = 2 * time.Second
)

// happens draws whether a fault happens.
func happens(ref trial.Ref, fault string, probability float64) bool {
	return probability > 0 && source(ref, fault).Float64() < probability
}

func (f Faults) migrationFails(ref trial.Ref) bool {
	return happens(ref, "migration fails", f.MigrationFails)
}

func (f Faults) provisionFails(ref trial.Ref) bool {
	return ref.Attempt <= 1 && happens(ref, "provision fails", f.ProvisionFails)
}

func (f Faults) rttOutside(ref trial.Ref) bool {
	return ref.Attempt <= 1 && happens(ref, "rtt outside", f.RTTOutside)
}

// loadEnds returns how long after the beginning of the warm-up the load ends; false when it does
// not end by itself.
func (f Faults) loadEnds(ref trial.Ref) (time.Duration, bool) {
	if !happens(ref, "load ends", f.LoadEnds) {
		return 0, false
	}
	share := source(ref, "when the load ends").Float64()
	return loadEndsMin + time.Duration(share*float64(loadEndsMax-loadEndsMin)), true
}

func (f Faults) uncertainClocks(ref trial.Ref) bool {
	return ref.Attempt <= 1 && happens(ref, "uncertain clocks", f.UncertainClocks)
}

func (f Faults) memoryGone(ref trial.Ref) bool {
	return ref.Attempt <= 1 && happens(ref, "memory gone", f.MemoryGone)
}

// leaves reports whether the teardown after the attempt leaves something.
func (f Faults) leaves(ref trial.Ref) bool {
	_, ended := ref.Timeline.Start(trial.Teardown)
	return ended && ref.Attempt <= 1 && happens(ref, "leaves", f.Leaves)
}

func (f Faults) losesWrites(ref trial.Ref) bool { return happens(ref, "loses writes", f.LosesWrites) }

// hangs returns since when the guest hangs; false when it does not hang.
func (m *model) hangs() (since time.Time, hung bool) {
	return m.schedule.suspended, m.schedule.stalls() && happens(m.ref, "guest hangs", m.faults.GuestHangs)
}

// unplugged returns when an I/O fails; false when none does.
func (m *model) unplugged() (at time.Time, is bool) {
	return m.schedule.connected.Add(pluggedFor), m.schedule.stalls() && happens(m.ref, "target unplugged", m.faults.TargetUnplugged)
}

// diskUntil returns until when I/Os complete; false when they complete to the end.
func (m *model) diskUntil() (end time.Time, ends bool) {
	if since, hung := m.hangs(); hung {
		return since, true
	}
	if m.schedule.stalls() && happens(m.ref, "disk stays away", m.faults.DiskStaysAway) {
		return m.schedule.suspended, true
	}
	return m.unplugged()
}

// answers returns an error when the guest does not answer.
func (m *model) answers(now time.Time) error {
	if since, hung := m.hangs(); hung && !now.Before(since) {
		return errHung
	}
	return nil
}

var errHung = errors.New("the guest does not answer: the model was asked to let it hang")

// witnessDies returns which host's witness ends, as an index of Bed.HostNames, and when; false
// when none does, or phase before has not begun.
func (f Faults) witnessDies(ref trial.Ref) (host int, at time.Time, dies bool) {
	if ref.Attempt > 1 || !happens(ref, "witness dies", f.WitnessDies) {
		return 0, time.Time{}, false
	}
	return amid(ref, "which witness dies")
}

// clockJumps returns which host's clock is set, as an index of Bed.HostNames, when, and by how
// much; false when none is, or phase before has not begun.
func (f Faults) clockJumps(ref trial.Ref) (host int, at time.Time, by time.Duration, jumps bool) {
	if ref.Attempt > 1 || !happens(ref, "clock jumps", f.ClockJumps) {
		return 0, time.Time{}, 0, false
	}
	random := source(ref, "how far the clock jumps")
	by = clockJumpMin + time.Duration(random.Float64()*float64(clockJumpMax-clockJumpMin))
	if random.IntN(2) == 0 {
		by = -by
	}
	host, at, jumps = amid(ref, "which clock jumps")
	return host, at, by, jumps
}

// amid draws a host and a moment in the first second of phase before, which is never shorter than
// that.
func amid(ref trial.Ref, purpose string) (host int, at time.Time, begun bool) {
	before, begun := ref.Timeline.Start(trial.Before)
	random := source(ref, purpose)
	return random.IntN(hostCount), before.Add(fromSeconds(random.Float64())), begun
}
