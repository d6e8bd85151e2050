package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"go.temporal.io/sdk/activity"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"heliotrope/activities/machine"
	"heliotrope/activities/pulse"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/ledger"
	"heliotrope/internal/poll"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// Testbed prepares a testbed for an attempt, checks it, and removes everything of ours
// again.
type Testbed struct {
	Open    Opener
	Records *Records
	// RaiseLane starts a lane's testbed where the controller can do that; nil where it
	// cannot.
	RaiseLane Raiser
}

// Raiser starts the parts of an emulated testbed that are down, and ends the testbeds that
// take turns with it. Parts that run are left alone.
type Raiser func(ctx context.Context, lane trial.Lane, progress func(step string)) error

// Raise starts the attempt's testbed before anything else is done with it.
func (t *Testbed) Raise(ctx context.Context, target Target) error {
	working, p, stop := pulse.Start(ctx, silenceOf(target))
	defer stop()
	if t.RaiseLane == nil {
		return pulse.Result(working, fault.New(fault.BadInput, "testbed %s is emulated, and this controller cannot start one", target.Lane.Name))
	}
	return pulse.Result(working, t.RaiseLane(working, target.Lane, func(step string) { p.Done(pulse.Step{Step: step}) }))
}

// silenceOf is how long a step on a testbed may make no progress: a step that takes longer
// must report how far it is.
func silenceOf(target Target) time.Duration { return target.Ref.Job().Path.Silence() }

// Swept is what Sweep found. The description of the hosts is left for the attempt's row:
// see factsFile.
type Swept struct {
	// WANHost is the host that bridges the sites, and WANDevice is its interface that leads
	// to site B. Empty on a simulated testbed.
	WANHost   string    `json:"wan_host,omitempty"`
	WANDevice string    `json:"wan_device,omitempty"`
	Now       time.Time `json:"now"` // the controller's time at the end
}

// beforeSuffix follows the name of an attempt's work folder in the name of the file with
// the hosts' state from before the attempt. That file is kept until it is known how the
// hosts were left, which is longer than the folder is kept.
const beforeSuffix = ".before.json"

// SweepInput is what an attempt needs before it begins.
type SweepInput struct {
	Target
	// MinFreeMiB is the disk space that must be free where the dataset is written.
	MinFreeMiB int `json:"min_free_mib,omitempty"`
}

// Sweep removes what an earlier attempt may have left on the hosts, and notes the state in
// which the attempt must leave them. A disk without space for the dataset is an error of
// the infrastructure, like a host that is away: somebody has to do something, and no trial
// may be used up before that.
func (t *Testbed) Sweep(ctx context.Context, input SweepInput) (Swept, error) {
	var swept Swept
	target := input.Target
	err := t.with(ctx, target, t.Records.before(target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		record, err := t.Records.Open(ctx, target)
		if err != nil {
			return err
		}
		if record.Done(target.Ref.Trial.Sequence) {
			return fault.New(fault.Invalid, "trial %d has a result: an earlier attempt, whose workflow was terminated, was concluded as this one began",
				target.Ref.Trial.Sequence)
		}
		if err := checkFree(record.Folder(), input.MinFreeMiB); err != nil {
			return err
		}
		// It is of an earlier campaign with the same name, and would be taken for this
		// one's.
		if err := forget(target); err != nil {
			return err
		}
		p.Done(pulse.Step{Step: "remove what was left on the hosts"})
		if err := bed.Teardown(ctx); err != nil {
			return err
		}
		p.Done(pulse.Step{Step: "ask the hosts what they are"})
		facts, err := bed.Facts(ctx)
		if err != nil {
			return err
		}
		if err := settle(ctx, bed, p); err != nil {
			return err
		}
		p.Done(pulse.Step{Step: "note the state of the hosts"})
		snapshot, err := bed.Snapshot(ctx)
		if err != nil {
			return err
		}
		swept = Swept{Now: bed.Now()}
		if machines, ok := bed.(Machines); ok {
			swept.WANHost, swept.WANDevice = machines.WANPlace()
		}
		if err := makeFolder(target, target.WorkFolder()); err != nil {
			return err
		}
		if err := writeJSON(filepath.Join(target.WorkFolder(), factsFile), facts); err != nil {
			return err
		}
		return writeJSON(target.WorkFolder()+beforeSuffix, snapshot)
	}))
	return swept, err
}

