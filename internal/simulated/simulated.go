// Package simulated is a model of a testbed behind testbed.Bed: for tests, dry runs and campaigns
// larger than any testbed here could run. It is never the default, and everything it produces is
// of kind inventory.Simulated.
//
// It promises that
//   - nothing waits: whatever takes time advances the Bed's own clock, which starts
//     at trial.Ref.Now. Only a test may hold a trial (Held);
//   - a Bed keeps no state across processes, except what is on its hosts when a test
//     wants to see that (Faults.Hosts). Where the guest runs, what its clock shows and
//     every byte of the raw files follow from the lane's name, the trial's seed, the
//     attempt, and the timeline. A crash changes nothing;
//   - the raw files have the real formats, those of packages load and witness.
//
// Random numbers come from math/rand/v2's PCG, seeded with the trial's seed, the attempt and the
// purpose. The bytes are the same only for the same version of this package and the same
// processor architecture (math.Exp rounds differently elsewhere). That is enough for tests; the
// bytes are no measurement that anybody would need to repeat.
//
// docs/simulated.md has the formulas and the reason for each. Their constants are near what was
// measured on the emulated testbed (docs/lab.md), so that campaigns look alike; they prove
// nothing about Xen, iSCSI, NFS or DRBD.
//
// Dangerous: the results look like a measurement. Whoever stores them must mark them with the
// Kind.
package simulated

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"heliotrope/internal/alive"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
)

var _ testbed.Bed = (*Bed)(nil)

// Callers that watch one of these for a while use the Bed's time.
var _, _, _ poll.Clock = (*Bed)(nil), path{}, (*recording)(nil)

// How long the methods take, in the Bed's time.
const (
	commandTime   = 100 * time.Millisecond // any request to a host
	provisionTime = 5 * time.Second
	bootTime      = 10 * time.Second
	shapeTime     = 500 * time.Millisecond
	pingEvery     = 25 * time.Millisecond
	teardownTime  = 3 * time.Second
	// toldEvery is how often a long call reports its progress.
	toldEvery = time.Minute
)

// Properties of every simulated host, and of the guest by default.
const (
	version        = "simulated"
	hostCPUs       = 128 // as many as a campaign may ask for
	hostMemoryMiB  = 128 << 10
	freeMemoryMiB  = 127 << 10
	guestMemoryMiB = 96
)

// Bed is a simulated testbed during one call of an activity. Several goroutines may use it.
type Bed struct {
	lane   string
	ref    trial.Ref
	faults Faults

	mu    sync.Mutex
	now   time.Time
	guest *domain // nil when there is no guest
}

// domain is the guest as a hypervisor describes it.
type domain struct {
	site      storage.Site
	name      string
	memoryMiB int
	status    hypervisor.Status
}

// Open returns the testbed of a lane in the state that the trial's timeline implies. A reference
// without a trial is sufficient for HostNames, Facts and Clock of a host.
func Open(lane string, ref trial.Ref, faults Faults) *Bed {
	b := &Bed{lane: lane, ref: ref, faults: faults, now: ref.Now}
	_, started := ref.Timeline.Start(trial.Shape)
	_, ended := ref.Timeline.Start(trial.Teardown)
	if started && !ended {
		b.guest = &domain{site: home(ref), name: b.domainName(), memoryMiB: memoryMiB(ref), status: hypervisor.Running}
		if isMigrated(ref, faults) {
			b.guest.site = b.guest.site.Other()
		}
	}
	return b
}

// isMigrated reports whether the guest has been moved to the other site.
func isMigrated(ref trial.Ref, faults Faults) bool {
	_, after := ref.Timeline.Start(trial.After)
	return after && ref.Trial.Cell.Migrates() && !faults.migrationFails(ref)
}

// memoryMiB returns the memory of the trial's guest.
func memoryMiB(ref trial.Ref) int {
	if own := ref.Trial.Cell.GuestMemoryMiB; own != 0 {
		return own
	}
	return guestMemoryMiB
}

func (b *Bed) guestIsAt(site storage.Site) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.guest != nil && b.guest.site == site
}

func (b *Bed) domainName() string { return b.lane + hypervisor.LabelSeparator + testbed.GuestName }

// Kind returns inventory.Simulated.
func (b *Bed) Kind() inventory.Kind { return inventory.Simulated }

// Name returns the lane's name.
func (b *Bed) Name() string { return b.lane }

