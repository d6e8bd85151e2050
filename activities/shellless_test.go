package activities_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/clock"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/record"
	"heliotrope/internal/simulated"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// shellless is the model with hosts on which nothing of ours runs: helpers at the sites do
// the work of the sites' hosts, and the hypervisors report the guest's stop from their own
// records.
type shellless struct {
	*simulated.Bed
	ref    trial.Ref
	broken error // error of reading a record
}

// helped are the model's hosts by the names of the helpers that do their work.
var helped = map[string]string{"sim-1-helper-a": "sim-1-a", "sim-1-helper-b": "sim-1-b"}

func (s *shellless) Machines() []trial.Machine {
	all := []trial.Machine{{Name: "sim-1-a", Site: "a", Clock: true}, {Name: "sim-1-b", Site: "b", Clock: true},
		{Name: "sim-1-helper-a", End: "a", Shell: true, Witness: true, Clock: true},
		{Name: "sim-1-helper-b", End: "b", Shell: true, Witness: true, Clock: true}}
	return append(all, s.Bed.Machines()[2:]...)
}

func (s *shellless) Facts(ctx context.Context) (testbed.Facts, error) {
	facts, err := s.Bed.Facts(ctx)
	lacks := []inventory.Capability{inventory.Shell, inventory.Witness, inventory.Beats, inventory.Counters}
	facts.Hosts[0].Site, facts.Hosts[0].Lacks, facts.Hosts[1].Site, facts.Hosts[1].Lacks = "a", lacks, "b", lacks
	// The order must not tell which host is which.
	facts.Hosts = append([]testbed.HostFacts{{Name: "sim-1-helper-b", End: "b"}, {Name: "sim-1-helper-a", End: "a"}}, facts.Hosts...)
	return facts, err
}

func (s *shellless) Clock(ctx context.Context, name string) (clock.Offset, error) {
	if host, is := helped[name]; is {
		name = host
	}
	return s.Bed.Clock(ctx, name)
}

func (s *shellless) Witness(ref trial.Ref, machine string) (record.Recording, error) {
	host, is := helped[machine]
	switch {
	case is:
		machine = host
	case machine == "sim-1-a" || machine == "sim-1-b":
		panic("a witness is asked for on a host without a shell")
	}
	return s.Bed.Witness(ref, machine)
}

func (s *shellless) Hypervisor(site storage.Site) testbed.Hypervisor {
	return &recorder{Hypervisor: s.Bed.Hypervisor(site), s: s, site: site}
}

// recorder has written down what the model's watchers see.
type recorder struct {
	testbed.Hypervisor
	s    *shellless
	site storage.Site
}

func (r *recorder) Migrate(ctx context.Context, order hypervisor.Order) (hypervisor.Migration, error) {
	order.Target = order.Target.(*recorder).Hypervisor
	return r.Hypervisor.Migrate(ctx, order)
}

func (r *recorder) Clock(ctx context.Context) (clock.Offset, error) {
	return r.s.Bed.Clock(ctx, "sim-1-"+string(r.site))
}

// Record has the stop at site B, to which the guest migrates.
func (r *recorder) Record(ctx context.Context, name string, from, to time.Time) (hypervisor.Record, error) {
	if r.s.broken != nil || name != "sim-1.guest" || !from.Before(to) {
		return hypervisor.Record{}, fault.New(fault.Infrastructure, "%w: record of %s from %s to %s", r.s.broken, name, from, to)
	}
	if r.site != storage.SiteB {
		return hypervisor.Record{}, nil
	}
	stopped, err := r.changed(ctx, "sim-1-a", witness.DomainSuspended)
	if err != nil {
		return hypervisor.Record{}, err
	}
	ran, err := r.changed(ctx, "sim-1-b", witness.DomainRunning)
	if err != nil {
		return hypervisor.Record{}, err
	}
	a, err := r.s.Bed.Clock(ctx, "sim-1-a")
	if err != nil {
		return hypervisor.Record{}, err
	}
	b, err := r.Clock(ctx)
	stop := hypervisor.Stop{From: stopped.Add(b.Ahead - a.Ahead), To: ran, Resolution: time.Millisecond}
	return hypervisor.Record{Stops: []hypervisor.Stop{stop},
		Notes: []hypervisor.Note{{At: from.Add(time.Second), Source: "vc-1", Text: "event 7"}}}, err
}

