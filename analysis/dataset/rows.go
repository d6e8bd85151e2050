package dataset

import (
	"time"

	"heliotrope/internal/trial"
)

// Null is a value that may not be known. Tables with many rows use it instead of a pointer.
type Null[T any] struct {
	Value T
	Known bool
}

// Known makes a value that is known.
func Known[T any](value T) Null[T] { return Null[T]{value, true} }

// IO is one completed I/O of the load in the guest: a row of table io.
type IO struct {
	TsNs        int64  // completion, on the controller's time base, ns since 1970 UTC
	GuestTsNs   int64  // the same on the guest's own clock, as fio logged it (resolution 1 ms)
	LatencyNs   int64  // from submission to completion, on the guest's clock
	Op          string // read, write
	SizeBytes   int32
	OffsetBytes int64 // on the disk
	// fio does not tell these: they are not known then.
	Line   Null[int32] // of the access specification, from 0
	Worker Null[int32] // from 0
	Target Null[int32] // from 0
	Error  int32       // errno with which it failed; 0: it did not
	LateNs Null[int64] // part of LatencyNs, from when the I/O was due to its submission; not known in a closed loop
	Reply  bool        // the I/O is the reply to one of the same transaction
}

// Histogram counts the I/Os of one worker, line and direction that completed in one short
// interval, where the log has no single I/Os: a row of table histograms.
type Histogram struct {
	TsNs             int64 // beginning of the interval, on the controller's time base
	LengthNs         int64
	Worker           int32
	Op               string // OpRead or OpWrite
	Line             int32  // of the access specification, from 0
	IOs              int64
	Errors           int64
	Bytes            int64
	MaxNs            int64  // longest response time, exact
	OldestInFlightNs int64  // age of the oldest I/O in flight at the interval's end; 0: there was none
	Counts           string // "bucket:I/Os bucket:I/Os ...": see package iolog
}

// Operations of an I/O.
const (
	OpRead  = "read"
	OpWrite = "write"
)

// Counter is one reading of one counter: a row of table counters.
type Counter struct {
	TsNs   int64  // controller's time base
	Host   string // a host of the inventory
	Device string // cpu, or a block device's or network interface's role: wan, guest-disk, ...
	Name   string // see the data dictionary: it gives the unit
	Value  int64  // as read: counters grow, and start again at 0 when their device is made again
}

// Event is something that happened: a row of table events.
type Event struct {
	TsNs   int64
	Source string // controller, a host, guest
	Name   string // phase, migration-started, ...
	Detail string
}

// Heartbeat is a datagram of the guest that arrived at site A: a row of table
// heartbeats.
type Heartbeat struct {
	TsNs        int64 // arrival, controller's time base
	Sequence    int64 // from 1, without holes when it was sent
	SentGuestNs int64 // when it was sent, on the guest's own clock
	SentTsNs    int64 // the same on the controller's time base
	Acked       int64 // newest record of the ledger that the disk had acknowledged
	// What the guest knew of its load; not known in recordings from before heartbeats told
	// it.
	OldestSubmittedTsNs Null[int64] // submission of the oldest I/O in flight, controller's time base; also not known when none is in flight
	CompletedIOs        Null[int64] // since the load's beginning
}

// Clock is one reading of a machine's clock: a row of table clocks.
type Clock struct {
	TsNs          int64  // controller's time base
	Machine       string // whose clock
	Reference     string // who asked: controller, or a host
	AheadNs       int64  // the machine's clock minus the controller's
	UncertaintyNs int64  // in both directions, including the reference's own
}

// Domain is a state of a domain that a hypervisor's host saw: a row of table
// domains.
type Domain struct {
	TsNs      int64
	Host      string
	ID        int32
	State     string // see package witness
	SpacingNs int64  // time since the look before, which did not see this state
}