// Now returns the Bed's own time.
func (b *Bed) Now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// spend lets time pass, as every call to the testbed does. It fails only when the context has
// ended, when the trial is Held, or when the call would be silent for longer than its caller
// waits. A context with a time-out in the Bed's own time (poll.WithTimeout) may end during spend.
func (b *Bed) spend(ctx context.Context, duration time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := b.hold(ctx); err != nil {
		return err
	}
	if patience := alive.Patience(ctx); patience > 0 && duration > patience {
		return fmt.Errorf("nothing got done for %s of the model's time: a call takes %s", patience, duration)
	}
	b.mu.Lock()
	b.now = poll.Passed(ctx, b.now.Add(duration))
	b.mu.Unlock()
	return context.Cause(ctx)
}

// work lets time pass during work that reports its progress each minute.
func (b *Bed) work(ctx context.Context, duration time.Duration) error {
	for left := duration; left > 0; {
		piece := min(left, toldEvery)
		if err := b.spend(ctx, piece); err != nil {
			return err
		}
		left -= piece
		alive.Reached(ctx, int64(duration-left), int64(duration))
	}
	return nil
}

// Wait lets time pass in which nothing is asked of the testbed, such as a pause. It returns at
// once.
func (b *Bed) Wait(ctx context.Context, duration time.Duration) error { return b.spend(ctx, duration) }

// rtt returns the model's round-trip time between the sites; without a profile, that of the
// unshaped path.
func (b *Bed) rtt() time.Duration {
	profile, err := wan.ParseProfile(b.ref.Trial.Cell.WAN)
	if err != nil {
		return pathRTT
	}
	return profile.RTT + pathRTT
}

// Machines lists the model's machines, the guest last.
func (b *Bed) Machines() []trial.Machine {
	return []trial.Machine{
		{Name: b.siteHost(storage.SiteA), Site: string(storage.SiteA), End: string(storage.SiteA), Shell: true, Witness: true, Clock: true},
		{Name: b.siteHost(storage.SiteB), Site: string(storage.SiteB), End: string(storage.SiteB), Shell: true, Witness: true, Clock: true},
		{Name: b.store(), Shell: true, Witness: true, Clock: true},
		{Name: testbed.GuestName, Shell: true, Witness: true},
	}
}

// HostNames lists the hosts: site A, site B, storage server.
func (b *Bed) HostNames() []string {
	return []string{b.siteHost(storage.SiteA), b.siteHost(storage.SiteB), b.store()}
}

func (b *Bed) siteHost(site storage.Site) string { return b.lane + "-" + string(site) }
func (b *Bed) store() string                     { return b.lane + "-store" }

// Facts returns "simulated" for every version.
func (b *Bed) Facts(ctx context.Context) (testbed.Facts, error) {
	if err := b.spend(ctx, commandTime); err != nil {
		return testbed.Facts{}, err
	}
	facts := testbed.Facts{
		Versions:       map[string]string{"drbd": version, "fio": version},
		GuestMemoryMiB: guestMemoryMiB,
		FreeMemoryMiB:  freeMemoryMiB,
	}
	for _, name := range b.HostNames() {
		host := testbed.HostFacts{Name: name, Kernel: version, CPUs: hostCPUs, MemoryMiB: hostMemoryMiB}
		if name != b.store() {
			host.Hypervisor = version
		}
		facts.Hosts = append(facts.Hosts, host)
	}
	return facts, nil
}

// isHost reports whether the testbed has a host with that name.
func (b *Bed) isHost(name string) bool {
	return name == b.store() || name == b.siteHost(storage.SiteA) || name == b.siteHost(storage.SiteB)
}

// Hypervisor returns the model of a site's hypervisor.
func (b *Bed) Hypervisor(site storage.Site) testbed.Hypervisor { return &host{bed: b, site: site} }

// WAN returns the model of the path. It does not store the shaping, which follows from the
// trial's cell.
func (b *Bed) WAN() testbed.WAN { return path{b} }

// Storage returns the model of a storage system.
func (b *Bed) Storage(kind string, options storage.Options) (storage.System, error) {
	switch kind {
	case iscsi, nfs:
		return &disks{bed: b, kind: kind}, nil
	case replicated:
		if p := options["protocol"]; p != "" && !slices.Contains([]string{"A", "B", "C"}, p) {
			return nil, fmt.Errorf("DRBD protocol %q: want A, B or C", p)
		}
		return &replicas{disks{bed: b, kind: kind}}, nil
	}
	return nil, fmt.Errorf("no storage system %q: there are %s, %s and %s", kind, iscsi, nfs, replicated)
}

// GuestAt returns the guest as it runs at a site.
func (b *Bed) GuestAt(site storage.Site, guest testbed.Guest) hypervisor.Domain {
	return hypervisor.Domain{Name: b.domainName(), MemoryMiB: cmp.Or(guest.MemoryMiB, guestMemoryMiB), VCPUs: max(1, guest.VCPUs), Disk: guest.Disk.At(site)}
}