// counterClock is the clock that the times of the hypervisors' counters are from.
var counterClock = clock.Offset{Ahead: 90 * time.Second, Uncertainty: 3 * time.Millisecond}

// Counters returns one value of the host from the time that is asked for, and one of the
// guest while the guest is there.
func (r *recorder) Counters(ctx context.Context, of hypervisor.Counted, from, to time.Time) (hypervisor.Counts, error) {
	counts := hypervisor.Counts{Source: "vc-1", Clock: counterClock}
	counts.Clock.At = to
	if r.s.broken != nil || of.Domain != "sim-1.guest" || of.Storage != r.s.ref.Trial.Cell.Storage || !from.Before(to) {
		return counts, fault.New(fault.Infrastructure, "%w: count %v from %s to %s", r.s.broken, of, from, to)
	}
	if r.site != storage.SiteA {
		return counts, nil
	}
	at := from.Add(time.Second + counterClock.Ahead)
	counts.Readings = []witness.Reading{{At: at, Device: witness.CPU, Name: "usage_basis_points", Value: 1234}}
	domains, err := r.List(ctx)
	if len(domains) > 0 {
		counts.Readings = append(counts.Readings, witness.Reading{At: at, Device: witness.GuestDisk, Name: "read_latency_ms", Value: 5})
	}
	return counts, err
}

// changed is when a host's watcher first saw the guest in a state, on its clock.
func (r *recorder) changed(ctx context.Context, host, state string) (at time.Time, err error) {
	recording, err := r.s.Bed.Witness(r.s.ref, host)
	if err != nil {
		return at, err
	}
	folder, err := os.MkdirTemp("", "record")
	if err != nil {
		return at, err
	}
	defer os.RemoveAll(folder) //nolint:errcheck // of the test
	if _, err := recording.Fetch(ctx, folder, func(int64, int64) {}); err != nil {
		return at, err
	}
	file, err := os.Open(filepath.Join(folder, witness.DomainsFile))
	if err != nil {
		return at, err
	}
	defer file.Close()
	err = witness.ReadDomains(file, func(reading witness.DomainReading) error {
		if at.IsZero() && reading.State == state {
			at = reading.At
		}
		return nil
	})
	return at, err
}

// withoutShells runs an attempt on the model without shells.
func withoutShells(t *testing.T, broken *error) *attempt {
	t.Helper()
	a := newAttempt(t, simulated.Faults{})
	open := func(_ context.Context, lane trial.Lane, ref trial.Ref) (testbed.Bed, error) {
		return &shellless{Bed: simulated.Open(lane.Name, ref, simulated.Faults{}), ref: ref, broken: *broken}, nil
	}
	a.testbed, a.migrator, a.certifier = &activities.Testbed{Open: open}, &activities.Migrator{Open: open}, &activities.Certifier{Open: open}
	a.collector = &activities.Collector{Open: open, Version: "unit"}
	return a
}