// forget removes what an attempt notes while it runs.
func forget(target Target) error {
	var paths []string
	for _, name := range []string{migratingFile, countsFile, certificateFile(BeforeTrial), certificateFile(AfterTrial)} {
		paths = append(paths, filepath.Join(target.WorkFolder(), name))
	}
	for _, find := range []func(string) ([]string, error){
		func(folder string) ([]string, error) { return dataset.SegmentPaths(folder, dataset.Events) },
		func(folder string) ([]string, error) { return dataset.SegmentPaths(folder, dataset.Clocks) },
	} {
		found, err := find(target.WorkFolder())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		paths = append(paths, found...)
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// checkFree is an error when a folder's disk has too little free space.
func checkFree(folder string, wantMiB int) error {
	var disk unix.Statfs_t
	if err := unix.Statfs(folder, &disk); err != nil {
		return fmt.Errorf("free disk space of %s: %w", folder, err)
	}
	if free := disk.Bavail * uint64(disk.Bsize) >> 20; free < uint64(max(0, wantMiB)) { //nolint:gosec // a block's size is positive
		return fmt.Errorf("%s has %d MiB of free disk space: limits.min_free_mib wants %d; make room, and the campaign goes on", folder, free, wantMiB)
	}
	return nil
}

// ProvisionInput says what to provision besides what the cell says.
type ProvisionInput struct {
	Target
	DiskMiB int `json:"disk_mib"`
	// Precondition is the campaign's disk.precondition; "" in a campaign that an older
	// program began: then the disk is not filled.
	Precondition string `json:"precondition,omitempty"`
}

// Provisioned is the disk under test and the guest that runs on it, at the site where the
// trial begins.
type Provisioned struct {
	Disk   storage.Disk `json:"disk"`
	Domain string       `json:"domain"`
	// Precondition is what was done to the disk; see Disk.Filled for details.
	Precondition string `json:"precondition,omitempty"`
	// Witnesses says what each machine's witness records, and Load what the guest's load
	// is.
	Witnesses map[string]machine.RecordingSetup `json:"witnesses,omitempty"`
	Load      machine.RecordingSetup            `json:"load,omitzero"`
	// Absent are the witnesses of the stall that the testbed does not have for this
	// attempt, by their names in the dataset.
	Absent []string  `json:"absent,omitempty"`
	Now    time.Time `json:"now"`
}

// diskName is the name of the disk under test.
const diskName = "disk"

// Provision makes the disk and starts the guest.
func (t *Testbed) Provision(ctx context.Context, input ProvisionInput) (Provisioned, error) {
	var provisioned Provisioned
	cell := input.Ref.Trial.Cell
	err := t.with(ctx, input.Target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		config, err := bed.LoadConfig(input.Ref)
		if err != nil {
			return fault.As(fault.BadInput, err)
		}
		p.Done(pulse.Step{Step: "provision the disk: " + cell.Storage})
		system, err := storageOf(bed, input.Ref)
		if err != nil {
			return err
		}
		spec := storage.Spec{Name: diskName, SizeBytes: int64(input.DiskMiB) << 20, MemoryMiB: cell.GuestMemoryMiB, Fill: input.fill(), Path: input.Ref.Job().Path}
		site, _ := route(input.Ref)
		disk, err := system.Provision(ctx, spec, site)
		if err != nil {
			return err
		}
		p.Done(pulse.Step{Step: "start the guest"})
		domain, err := bed.StartGuest(ctx, site, guestOf(input.Ref, disk))
		if err != nil {
			return err
		}
		provisioned = Provisioned{Disk: disk, Domain: domain.Name, Load: machine.RecordingSetup{Load: &config}, Precondition: input.Precondition, Now: bed.Now()}
		machines, ok := bed.(Machines)
		if !ok {
			return nil
		}
		if err := watch(ctx, machines, p, input.Ref, &provisioned); err != nil {
			return err
		}
		err = fillInGuest(ctx, machines, p, &provisioned.Disk)
		provisioned.Now = bed.Now()
		return err
	})
	return provisioned, err
}

// watch installs the witness in the guest, and finds out what to record on every machine.
func watch(ctx context.Context, machines Machines, p *pulse.Pulse, ref trial.Ref, provisioned *Provisioned) error {
	names := named(machines, hasWitness)
	setups := make([]machine.RecordingSetup, len(names))
	all, ctx := errgroup.WithContext(ctx)
	for i, name := range names {
		all.Go(func() error {
			if name == trial.Guest {
				p.Done(pulse.Step{Step: "install the witness on " + name})
				if err := machines.InstallWitness(ctx, name); err != nil {
					return err
				}
			}
			setup, err := machines.WitnessSetup(ctx, ref, name)
			setups[i] = machine.RecordingSetup{Dir: setup.Dir, Program: setup.Program, Host: setup.Host, Guest: setup.Guest}
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	provisioned.Witnesses = map[string]machine.RecordingSetup{}
	for i, name := range names {
		provisioned.Witnesses[name] = setups[i]
	}
	provisioned.Absent = absent(machines, provisioned.Witnesses)
	// Our own load engine is part of the guest's witness program.
	provisioned.Load.Dir, provisioned.Load.Program = machines.LoadDir(ref), provisioned.Witnesses[trial.Guest].Program
	return nil
}

// absent are the witnesses that a testbed does not have: the hypervisor's, when nobody
// watches a site's domains and its hypervisor keeps no record of its own; the backend's,
// when nobody counts the guest's disk. The guest's own witness and the network's always
// exist.
func absent(bed testbed.Bed, witnesses map[string]machine.RecordingSetup) []string {
	var all []string
	for _, m := range bed.Machines() {
		if m.Site != "" && !m.Witness && recorderAt(bed, m) == nil {
			all = append(all, dataset.WitnessHypervisor)
			break
		}
	}
	for _, setup := range witnesses {
		if setup.Host != nil && setup.Host.Device(witness.GuestDisk) != "" {
			return all
		}
	}
	return append(all, dataset.WitnessBackend)
}

// storageOf is the storage system of the attempt's cell.
func storageOf(bed testbed.Bed, ref trial.Ref) (storage.System, error) {
	cell := ref.Trial.Cell
	system, err := bed.Storage(cell.Storage, cell.StorageOptions())
	return system, fault.As(fault.BadInput, err)
}

// VerifyInput says what to verify.
type VerifyInput struct {
	Target
	Disk storage.Disk `json:"disk"`
	// Failed says that the system under test has failed: then what can no longer be read is
	// left out.
	Failed bool `json:"failed,omitempty"`
}

// errNoLedger says that no heartbeat told anybody outside of the guest of a record.
var errNoLedger = errors.New("no heartbeat told of an acknowledged record: the ledger proves nothing")

// Verified is what the storage system says of the disk after the load.
type Verified struct {
	// OutOfSyncBytes is in how many bytes the replicas differ; nil when there are no
	// replicas to compare.
	OutOfSyncBytes *int64 `json:"out_of_sync_bytes,omitempty"`
	// Ledger is what was read back, from each copy of the disk.
	Ledger []ledger.Report `json:"ledger,omitempty"`
	// Problem is what could not be read after a failure.
	Problem string    `json:"problem,omitempty"`
	Now     time.Time `json:"now"`
}

// Verify reads the ledger back from every copy of the disk, and compares the replicas.
// Everything that writes to the disk must have ended and been collected before.
func (t *Testbed) Verify(ctx context.Context, input VerifyInput) (Verified, error) {
	var verified Verified
	err := withBed(ctx, t.Open, input.Target, input.Ref.Job().LedgerSilence(), owning(input.Target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		system, err := storageOf(bed, input.Ref)
		if err != nil {
			return err
		}
		verified.Ledger, err = readLedger(ctx, bed, system, input, p)
		if input.Failed {
			if err != nil && ctx.Err() == nil {
				verified.Problem, err = err.Error(), nil
			}
			verified.Now = bed.Now()
			return err // after a failure of the storage, its replicas are not compared
		}
		if err != nil {
			return err
		}
		if verifier, ok := system.(storage.Verifier); ok {
			p.Done(pulse.Step{Step: "compare the replicas"})
			differ, err := verifier.Verify(ctx, input.Disk)
			if err != nil {
				return err
			}
			verified.OutOfSyncBytes = &differ
		}
		verified.Now = bed.Now()
		return nil
	}))
	return verified, err
}

// readLedger reads the ledger back from every copy.
func readLedger(ctx context.Context, bed testbed.Bed, system storage.System, input VerifyInput, p *pulse.Pulse) ([]ledger.Report, error) {
	copier, ok := system.(storage.Copier)
	if !ok || input.Ref.LedgerBytes == 0 {
		return nil, nil
	}
	acked, err := toldOf(filepath.Join(input.WorkFolder(), heartbeatsArriveAt(bed), witness.HeartbeatsFile))
	if err != nil {
		return nil, err
	}
	if acked == 0 {
		return nil, fault.Because(fault.Invalid, cause.WitnessDied, errNoLedger)
	}
	site := lastSite(input.Ref)
	if input.Failed {
		if site, err = siteOfGuest(ctx, bed); err != nil {
			return nil, err
		}
	}
	copies, err := copier.Copies(ctx, input.Disk, site)
	if err != nil {
		return nil, err
	}
	var reports []ledger.Report
	for _, copied := range copies {
		p.Done(pulse.Step{Step: "read the ledger back from " + copied.Name + " on " + copied.Host})
		report, err := checkLedger(ctx, bed, input, copied, acked)
		if err != nil {
			return reports, fmt.Errorf("read the ledger back from %s on %s: %w", copied.Name, copied.Host, err)
		}
		reports = append(reports, report)
	}
	return reports, nil
}

func checkLedger(ctx context.Context, bed testbed.Bed, input VerifyInput, copied storage.Copy, acked uint64) (ledger.Report, error) {
	if input.Failed {
		// The host may never answer. If this took the step's whole silence, all copies
		// would be tried again.
		limit := input.Ref.Job().LedgerSilence() / 2
		limited, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it does not answer within %s", limit))
		defer cancel()
		ctx = limited
	}
	return bed.CheckLedger(ctx, input.Ref, copied, acked)
}

// siteOfGuest asks both hypervisors where the guest is: after a failed migration it may be
// at either site, and the other site's disk may be an incomplete copy. Where the disk is
// read through the hypervisor, the guest may have been switched off for that.
func siteOfGuest(ctx context.Context, bed testbed.Bed) (storage.Site, error) {
	var found []storage.Site
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		domains, err := bed.Hypervisor(site).List(ctx)
		if err != nil {
			return "", fmt.Errorf("where the guest is, is not known: %w", err)
		}
		_, switchesOff := bed.Hypervisor(site).(hypervisor.Datastores)
		for _, domain := range domains {
			if domain.Status == hypervisor.Running || domain.Status == hypervisor.Paused || switchesOff && domain.Status == hypervisor.ShutDown {
				found = append(found, site)
			}
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("the guest runs at %d sites: which disk has what was written is not known", len(found))
	}
	return found[0], nil
}

// heartbeatsArriveAt is the name of the host that is the WAN's end at site A.
func heartbeatsArriveAt(bed testbed.Bed) string {
	for _, machine := range bed.Machines() {
		if machine.End == string(storage.SiteA) {
			return machine.Name
		}
	}
	return ""
}

// toldOf is the newest record of the ledger that a heartbeat reported.
func toldOf(path string) (acked uint64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	err = witness.ReadHeartbeats(file, func(beat witness.Heartbeat) error {
		acked = max(acked, beat.Acked)
		return nil
	})
	return acked, err
}

// TornDown is the state of the hosts after an attempt.
type TornDown struct {
	// Leftovers describes what is not as it was before, with one line for each difference,
	// and at most maxLeftovers lines. It is known only when Compared is set.
	Leftovers []string `json:"leftovers,omitempty"`
	Compared  bool     `json:"compared"`
	// OthersChanged is what somebody else made or removed meanwhile, with at most as many
	// lines.
	OthersChanged []string  `json:"others_changed,omitempty"`
	Now           time.Time `json:"now"`
}

const maxLeftovers = 20

// Teardown removes everything of ours from the hosts, and compares them with their state
// before the attempt. Hosts that are away are an error, but the others are cleared
// nevertheless.
func (t *Testbed) Teardown(ctx context.Context, target Target) (TornDown, error) {
	var torn TornDown
	err := withBed(ctx, t.Open, target, silenceOf(target), clearing(target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		p.Done(pulse.Step{Step: "remove everything from the hosts"})
		if err := bed.Teardown(ctx); err != nil {
			return err
		}
		torn.Now = bed.Now()
		var before testbed.Snapshot
		err := readJSON(target.WorkFolder()+beforeSuffix, &before)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // that was found out earlier, and is written
		}
		if err != nil {
			return err
		}
		p.Done(pulse.Step{Step: "compare the hosts with how they were"})
		after, err := bed.Snapshot(ctx)
		if err != nil {
			return err
		}
		torn.Leftovers, torn.OthersChanged = cut(before.Leftovers(after)), cut(before.DiffOthers(after))
		torn.Now, torn.Compared = bed.Now(), true
		return nil
	}))
	return torn, err
}

// cut keeps at most maxLeftovers lines, and says how many more there are.
func cut(lines []string) []string {
	if len(lines) > maxLeftovers {
		rest := fmt.Sprintf("… and %d more", len(lines)-maxLeftovers+1)
		lines = append(lines[:maxLeftovers-1], rest)
	}
	return lines
}

// with runs do on the target's testbed, under a pulse, while the campaign holds the leases
// of its hosts.
func (t *Testbed) with(ctx context.Context, target Target, do func(context.Context, testbed.Bed, *pulse.Pulse) error) error {
	return withBed(ctx, t.Open, target, silenceOf(target), owning(target, do))
}

func withBed(ctx context.Context, open Opener, target Target, silence time.Duration, do func(context.Context, testbed.Bed, *pulse.Pulse) error) error {
	working, p, stop := pulse.Start(ctx, silence)
	defer stop()
	bed, err := open(working, target.Lane, target.Ref)
	if err != nil {
		return pulse.Result(working, err)
	}
	defer func() {
		if err := bed.Close(); err != nil {
			activity.GetLogger(ctx).Debug("close the testbed's connections", "error", err.Error())
		}
	}()
	timed, cancel := inModelsTime(ctx, working, bed)
	defer cancel()
	return pulse.Result(working, classify(do(timed, bed, p)))
}

// inModelsTime ends an activity's work on a model when more of the model's time has passed than the
// activity may take: work that would be cut off on real hosts is cut off on a model, too.
func inModelsTime(ctx, working context.Context, bed testbed.Bed) (context.Context, context.CancelFunc) {
	if _, model := bed.(poll.Clock); model {
		if limit := activity.GetInfo(ctx).StartToCloseTimeout; limit > 0 {
			return poll.WithTimeout(working, bed, limit)
		}
	}
	return working, func() {}
}

// classify gives a failed migration its class; other errors have theirs from the drivers.
func classify(err error) error {
	var migration *hypervisor.MigrationError
	if errors.As(err, &migration) && !cutOff(err) && fault.Told(err) == "" {
		return fault.Because(fault.TargetFailed, cause.MigrationFailed, err)
	}
	return err
}

// writeJSON replaces a file as a whole, or leaves the old one, even when the machine loses
// its power: a truncated plan or snapshot would end the campaign.
func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(path, append(text, '\n'), 0o644)
}

func readJSON(path string, value any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
