// Package cause has the codes by which failures are counted: why a trial was
// not valid, in one word that a table can be grouped by. The reason beside it is
// for people.
package cause

// Code is why a trial was not valid; "" is that of a valid one.
type Code string

// Failures of the system under test: results.
const (
	NonConvergence  Code = "non-convergence"  // the pre-copy never caught up with the guest within the limit
	TooSlow         Code = "too-slow"         // the limit came before the memory had crossed the WAN once
	MigrationFailed Code = "migration-failed" // the toolstack gave up for another reason
	GuestCrash      Code = "guest-crash"      // the domain crashed, or vanished
	ReadOnly        Code = "read-only"        // the disk refused writes
	IOError         Code = "io-error"         // an I/O of the load failed
	SplitBrain      Code = "split-brain"      // DRBD: both sides have data of their own
	StorageFailed   Code = "storage-failed"   // the storage system failed in another way
	LostWrite       Code = "lost-write"       // an acknowledged write is not there: the gravest
	ReplicasDiffer  Code = "replicas-differ"  // the replicas differ after the load
	TimeOut         Code = "time-out"         // something took longer than its limit
	NoRecovery      Code = "no-recovery"      // the guest came back, its disk did not: no I/O completed up to the end
	GuestHung       Code = "guest-hung"       // the domain runs, the guest in it does not
)

// Measurements that cannot be trusted: tried again.
const (
	WANOutOfTolerance Code = "wan-out-of-tolerance" // the certificate
	WANChanged        Code = "wan-changed"          // the path was changed by somebody during the trial
	ClockUncertain    Code = "clock-uncertain"      // beyond the limit
	ClockJumped       Code = "clock-jumped"         // a host's clock was set
	WitnessDied       Code = "witness-died"         // one of the four ended, or has a hole
	LoadDied          Code = "load-died"            // fio ended by itself
	DataDamaged       Code = "data-damaged"         // raw files are empty, cut off or unreadable
	Infrastructure    Code = "infrastructure"       // a host, a worker or the way to them
)

// Others.
const (
	BadInput  Code = "bad-input"
	Cancelled Code = "cancelled"
)

// OfPath says whether the path was not what was to be measured: then what else failed on
// it is no result.
func OfPath(code Code) bool { return code == WANChanged || code == WANOutOfTolerance }