// TestWithoutShells: an attempt on hosts without a shell is as valid as any other. Its
// blackout comes from the target hypervisor's record, and its heartbeats are those that
// arrived at the helper.
func TestWithoutShells(t *testing.T) {
	with := newAttempt(t, simulated.Faults{}).collected(t).torn(t, trial.Valid)
	require.Equal(t, trial.Valid, with.conclude(t).Verdict)
	want := with.row(t)

	var intact error
	a := withoutShells(t, &intact).collected(t)
	require.Equal(t, []string{"sim-1-a", "sim-1-b"}, a.known.Collected.Records)
	require.Len(t, a.known.Collected.Machines, 6)
	require.True(t, exists(t, a.raw("sim-1-helper-a", witness.HeartbeatsFile)))
	require.False(t, exists(t, a.raw("sim-1-a", witness.HeartbeatsFile)))
	a.known.Provisioned.Absent = []string{dataset.WitnessBackend}
	a.torn(t, trial.Valid)
	concluded := a.conclude(t)
	require.Equal(t, trial.Valid, concluded.Verdict, concluded.Reason)

	row := a.row(t)
	require.Equal(t, dataset.WitnessBackend, row.AbsentWitnesses)
	require.NotNil(t, row.BlackoutMs)
	require.LessOrEqual(t, math.Abs(*row.BlackoutMs-*want.BlackoutMs), *row.BlackoutUncertaintyMs+*want.BlackoutUncertaintyMs)
	require.Positive(t, *row.HeartbeatRows)

	domains, err := dataset.All(dataset.ReadDomains(a.file("domains.parquet")))
	require.NoError(t, err)
	var seen []string
	for _, d := range domains {
		seen = append(seen, d.Host+" "+d.State)
	}
	require.Equal(t, []string{"sim-1-a record", "sim-1-b record", "sim-1-b suspended", "sim-1-b running"}, seen)
	clocks, err := dataset.All(dataset.ReadClocks(a.file("clocks.parquet")))
	require.NoError(t, err)
	for _, machine := range []string{"sim-1-a", "sim-1-b", "sim-1-helper-a", "sim-1-helper-b", "sim-1-store", trial.Guest} {
		require.True(t, slices.ContainsFunc(clocks, func(c dataset.Clock) bool { return c.Machine == machine }), machine)
	}
	require.True(t, slices.ContainsFunc(clocks, func(c dataset.Clock) bool { return strings.HasPrefix(c.Reference, "sim-1-helper-") }))
	a.requireCounted(t, clocks)
	events, err := dataset.All(dataset.ReadEvents(a.file("events.parquet")))
	require.NoError(t, err)
	told := slices.IndexFunc(events, func(e dataset.Event) bool { return e.Name == "told" })
	require.GreaterOrEqual(t, told, 0)
	require.Equal(t, "vc-1", events[told].Source)
	require.Equal(t, "event 7", events[told].Detail)
}

// requireCounted checks the hypervisor's counts, on the controller's time base, and their
// uncertainty, including those of the guest, which has left by then.
func (a *attempt) requireCounted(t *testing.T, clocks []dataset.Clock) {
	t.Helper()
	rows, err := dataset.All(dataset.ReadCounters(a.file("counters.parquet")))
	require.NoError(t, err)
	rows = slices.DeleteFunc(rows, func(c dataset.Counter) bool { return c.Host != "sim-1-a" })
	began, _ := a.target.Ref.Timeline.Start(trial.WarmUp)
	at := began.Add(time.Second).UnixNano()
	require.Equal(t, []dataset.Counter{{TsNs: at, Host: "sim-1-a", Device: witness.CPU, Name: "usage_basis_points", Value: 1234},
		{TsNs: at, Host: "sim-1-a", Device: witness.GuestDisk, Name: "read_latency_ms", Value: 5}}, rows)
	i := slices.IndexFunc(clocks, func(c dataset.Clock) bool { return c.Machine == "vc-1" })
	require.GreaterOrEqual(t, i, 0)
	require.Equal(t, counterClock.Ahead.Nanoseconds(), clocks[i].AheadNs)
	require.Equal(t, counterClock.Uncertainty.Nanoseconds(), clocks[i].UncertaintyNs)
}

// TestRecordCannotBeRead: reading the record is retried, and noted as a problem when the
// target has failed.
func TestRecordCannotBeRead(t *testing.T) {
	var broken error
	a := withoutShells(t, &broken).before(t)
	broken = os.ErrDeadlineExceeded
	a.passed(a.target.Ref.Now.Add(5 * time.Second))
	a.enter(trial.Collect)
	_, err := call[activities.Collected](t, a.collector.Collect, activities.CollectInput{Target: a.target})
	wantClass(t, err, fault.Infrastructure)
	require.ErrorContains(t, err, "collect from sim-1-")
	collected := must[activities.Collected](t, a.collector.Collect, activities.CollectInput{Target: a.target, Failed: true})
	require.Len(t, collected.Problems, 2)
	require.Empty(t, collected.Records)
}
