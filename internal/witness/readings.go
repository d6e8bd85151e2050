package witness

import "time"

// The raw files of a host's witness, on the host and in the folder where Fetch puts them. Each
// except LogFile has one line for each reading, with times in ns since 1970 UTC on the host's own
// clock. A last line without its line feed was cut off, and is left out.
const (
	// CountersFile: see ReadCounters.
	CountersFile = "counters.txt"
	// DomainsFile: see ReadDomains.
	DomainsFile = "domains.txt"
	// HeartbeatsFile: see ReadHeartbeats. It has content only at the WAN's end at site A.
	HeartbeatsFile = "heartbeats.txt"
	// ExchangesFile: see ReadExchanges.
	ExchangesFile = "exchanges.txt"
	// LogFile has blocks of the load's log that the guest sent to this host. It is not made of
	// lines; package iolog reads it.
	LogFile = "load-near.iolog"
)

// Domain states.
const (
	DomainRunning   = "running" // can run; also while it waits
	DomainPaused    = "paused"
	DomainSuspended = "suspended" // the guest has stopped itself for its migration
	DomainShutDown  = "shutdown"  // powered off or rebooting
	DomainCrashed   = "crashed"
	DomainGone      = "gone"  // no longer there
	DomainWatch     = "watch" // no change: the domain is still being watched
	// DomainRecord occurs in the dataset only: nobody watched during a time that ends at this
	// reading, but the host's own record of that time has every stop.
	DomainRecord = "record"
)

// DomainReading is a line of DomainsFile: `at id state spacing`.
type DomainReading struct {
	At    time.Time // of the observation that found the state
	ID    int       // of the domain; 0 for DomainWatch
	State string
	// Spacing is the time since the previous observation, which found another state. For a
	// DomainWatch, which comes each second, it is the longest time between observations since the
	// last DomainWatch. It is 0 in a DomainWatch when the hypervisor reports each change with its
	// own time instead of being asked; the line then proves that its reports still arrived.
	Spacing time.Duration
}

// NotTold is Heartbeat.OldestNs when no load is known whose I/Os in flight could be reported.
const NotTold = -1

// Heartbeat is a line of HeartbeatsFile: `arrived sequence sent acked oldest completed`. Lines in
// the older format have only the first four words.
type Heartbeat struct {
	Arrived  time.Time // on the clock of site A's host
	Sequence uint64    // from 1
	Sent     time.Time // on the guest's clock
	Acked    uint64    // newest record of the ledger that the disk has acknowledged
	// OldestNs is when the oldest of the load's I/Os in flight was submitted, on the guest's
	// clock in ns since 1970 UTC: 0 when none is in flight, NotTold when that is not known.
	// Completed is the number of completed I/Os.
	OldestNs  int64
	Completed uint64
}

// Exchange is a line of ExchangesFile, `at ahead uncertainty`: one reading of the guest's clock
// by this host.
type Exchange struct {
	At          time.Time     // middle of the exchange, on this host's clock
	Ahead       time.Duration // the guest's clock minus this host's
	Uncertainty time.Duration // half of the round-trip time
}