// Certificate is what was measured of the WAN in one direction, before or after a trial: a
// row of table certificates.
type Certificate struct {
	Trial            string // Trial.Key
	Moment           string // before, after
	Direction        string // a-to-b, b-to-a
	TsNs             int64
	Profile          string
	WantRTTMs        float64
	RTTMinMs         *float64 // nil when nothing came back
	RTTMedianMs      *float64
	RTTMaxMs         *float64
	Pings            int32
	Received         int32   // pings that were answered
	LossPercent      float64 // of round trips
	WantLossPercent  float64 // of round trips: 1 - (1 - p)^2
	ThroughputMbit   float64
	WantRateMbit     float64 // 0 is unlimited
	Packets          int64   // that netem passed on
	Drops            int64   // that it dropped
	LimitPackets     int32
	WantLimitPackets int32
	BridgeRTTMs      *float64 // from site A to the host that bridges the sites: the shortest round trip, with jitter the median
	Shaping          string   // what was found wrong on that host
	PingCopies       *int32   // pings that were answered more than once; nil: not counted
	Probe            Probe
	Problem          string // what is out of tolerance; "" when nothing is
}

// Probe is what numbered UDP datagrams showed of one direction; all fields are nil where
// none were sent.
type Probe struct {
	Sent, Received    *int32 // sent below the rate
	Copies, Reordered *int32
	SentMbit          *float64
	ReceivedMbit      *float64
	Seconds           *float64 // from the first arrival to the last
	SpreadMs          *float64 // 99.9 % took at most this much longer than the shortest
	Spread90Ms        *float64 // the same for 90 %
	DetectableLoss    *float64 // percent
	AboveSentMbit     *float64 // sent beyond the rate; nil where there is no rate
	AboveReceivedMbit *float64
	AboveSeconds      *float64
}

// The witnesses, as table witnesses names them.
const (
	WitnessGuest      = "guest"
	WitnessHypervisor = "hypervisor"
	WitnessBackend    = "backend"
	WitnessNetwork    = "network"
)

// Witness is what one witness says about the stall: a row of table witnesses.
type Witness struct {
	Trial         string
	Witness       string
	FromTsNs      *int64 // of the stall; nil when it saw none, or has a Problem
	ToTsNs        *int64
	StallMs       *float64
	UncertaintyMs *float64
	Samples       int64   // number of samples it rests on
	SpacingMs     float64 // longest time between two looks outside of the stall
	Problem       string  // why it says nothing about the stall
}

// Traffic is the bytes of one class on the WAN in one phase: a row of table
// traffic.
type Traffic struct {
	Trial     string
	Phase     string // warm-up, before, during, after
	Class     string // migration, iscsi, nfs, drbd, control, heartbeat, other; and interface, the device's own count
	Direction string // to-b, to-a
	Bytes     int64
	Packets   int64
}

// Ledger is what was read back from one copy of the disk about the ledger: a row of table
// ledger.
type Ledger struct {
	Trial     string
	Copy      string
	Host      string
	Acked     int64
	Checked   int64
	Found     int64
	LostCount int64
	Lost      string // numbers of the first lost records
	Newest    int64
}

