package simulated

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/load"
	"heliotrope/internal/load/fio"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
)

const lane = "simulated-1"

var began = time.Date(2024, 3, 1, 12, 0, 0, 0, time.UTC)

// cell is a cell of 4 KiB random I/Os.
func cell(kind, profile string, readPercent, outstanding int) campaign.Cell {
	return campaign.Cell{Hypervisor: "xen", Storage: kind, WAN: profile, Access: campaign.AccessSpec{
		Name: "test", Engine: "fio", Outstanding: outstanding,
		Lines: []campaign.AccessLine{{SizeBytes: 4096, SharePercent: 100, ReadPercent: readPercent, RandomPercent: 100}}}}
}

// reference is the first attempt of a trial that has not reached any phase.
func reference(c campaign.Cell) trial.Ref {
	return trial.Ref{Campaign: "test", Attempt: 1, Now: began, DiskBytes: 64 << 20, LedgerBytes: 8 << 20, Trial: campaign.Trial{Sequence: 7, Block: 1, Cell: c, Seed: 42}}
}

// played is a whole trial, run as a workflow would run it: each phase has a Bed of its own.
type played struct {
	ref       trial.Ref // in the phase collect
	migration hypervisor.Migration
	err       error         // of the migration
	paused    time.Duration // from the return of Pause to the call of Unpause
}

func (p *played) enter(phase trial.Phase) {
	p.ref.Timeline = append(slices.Clone(p.ref.Timeline), trial.Mark{Phase: phase, At: p.ref.Now})
}

func play(t testing.TB, ref trial.Ref, faults Faults) played {
	t.Helper()
	p := played{ref: ref}
	for _, phase := range []trial.Phase{trial.Provision, trial.Shape, trial.Attest} {
		p.enter(phase)
		p.ref.Now = p.ref.Now.Add(time.Second)
	}
	for _, phase := range []trial.Phase{trial.WarmUp, trial.Before} {
		p.enter(phase)
		p.ref.Now = p.ref.Now.Add(10 * time.Second)
	}
	p.enter(trial.Migrate)
	bed := Open(lane, p.ref, faults)
	switch cell := ref.Trial.Cell; {
	case cell.Migrates():
		p.migrate(t, bed)
	case cell.Control == campaign.ControlPause:
		p.pause(t, bed)
	default:
		if err := bed.Wait(t.Context(), cell.Hold); err != nil {
			t.Fatal(err)
		}
	}
	p.ref.Now = bed.Now()
	if p.err == nil {
		p.enter(trial.After)
		p.ref.Now = p.ref.Now.Add(10 * time.Second)
	}
	p.enter(trial.Collect)
	return p
}

