package dataset

import (
	"time"

	"heliotrope/internal/trial"
)

// IO is one completed I/O of the load in the guest: a row of table io.
type IO struct {
	TsNs        int64  // completion, on the controller's time base, ns since 1970 UTC
	GuestTsNs   int64  // the same on the guest's own clock, as fio logged it (resolution 1 ms)
	LatencyNs   int64  // from submission to completion, on the guest's clock
	Op          string // read, write
	SizeBytes   int32
	OffsetBytes int64 // on the disk
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
	Value  int64  // as read: counters grow, and start again at 0 when their device is made anew
}

// Event is something that happened: a row of table events.
type Event struct {
	TsNs   int64
	Source string // controller, a host, guest
	Name   string // phase, migration-started, ...
	Detail string
}

// Trial is one attempt of a trial: a row of table trials. What is not known
// is nil, never a made-up number. The campaign's name is the folder's.
type Trial struct {
	Key      string // trial.Ref's Key: "00007.1"
	Sequence int32
	Block    int32
	Attempt  int32
	Counted  bool // the last attempt of its trial: CompactCampaign sets it
	CellID   string

	TestbedKind    string // emulated, hardware, simulated
	Lane           string
	Hypervisor     string
	Storage        string
	DRBDProtocol   *string // nil unless storage is drbd
	WAN            string
	RTTMs          float64  // the profile's
	MeasuredMinMs  *float64 // round trip, measured with the profile in place
	MeasuredMeanMs *float64
	Access         string
	GuestMemoryMiB *int32
	Seed           uint64

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
	LongestGapMs             *float64 // the blackout, on the controller's time base
	LongestGapUncertaintyMs  *float64
	GapGuestClockMs          *float64 // the same by the guest's own clock
	GuestClockBeforeNs       *int64   // the guest's clock minus the controller's, before the migration
	GuestClockBeforeUncertNs *int64
	GuestClockAfterNs        *int64
	GuestClockAfterUncertNs  *int64
	WANBytes                 *int64 // during the migration, both directions
	DRBDOutOfSyncBytes       *int64

	IORows      int64
	CounterRows int64
	EventRows   int64
	Folder      string // of the attempt's files, in the campaign's folder; see TrialFolder
}

// phases is how many phases a trial has; a test compares.
const phases = 10

// SetTimeline notes where the phases began.
func (t *Trial) SetTimeline(timeline trial.Timeline) {
	for i, phase := range trial.Phases {
		t.PhaseTsNs[i] = nil
		if at, ok := timeline.Start(phase); ok {
			ns := at.UnixNano()
			t.PhaseTsNs[i] = &ns
		}
	}
}

// Timeline is what SetTimeline was given.
func (t *Trial) Timeline() trial.Timeline {
	var timeline trial.Timeline
	for i, phase := range trial.Phases {
		if at := t.PhaseTsNs[i]; at != nil {
			timeline = append(timeline, trial.Mark{Phase: phase, At: time.Unix(0, *at).UTC()})
		}
	}
	return timeline
}

// The measuring phases, as table phases names them.
const (
	Before = "before" // the phase before
	During = "during" // the phase migrate
	After  = "after"  // the phase after
)

// Phase is the load's I/O in one measuring phase of one attempt: a row of
// table phases. Response times are nil when no I/O completed.
type Phase struct {
	Trial       string // Trial.Key
	Phase       string // Before, During, After
	StartedTsNs int64
	EndedTsNs   int64
	Seconds     float64
	IOs         int64
	Reads       int64
	Writes      int64
	Bytes       int64
	IOPS        float64
	MBPerS      float64 // 10^6 bytes
	MeanMs      *float64
	P50Ms       *float64
	P99Ms       *float64
	P999Ms      *float64
	MaxMs       *float64
}
