// Package cause has the codes by which failures are counted. A code says in one word, by
// which a table can be grouped, why a trial was not valid. The reason stored beside the
// code is text for people.
package cause

// Code is why a trial was not valid; "" is the code of a valid trial.
type Code string

// Failures of the system under test. They are results.
const (
	NonConvergence  Code = "non-convergence"  // the pre-copy never caught up with the guest within the limit
	TooSlow         Code = "too-slow"         // the limit came before the memory had crossed the WAN once
	MigrationFailed Code = "migration-failed" // the toolstack gave up for another reason
	GuestCrash      Code = "guest-crash"      // the domain crashed, or vanished
	ReadOnly        Code = "read-only"        // the guest's disk refused writes
	IOError         Code = "io-error"         // an I/O of the load failed
	SplitBrain      Code = "split-brain"      // DRBD: each side has data that the other lacks
	StorageFailed   Code = "storage-failed"   // the storage system failed in another way
	LostWrite       Code = "lost-write"       // an acknowledged write is missing: the gravest failure
	ReplicasDiffer  Code = "replicas-differ"  // the replicas differ after the load
	TimeOut         Code = "time-out"         // something took longer than its limit
	NoRecovery      Code = "no-recovery"      // the guest came back, but its disk did not: no I/O completed until the measurement ended
	GuestHung       Code = "guest-hung"       // the domain runs, but the guest in it does not
)

// Measurements that cannot be trusted. The trial is tried again.
const (
	WANOutOfTolerance Code = "wan-out-of-tolerance" // the WAN's certificate found a value out of tolerance
	WANChanged        Code = "wan-changed"          // somebody changed the WAN's settings during the trial
	ClockUncertain    Code = "clock-uncertain"      // the uncertainty of a clock is beyond the limit
	ClockJumped       Code = "clock-jumped"         // a host's clock was set
	WitnessDied       Code = "witness-died"         // one of the four witnesses ended, or its data have a gap
	LoadDied          Code = "load-died"            // the load's process ended by itself
	DataDamaged       Code = "data-damaged"         // raw files are empty, cut off or unreadable
	Infrastructure    Code = "infrastructure"       // a host, a worker or the way to them
)

// Other causes.
const (
	BadInput  Code = "bad-input"
	Cancelled Code = "cancelled"
)

// OfPath says whether the code means that the WAN was not as ordered. Other failures on
// such a WAN are no results.
func OfPath(code Code) bool { return code == WANChanged || code == WANOutOfTolerance }