// Trial is one attempt of a trial: a row of tables attempts and trials. What is not known
// is nil, never a made-up number. The campaign's name is the folder's.
type Trial struct {
	Key      string // trial.Ref's Key: "00007.1"
	Sequence int32
	Block    int32
	Attempt  int32
	Counted  bool // the first result of its trial, or without one its last attempt: CompactCampaign sets it
	CellID   string

	TestbedKind    string // emulated, hardware, vcenter-simulator, simulated
	Lane           string
	Hypervisor     string
	Storage        string
	DRBDProtocol   *string // nil unless storage is drbd
	MirrorCopy     *string // nil unless storage is mirror
	WAN            string
	RTTMs          float64  // the profile's
	MeasuredMinMs  *float64 // round trip, measured with the profile in place
	MeasuredMeanMs *float64
	Access         string
	GuestMemoryMiB *int32
	GuestVCPUs     *int32
	// The disk before the load.
	Precondition      *string // fill, none
	PreconditionBytes *int64  // that were written
	PreconditionS     *float64
	// The load, as its engine reported it.
	Engine                            *string // heliotrope, fio
	IOMethod                          *string // uring, threads
	IODetail                          *string // of table io: all, histogram, summary
	IOErrors                          *int64
	IOViolations                      *int64 // sectors read whose content is not what verify expects
	IOPending                         *int64 // I/Os in flight when the load ended; next, when the oldest of them was submitted, controller's time base
	PendingReadTsNs, PendingWriteTsNs *int64
	FirstErrno                        *int32
	OfferedShort                      *int64 // I/Os of an open loop that never became due, because the guest's clock stood still
	// What the hypervisor was told of the migration; nil when there was none.
	Migration        *string
	AutoConverge     *bool
	BandwidthMiBPerS *int32 // nil: no limit
	MaxDowntimeMs    *int32 // nil: the hypervisor's own
	Seed             uint64

	Verdict       string // of package trial
	Reason        string // of the verdict; "" when valid
	StartedTsNs   int64
	EndedTsNs     int64
	PhaseTsNs     [phases]*int64 // where each of trial.Phases began; nil when it did not
	OverheadS     *float64       // time outside warm-up, before, migrate and after
	Leftovers     *int32         // things of ours still on the hosts after the teardown
	BinaryVersion string
	SpecSHA256    string // hex
	HostsJSON     string // hosts with their kernels and hypervisors, as a JSON text
	VersionsJSON  string // DRBD, fio, ... by name, as a JSON text

	MigrationStartedTsNs     *int64
	MigrationFinishedTsNs    *int64
	TotalMigrationMs         *float64
	MigrationStreamBytes     *int64
	DowntimeMs               *float64 // as the hypervisor reports it; BlackoutMs is what the witnesses saw
	Rounds                   *int64
	DiskBytes                *int64
	PrepareMs                *float64 // the parts of the migration that the hypervisor reports
	DiskCopyMs               *float64
	DiskConvergeMs           *float64
	SwitchMs                 *float64
	StoragePrepareTsNs       *int64   // when the storage's own parts of the migration began
	StoragePrepareMs         *float64 // how long they took
	StorageFinishMs          *float64
	LongestGapMs             *float64 // the blackout, on the controller's time base
	LongestGapUncertaintyMs  *float64
	GapGuestClockMs          *float64 // the same by the guest's own clock
	GuestClockBeforeNs       *int64   // the guest's clock minus the controller's, before the migration
	GuestClockBeforeUncertNs *int64
	GuestClockAfterNs        *int64
	GuestClockAfterUncertNs  *int64
	WANBytes                 *int64 // during the migration, both directions
	OutOfSyncBytes           *int64

	// How the trial was planned.
	Control   string // none, lan, pause; "" for a cell of the matrix
	HoldMs    *float64
	Direction string // outbound, return
	Sentinel  bool
	// Cause is the code of the verdict's reason; see package cause.
	Cause string
	// AbsentWitnesses are those that the testbed does not have, by their names in
	// table witnesses, separated by spaces.
	AbsentWitnesses string
	// Notes tell people of oddities that do not change the verdict.
	Notes string
	// Judged says that the verdict comes from what was measured, after all steps had
	// succeeded; see package judge.
	Judged bool
	// What the witnesses say together. BlackoutMs comes from the hypervisor's witness,
	// where there is one; what the others say is in table witnesses.
	BlackoutMs            *float64
	BlackoutUncertaintyMs *float64
	DisagreementMs        *float64 // the largest minus the smallest stall of those that the witnesses saw
	// The load: steady before the migration, and back after it.
	Steady             *bool
	SteadyRangePercent *float64
	SteadySlopePercent *float64
	RecoveryMs         *float64 // from the blackout's end; nil when the load did not recover
	IOLostS            *float64 // integral of the drop below the level before, expressed in seconds of that level
	LevelAfterIOPS     *float64 // steady level after the migration; nil when there is none
	UnavailableS       *float64
	Response           Response // the longest, of reads and writes
	ReadResponse       Response
	WriteResponse      Response
	// The clocks.
	ClockUncertaintyMs *float64 // the largest of all machines, in the measuring phases
	ClockDriftPPM      *float64 // of the host whose clock drifts most against the controller's
	GuestClockStepMs   *float64 // how much the guest's clock lost during its stall
	// The ledger.
	LedgerAcked *int64
	LedgerLost  *int64 // of the copy that lost most
	Evidence    string // folder of the evidence bundle, in the campaign's; "" when there is none

	IORows      *int64 // nil: the load's log is not known, and the attempt has no such file
	CounterRows int64
	EventRows   int64
	// Numbers of rows in files that attempts have since witnesses exist; nil says that the
	// attempt has no such file. SetFiles sets all of them.
	HeartbeatRows *int64
	ClockRows     *int64
	DomainRows    *int64
	HistogramRows *int64
	Folder        string // of the attempt's files, in the campaign's folder; see TrialFolder
}

