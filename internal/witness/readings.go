package witness

import "time"

// The raw files of a host's witness, on the host and where Fetch puts them.
// But for LogFile, each has a line for a reading, with times in ns since 1970 UTC on the host's
// own clock. A last line without its line feed is cut off and left out.
const (
	// CountersFile: see ReadCounters.
	CountersFile = "counters.txt"
	// DomainsFile: see ReadDomains.
	DomainsFile = "domains.txt"
	// HeartbeatsFile: see ReadHeartbeats. Of the WAN's end at site A only.
	HeartbeatsFile = "heartbeats.txt"
	// ExchangesFile: see ReadExchanges.
	ExchangesFile = "exchanges.txt"
	// LogFile has blocks of the load's log that the guest sent here, and is read
	// by package iolog. It has no lines.
	LogFile = "load-near.iolog"
)

// Domain states.
const (
	DomainRunning   = "running" // may run: also when it waits
	DomainPaused    = "paused"
	DomainSuspended = "suspended" // the guest has stopped itself for its migration
	DomainShutDown  = "shutdown"  // powered off or rebooting
	DomainCrashed   = "crashed"
	DomainGone      = "gone"  // there no more
	DomainWatch     = "watch" // no change: somebody still watches
	// DomainRecord is in the dataset only: nobody watched, and the host's own
	// record of a time that ends there tells every stop.
	DomainRecord = "record"
)

// DomainReading is a line of DomainsFile: `at id state spacing`.
type DomainReading struct {
	At    time.Time // of the look that saw it
	ID    int       // of the domain; 0 in a DomainWatch
	State string
	// Spacing is since the look before, which saw another state; in a
	// DomainWatch, each second, the longest between looks since the last line
	// of that kind. It is 0 in a DomainWatch where nobody looks: the hypervisor
	// tells of each change with its own time, and the line proves that it was
	// still heard.
	Spacing time.Duration
}

// NotTold is Heartbeat.OldestNs where no load is known whose I/Os in flight can be.
const NotTold = -1

// Heartbeat is a line of HeartbeatsFile: `arrived sequence sent acked oldest
// completed`. Lines of before have the first four words.
type Heartbeat struct {
	Arrived  time.Time // on site A's host's clock
	Sequence uint64    // from 1
	Sent     time.Time // on the guest's clock
	Acked    uint64    // newest record of the ledger that the disk has acknowledged
	// OldestNs is when the oldest I/O of the load that is in flight was
	// submitted, on the guest's clock in ns since 1970 UTC: 0 when none is, NotTold
	// when that is not known. Completed I/Os are as many as Completed.
	OldestNs  int64
	Completed uint64
}

// Exchange is a line of ExchangesFile: `at ahead uncertainty`, one reading of
// the guest's clock as this host's sees it.
type Exchange struct {
	At          time.Time     // the middle, on this host's clock
	Ahead       time.Duration // the guest's clock minus this host's
	Uncertainty time.Duration // half of the round trip
}