// CheckMigration checks whether the target has enough memory.
func (b *Bed) CheckMigration(ctx context.Context, guest testbed.Guest, from storage.Site) error {
	return b.Hypervisor(from).CheckMigration(ctx, b.GuestAt(from.Other(), guest), b.Hypervisor(from.Other()))
}

// StartGuest boots the guest.
func (b *Bed) StartGuest(ctx context.Context, site storage.Site, wanted testbed.Guest) (hypervisor.Domain, error) {
	guest := b.GuestAt(site, wanted)
	if err := b.Hypervisor(site).Create(ctx, guest); err != nil {
		return guest, err
	}
	return guest, b.spend(ctx, bootTime)
}

// loadDevice is the disk under test as the model's guest sees it.
const loadDevice = "/dev/simulated"

// LoadConfig returns the trial's workload, on the part of the disk that the model uses.
func (b *Bed) LoadConfig(ref trial.Ref) (engine.Config, error) { return loadConfig(ref) }

func loadConfig(ref trial.Ref) (engine.Config, error) {
	access := ref.Trial.Cell.Access.Complete()
	targets, err := spec.Slices(spec.Target{Device: loadDevice, SizeBytes: diskBytes}, access.Targets)
	if err != nil {
		return engine.Config{}, fmt.Errorf("%w: %s: %w", load.ErrSpec, access.Name, err)
	}
	return engine.Config{Access: access, Targets: targets, Seed: ref.Trial.Seed, Token: ref.Trial.Seed ^ uint64(ref.Attempt)}, nil //nolint:gosec // bits, not a number
}

// Load returns the model of the trial's load.
func (b *Bed) Load(ref trial.Ref) (record.Recording, error) {
	m, err := modelOf(ref, b.faults)
	if err != nil {
		return nil, fmt.Errorf("load of trial %s: %w", ref.Key(), err)
	}
	return &loading{recording: recording{bed: b, model: m}}, nil
}

// Witness returns the model of the witness on a host, or of the one in the guest, whose reports
// arrive at the hosts.
func (b *Bed) Witness(ref trial.Ref, machine string) (record.Recording, error) {
	if machine != testbed.GuestName && !b.isHost(machine) {
		return nil, fmt.Errorf("witness on %s: no such machine: there are %v and %s", machine, b.HostNames(), testbed.GuestName)
	}
	m, err := modelOf(ref, b.faults)
	if err != nil {
		return nil, fmt.Errorf("witness on %s for trial %s: %w", machine, ref.Key(), err)
	}
	return &watching{recording: recording{bed: b, model: m}, machine: machine}, nil
}

// EvidenceFile is the file that Evidence writes.
const EvidenceFile = "simulated.txt"

// Evidence writes what the model knows: it has no consoles and no kernels.
func (b *Bed) Evidence(ctx context.Context, folder string) error {
	if err := b.spend(ctx, commandTime); err != nil {
		return err
	}
	text := fmt.Sprintf("simulated: trial %s on %s at %s: a model has no consoles, kernels or queues\nfaults: %+v\n",
		b.ref.Key(), b.lane, b.Now().UTC().Format(time.RFC3339Nano), b.faults)
	if m, err := modelOf(b.ref, b.faults); err != nil {
		text += "model: " + err.Error() + "\n"
	} else {
		text += m.schedule.account()
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, EvidenceFile), []byte(text), 0o644)
}

// Snapshot returns what is on the hosts: nothing unless Faults.Hosts is set.
func (b *Bed) Snapshot(ctx context.Context) (testbed.Snapshot, error) {
	snapshot := testbed.Snapshot{}
	for _, name := range b.HostNames() {
		found, err := b.made(name)
		if err != nil {
			return nil, err
		}
		snapshot[name] = found
	}
	return snapshot, b.spend(ctx, commandTime)
}

// Teardown removes everything from the hosts.
func (b *Bed) Teardown(ctx context.Context) error {
	if err := b.spend(ctx, teardownTime); err != nil {
		return err
	}
	b.mu.Lock()
	b.guest = nil
	b.mu.Unlock()
	return b.takeAll()
}

// Close has nothing to close.
func (b *Bed) Close() error { return nil }

// source returns the random numbers of an attempt for one purpose.
func source(ref trial.Ref, purpose string) *rand.Rand {
	return seeded(ref.Trial.Seed, fmt.Sprintf("%d %s", ref.Attempt, purpose))
}

func seeded(seed uint64, purpose string) *rand.Rand {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(purpose))               // never fails
	return rand.New(rand.NewPCG(seed, hash.Sum64())) //nolint:gosec // a model's numbers must come again, and hide nothing
}