func (p *played) migrate(t testing.TB, bed *Bed) {
	t.Helper()
	disk := storage.Disk{Spec: storage.Spec{Name: "test", SizeBytes: 64 << 20}}
	from, to := storage.Site(p.ref.From()), storage.Site(p.ref.To())
	system, err := bed.Storage(p.ref.Trial.Cell.Storage, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := system.PrepareMigration(t.Context(), disk, from, to); err != nil {
		t.Fatal(err)
	}
	p.migration, p.err = bed.Hypervisor(from).Migrate(t.Context(), orderOf(bed, from))
	if err := system.FinishMigration(t.Context(), disk, to); err != nil {
		t.Fatal(err)
	}
}

// orderOf is the migration of the guest away from a site.
func orderOf(bed *Bed, from storage.Site) hypervisor.Order {
	to := from.Other()
	return hypervisor.Order{Domain: bed.GuestAt(from, testbed.Guest{}), AtTarget: bed.GuestAt(to, testbed.Guest{}), Target: bed.Hypervisor(to)}
}

func (p *played) pause(t testing.TB, bed *Bed) {
	t.Helper()
	host := bed.Hypervisor(storage.Site(p.ref.From()))
	if err := host.Pause(t.Context(), lane+".guest"); err != nil {
		t.Fatal(err)
	}
	since := bed.Now()
	if states, err := host.List(t.Context()); err != nil || len(states) != 1 || states[0].Status != hypervisor.Paused {
		t.Fatalf("paused: %+v, %v", states, err)
	}
	if err := bed.Wait(t.Context(), p.ref.Trial.Cell.Hold-bed.Now().Sub(since)); err != nil {
		t.Fatal(err)
	}
	p.paused = bed.Now().Sub(since)
	if err := host.Unpause(t.Context(), lane+".guest"); err != nil {
		t.Fatal(err)
	}
}

// mark is when a phase began.
func (p *played) mark(t testing.TB, phase trial.Phase) time.Time {
	t.Helper()
	at, ok := p.ref.Timeline.Start(phase)
	if !ok {
		t.Fatalf("the timeline has no %s", phase)
	}
	return at
}

// end returns when recordings were ended.
func (p *played) end(t testing.TB) time.Time {
	t.Helper()
	return p.mark(t, trial.Collect).Add(endsAfter)
}

// completion is an entry of the log on the controller's time base.
type completion struct {
	fio.Line
	at time.Time
}

// log fetches the load's log and converts it to the controller's time base, with the offsets that
// were measured before and after the migration.
func (p *played) log(t testing.TB, faults Faults) []completion {
	t.Helper()
	folder := t.TempDir()
	recording, err := Open(lane, p.ref, faults).Load(p.ref)
	if err != nil {
		t.Fatal(err)
	}
	names, err := recording.Fetch(t.Context(), folder, nil)
	if err != nil || !slices.Equal(names, []string{load.LogFile, load.ResultFile}) {
		t.Fatalf("fetched %v, %v", names, err)
	}
	before, after := p.guestClocks(t, faults)
	suspended := time.Time{}
	if m, err := modelOf(p.ref, faults); err == nil && m.schedule.moved {
		suspended = m.schedule.suspended
	}
	var log []completion
	err = fio.ReadLog(open(t, folder, load.LogFile), p.ref.Now, func(entry fio.Line) error {
		at := time.Unix(0, entry.GuestTimeNs).Add(-before)
		if !suspended.IsZero() && at.After(suspended) {
			at = time.Unix(0, entry.GuestTimeNs).Add(-after)
		}
		log = append(log, completion{entry, at})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// guestClocks are the offsets of the guest's clock that are measured before
// the migration and at the end.
func (p *played) guestClocks(t testing.TB, faults Faults) (before, after time.Duration) {
	t.Helper()
	early := p.ref
	early.Timeline = early.Timeline[:3]
	first, err := Open(lane, early, faults).Clock(t.Context(), testbed.GuestName)
	if err != nil {
		t.Fatal(err)
	}
	last, err := Open(lane, p.ref, faults).Clock(t.Context(), testbed.GuestName)
	if err != nil {
		t.Fatal(err)
	}
	return first.Ahead, last.Ahead
}

func open(t testing.TB, folder, name string) *os.File {
	t.Helper()
	file, err := os.Open(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// between returns how many I/Os a second a log has between two moments, and their mean latency in
// ms.
func between(log []completion, wanted func(completion) bool, from, to time.Time) (iops, meanMs float64) {
	count, sum := 0, int64(0)
	for _, entry := range log {
		if wanted(entry) && entry.at.After(from) && entry.at.Before(to) {
			count++
			sum += entry.LatencyNs
		}
	}
	return float64(count) / to.Sub(from).Seconds(), float64(sum) / float64(max(1, count)) / 1e6
}

func all(completion) bool          { return true }
func onlyReads(c completion) bool  { return !c.Write }
func onlyWrites(c completion) bool { return c.Write }

func isNear(got, want, share float64) bool { return math.Abs(got-want) <= share*math.Abs(want) }

func TestBedIsMarkedAsSimulatedAndLeavesNothing(t *testing.T) {
	bed := Open(lane, reference(cell(iscsi, "lan", 50, 1)), Faults{})
	if bed.Kind() != inventory.Simulated {
		t.Errorf("kind %s", bed.Kind())
	}
	facts, err := bed.Facts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, host := range facts.Hosts {
		if host.Name != bed.HostNames()[i] || host.Kernel != "simulated" {
			t.Errorf("host %d is %+v", i, host)
		}
	}
	for name, version := range facts.Versions {
		if version != "simulated" {
			t.Errorf("%s has version %s", name, version)
		}
	}
	before, err := bed.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	disk := provision(t, bed)
	if _, err := bed.StartGuest(t.Context(), storage.SiteA, testbed.Guest{Disk: disk}); err != nil {
		t.Fatal(err)
	}
	if err := bed.Teardown(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := bed.Snapshot(t.Context())
	if err != nil || len(before) != 3 || len(before.Diff(after)) != 0 {
		t.Errorf("left %v, %v", before.Diff(after), err)
	}
	if found := where(t, bed); found != "" {
		t.Errorf("after the teardown the guest runs at %s", found)
	}
}

func provision(t *testing.T, bed *Bed) storage.Disk {
	t.Helper()
	system, err := bed.Storage(bed.ref.Trial.Cell.Storage, nil)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := system.Provision(t.Context(), storage.Spec{Name: "test", SizeBytes: 64 << 20}, storage.SiteA)
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// where asks both hypervisors where the guest is.
func where(t *testing.T, bed *Bed) string {
	t.Helper()
	found := ""
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		states, err := bed.Hypervisor(site).List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(states) > 0 {
			found += string(site)
		}
	}
	return found
}

func TestTimePassesWithoutWaiting(t *testing.T) {
	bed := Open(lane, reference(cell(iscsi, "lan", 50, 1)), Faults{})
	if !bed.Now().Equal(began) {
		t.Errorf("the time starts at %s", bed.Now())
	}
	if _, err := bed.StartGuest(t.Context(), storage.SiteA, testbed.Guest{Disk: provision(t, bed)}); err != nil {
		t.Fatal(err)
	}
	if passed := bed.Now().Sub(began); passed < 15*time.Second || passed > 20*time.Second {
		t.Errorf("provisioning and the guest's start took %s", passed)
	}
}

func TestGuestIsWhereTheTimelineSays(t *testing.T) {
	ref := reference(cell(nfs, "lan", 50, 1))
	for _, phase := range trial.Phases {
		ref.Timeline = append(ref.Timeline, trial.Mark{Phase: phase, At: ref.Now})
		want := "a"
		switch phase {
		case trial.Provision, trial.Teardown:
			want = ""
		case trial.After, trial.Collect, trial.Verify:
			want = "b"
		}
		if got := where(t, Open(lane, ref, Faults{})); got != want {
			t.Errorf("in phase %s the guest is at %q, not %q", phase, got, want)
		}
	}
}

func TestMigrationMovesTheGuest(t *testing.T) {
	ref := reference(cell(iscsi, "continental", 50, 1))
	ref.Timeline = trial.Timeline{{Phase: trial.Shape, At: began}, {Phase: trial.Migrate, At: began}}
	bed := Open(lane, ref, Faults{})
	a, order := bed.Hypervisor(storage.SiteA), orderOf(bed, storage.SiteA)
	var sent []int64
	order.Progress = func(p hypervisor.Progress) { sent = append(sent, p.SentBytes) }
	account, err := a.Migrate(t.Context(), order)
	if err != nil || where(t, bed) != "b" {
		t.Fatalf("%v, and the guest is at %s", err, where(t, bed))
	}
	if len(sent) != leastReports || !slices.IsSorted(sent) || sent[len(sent)-1] != account.StreamBytes {
		t.Errorf("progress %v of %d bytes", sent, account.StreamBytes)
	}
	if account.StreamBytes < 96<<20 || bed.Now().Before(account.Finished) {
		t.Errorf("%+v, and it is %s", account, bed.Now())
	}
	if again, err := a.Migrate(t.Context(), orderOf(bed, storage.SiteA)); err != nil || !reflect.DeepEqual(again, hypervisor.Migration{}) {
		t.Errorf("a second migration: %+v, %v", again, err)
	}
	order.Domain.Name = lane + ".other"
	if _, err := a.Migrate(t.Context(), order); !errors.Is(err, hypervisor.ErrNotFound) {
		t.Errorf("another domain: %v", err)
	}
}

func TestCertificateIsOfTheProfile(t *testing.T) {
	for _, profile := range append(wan.Profiles(), wan.Profile{RTT: 60 * time.Millisecond, LossPercent: 20, Jitter: 2 * time.Millisecond, RateBits: 50_000_000}) {
		ref := reference(cell(iscsi, profile.String(), 50, 1))
		bed := Open(lane, ref, Faults{})
		certificate, err := bed.Certify(t.Context(), ref)
		if err != nil || certificate.Profile != profile.String() || !certificate.At.Equal(bed.Now()) || !certificate.At.After(began) {
			t.Fatalf("%+v, %v", certificate, err)
		}
		for _, direction := range []wan.Direction{certificate.AToB, certificate.BToA} {
			ping := direction.Ping
			if ping.Sent == 0 || ping.Received == 0 || (ping.Received < ping.Sent) != (profile.LossPercent > 0) {
				t.Errorf("%s: %d of %d came back", profile, ping.Received, ping.Sent)
			}
			if ping.Min < profile.RTT-profile.Jitter || ping.Median > profile.RTT+2*time.Millisecond || ping.Max < ping.Median {
				t.Errorf("%s: %+v", profile, ping)
			}
			if err := certificate.Check(profile, wan.Tolerance{RTTMs: 2, RTTPercent: 3, MinThroughputPercent: 20}); err != nil {
				t.Error(err)
			}
			if rate := float64(profile.RateBits); direction.ThroughputBits <= 0.9*rate || rate > 0 && direction.ThroughputBits > rate {
				t.Errorf("%s: %.0f bit/s", profile, direction.ThroughputBits)
			}
			if (direction.Drops > 0) != (profile.LossPercent > 0) || direction.LimitPackets != direction.WantLimitPackets || (direction.LimitPackets > 0) != profile.IsShaping() {
				t.Errorf("%s: %+v", profile, direction)
			}
		}
		if certificate.AToB == certificate.BToA {
			t.Errorf("%s: both directions are the same to the nanosecond", profile)
		}
	}
}

func TestMoreMemoryOrLessRateMigratesLonger(t *testing.T) {
	took := func(profile string, memory int) time.Duration {
		c := cell(iscsi, profile, 50, 4)
		c.GuestMemoryMiB = memory
		p := play(t, reference(c), Faults{})
		return p.migration.Duration()
	}
	small, large, slow := took("lan", 96), took("lan", 192), took("rtt=1ms,rate=20mbit", 96)
	if large < small*3/2 || slow < small*2 {
		t.Errorf("96 MiB %s, 192 MiB %s, 96 MiB at 20 Mbit/s %s", small, large, slow)
	}
}

func TestUnknownThingsAreRefused(t *testing.T) {
	bed := Open(lane, reference(cell(iscsi, "lan", 50, 1)), Faults{})
	if _, err := bed.Storage("floppy", nil); err == nil {
		t.Error("a storage system that there is not")
	}
	if _, err := bed.Storage(replicated, storage.Options{"protocol": "D"}); err == nil {
		t.Error("a protocol that there is not")
	}
	if _, err := bed.Clock(t.Context(), "nobody"); err == nil {
		t.Error("the clock of nobody")
	}
	if _, err := bed.Witness(bed.ref, "nobody"); err == nil {
		t.Error("the witness on nobody")
	}
	if _, err := bed.CheckLedger(t.Context(), bed.ref, storage.Copy{Name: "copy", Host: "nobody"}, 1); err == nil {
		t.Error("the ledger on nobody")
	}
	ref := reference(cell(iscsi, "moon", 50, 1))
	if _, err := bed.Load(ref); err == nil {
		t.Error("the load over a WAN that there is not")
	}
	if _, err := Open(lane, ref, Faults{}).Certify(t.Context(), ref); err == nil {
		t.Error("the certificate of a WAN that there is not")
	}
	recording, err := bed.Witness(bed.ref, bed.HostNames()[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := recording.Fetch(t.Context(), t.TempDir(), nil); !errors.Is(err, errNothing) {
		t.Errorf("counters before the warm-up: %v", err)
	}
}