// Response is the longest response time of an attempt's I/Os, from the storage's
// preparation to the end of phase after.
type Response struct {
	Ms            *float64
	UncertaintyMs *float64 // the I/O was still in flight when the load ended: it took at least Ms
	InFlight      *bool    // the I/O had not completed when the load ended: it took Ms at least
}

// HasIO says that the load's log is known, and has I/Os.
func (t *Trial) HasIO() bool { return t.IORows != nil && *t.IORows > 0 }

// SetFiles sets how many rows the attempt's files have.
func (t *Trial) SetFiles(written WrittenTrial) {
	t.CounterRows, t.EventRows = written.Counters.Rows, written.Events.Rows
	t.HeartbeatRows, t.ClockRows, t.DomainRows = &written.Heartbeats.Rows, &written.Clocks.Rows, &written.Domains.Rows
	t.IORows, t.HistogramRows = nil, nil
	if written.IO.Path != "" {
		t.IORows, t.HistogramRows = &written.IO.Rows, &written.Histograms.Rows
	}
}

// phases is the number of phases of a trial; a test compares it with trial.Phases.
const phases = 10

// SetTimeline sets where the phases began.
func (t *Trial) SetTimeline(timeline trial.Timeline) {
	for i, phase := range trial.Phases {
		t.PhaseTsNs[i] = nil
		if at, ok := timeline.Start(phase); ok {
			ns := at.UnixNano()
			t.PhaseTsNs[i] = &ns
		}
	}
}

// Timeline is the timeline that SetTimeline was given.
func (t *Trial) Timeline() trial.Timeline {
	var timeline trial.Timeline
	for i, phase := range trial.Phases {
		if at := t.PhaseTsNs[i]; at != nil {
			timeline = append(timeline, trial.Mark{Phase: phase, At: time.Unix(0, *at).UTC()})
		}
	}
	return timeline
}

// The measuring phases, by their names in table phases.
const (
	Before = "before" // the phase before
	During = "during" // the phase migrate
	After  = "after"  // the phase after
	// WholeLog stands for all of a log that somebody else wrote, which has no phases;
	// WholeReads and WholeWrites stand for only its reads and only its writes.
	WholeLog    = "whole"
	WholeReads  = "whole-read"
	WholeWrites = "whole-write"
)

// Phase is the load's I/O in one measuring phase of one attempt: a row of table phases.
// Response times are nil when no I/O completed. Everything measured is nil when the load's
// log is not known.
type Phase struct {
	Trial       string // Trial.Key
	Phase       string // Before, During, After; or WholeLog, WholeReads, WholeWrites
	StartedTsNs int64
	EndedTsNs   int64
	Seconds     float64
	IOs         *int64
	Reads       *int64
	Writes      *int64
	Bytes       *int64
	IOPS        *float64
	MBPerS      *float64 // 10^6 bytes
	MeanMs      *float64
	P50Ms       *float64
	P99Ms       *float64
	P999Ms      *float64
	MaxMs       *float64
}
