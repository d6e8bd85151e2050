package simulated

import (
	"errors"
	"time"

	"heliotrope/internal/trial"
)

// Faults are the probabilities, 0 to 1, of what goes wrong in a trial, and what a
// test wants of it beside; the zero value is none. Whether it happens follows from
// the trial's seed and the attempt, so that a call made again fails again.
type Faults struct {
	// MigrationFails lets the migration fail half-way with a
	// *hypervisor.MigrationError; the guest stays at site A.
	MigrationFails float64 `json:"migration_fails,omitempty"`
	// ProvisionFails is an error of the infrastructure when the disk is
	// provisioned, in the first attempt only.
	ProvisionFails float64 `json:"provision_fails,omitempty"`
	// RTTOutside adds 100 ms to the measured round trip, in the first attempt only.
	RTTOutside float64 `json:"rtt_outside,omitempty"`
	// LoadEnds lets the load end by itself within 3 s after the warm-up began.
	LoadEnds float64 `json:"load_ends,omitempty"`
	// WitnessDies ends the witness of one of the hosts by itself within the
	// first second of phase before, in the first attempt only.
	WitnessDies float64 `json:"witness_dies,omitempty"`
	// ClockJumps sets the clock of one of the hosts, by 0.2 to 2 s either way,
	// within the first second of phase before, in the first attempt only.
	ClockJumps float64 `json:"clock_jumps,omitempty"`
	// UncertainClocks makes every reading of a clock less certain by 100 ms, in
	// the first attempt only.
	UncertainClocks float64 `json:"uncertain_clocks,omitempty"`
	// LosesWrites lets 1 to 5 acknowledged records of the ledger be missing on
	// one copy of the disk: the only one, or site B's replica.
	LosesWrites float64 `json:"loses_writes,omitempty"`
	// GuestHangs lets the guest run, as its hypervisor sees it, after its migration
	// or pause, and do nothing any more.
	GuestHangs float64 `json:"guest_hangs,omitempty"`
	// DiskStaysAway lets no I/O complete after the migration or the pause; the
	// guest goes on.
	DiskStaysAway float64 `json:"disk_stays_away,omitempty"`
	// TargetUnplugged fails an I/O 2 s after the guest goes on, which ends the load.
	TargetUnplugged float64 `json:"target_unplugged,omitempty"`
	// MemoryGone lets the target have no free memory when it is asked before the
	// migration, in the first attempt only.
	MemoryGone float64 `json:"memory_gone,omitempty"`
	// Leaves lets the teardown of a first attempt leave a thing on the storage
	// server, until the next teardown. It needs Hosts.
	Leaves float64 `json:"leaves,omitempty"`

	// Held stops a trial in a phase; nil: it is not.
	Held *Held `json:"held,omitempty"`
	// Hosts is a folder that has a file for each thing on the model's hosts, in a folder of
	// the host's name: what was made, and was not yet removed. "" for none.
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

// happens draws for a fault.
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

// loadEnds is how long after the warm-up began the load ends; false when it
// does not end by itself.
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

// leaves says whether the teardown after the attempt leaves something.
func (f Faults) leaves(ref trial.Ref) bool {
	_, ended := ref.Timeline.Start(trial.Teardown)
	return ended && ref.Attempt <= 1 && happens(ref, "leaves", f.Leaves)
}

func (f Faults) losesWrites(ref trial.Ref) bool { return happens(ref, "loses writes", f.LosesWrites) }

// hangs is since when the guest does nothing any more; false when it goes on.
func (m *model) hangs() (since time.Time, hung bool) {
	return m.schedule.suspended, m.schedule.stalls() && happens(m.ref, "guest hangs", m.faults.GuestHangs)
}

// unplugged is when an I/O fails; false when none does.
func (m *model) unplugged() (at time.Time, is bool) {
	return m.schedule.connected.Add(pluggedFor), m.schedule.stalls() && happens(m.ref, "target unplugged", m.faults.TargetUnplugged)
}

// diskUntil is until when I/Os complete; false when they do to the end.
func (m *model) diskUntil() (end time.Time, ends bool) {
	if since, hung := m.hangs(); hung {
		return since, true
	}
	if m.schedule.stalls() && happens(m.ref, "disk stays away", m.faults.DiskStaysAway) {
		return m.schedule.suspended, true
	}
	return m.unplugged()
}

// answers is an error when the guest does not.
func (m *model) answers(now time.Time) error {
	if since, hung := m.hangs(); hung && !now.Before(since) {
		return errHung
	}
	return nil
}

var errHung = errors.New("the guest does not answer: the model was asked to let it hang")

// witnessDies is when the witness of which host ends, an index of
// Bed.HostNames; false when none does, or has not yet.
func (f Faults) witnessDies(ref trial.Ref) (host int, at time.Time, dies bool) {
	if ref.Attempt > 1 || !happens(ref, "witness dies", f.WitnessDies) {
		return 0, time.Time{}, false
	}
	return amid(ref, "which witness dies")
}

// clockJumps is when the clock of which host is set, an index of
// Bed.HostNames, and by how much; false when none is, or was not yet.
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

// amid draws a host and a moment in the first second of phase before, which is
// never shorter.
func amid(ref trial.Ref, purpose string) (host int, at time.Time, begun bool) {
	before, begun := ref.Timeline.Start(trial.Before)
	random := source(ref, purpose)
	return random.IntN(hostCount), before.Add(fromSeconds(random.Float64())), begun
}
