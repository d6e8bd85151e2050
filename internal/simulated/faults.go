package simulated

import (
	"time"

	"heliotrope/internal/trial"
)

// Faults are the probabilities, 0 to 1, of what goes wrong in a trial; the zero
// value is none. Whether it happens follows from the trial's seed and the
// attempt, so that a call made again fails again.
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
}

const (
	rttOutsideBy = 100 * time.Millisecond
	loadEndsMin  = 500 * time.Millisecond
	loadEndsMax  = 3 * time.Second
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
