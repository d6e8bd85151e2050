//go:build lab

package testbed_test

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/clock"
	"heliotrope/internal/load"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

const (
	// engineTime is how long each engine is measured.
	engineTime = 20 * time.Second
	// overflowTime is how long to run a load whose log does not fit into its limit.
	overflowTime = 3 * time.Minute
)

// bothDo are specifications that either engine runs exactly.
var bothDo = []spec.Access{
	{Name: "4 KiB at random", Outstanding: 1, Lines: []spec.Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 67, RandomPercent: 100, AlignBytes: 4096}}},
	{Name: "64 KiB in order", Outstanding: 4, Lines: []spec.Line{{SizeBytes: 65536, SharePercent: 100, ReadPercent: 100}}},
	{Name: "two sizes", Outstanding: 8, Lines: []spec.Line{
		{SizeBytes: 4096, SharePercent: 50, ReadPercent: 60, RandomPercent: 100},
		{SizeBytes: 8192, SharePercent: 50, ReadPercent: 40, RandomPercent: 100}}},
	{Name: "half of it at random", Outstanding: 1, Lines: []spec.Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 100, RandomPercent: 50, AlignBytes: 4096}}},
}

// TestLabEngines runs both engines on the same specifications, one after the other
// in one guest on one disk, while all witnesses watch. It requires what must not
// depend on their speed: the log of each shows that it follows the specification.
// Their costs and speeds are only printed.
func TestLabEngines(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	tb := open(t)
	install(ctx, t, tb, hosts(tb)...)
	engineGuest(ctx, t, tb)
	for number, access := range bothDo {
		t.Run(access.Name, func(t *testing.T) {
			runs := map[string]engineRun{}
			for i, engine := range []string{spec.EngineOwn, spec.EngineFio} {
				access.Engine = engine
				one := runEngine(ctx, t, tb, engineRef(2*number+i+1, access))
				checkSpec(t, access, one)
				one.print(t)
				runs[engine] = one
			}
			own, fio := runs[spec.EngineOwn], runs[spec.EngineFio]
			more := func(a, b float64) float64 { return 100 * (a/b - 1) }
			t.Logf("ours against fio: IOPS %+.1f %%, p50 %+.1f %%, p99 %+.1f %%, p99.9 %+.1f %%, CPU an I/O %+.1f %%", more(own.iops(), fio.iops()),
				more(own.percentile(500), fio.percentile(500)), more(own.percentile(990), fio.percentile(990)), more(own.percentile(999), fio.percentile(999)),
				more(own.cpuPerIO(), fio.cpuPerIO()))
		})
	}
}

// engineGuest is a guest at site A on a disk that is filled, with the witness in it.
func engineGuest(ctx context.Context, t testing.TB, tb *testbed.Testbed) {
	t.Helper()
	system, err := tb.Storage("iscsi", nil)
	must(t, err)
	disk, err := system.Provision(ctx, storage.Spec{Name: "disk", SizeBytes: diskBytes, Fill: storage.Fill{Seed: 42, Bytes: diskBytes}}, storage.SiteA)
	must(t, err)
	_, err = tb.StartGuest(ctx, storage.SiteA, testbed.Guest{Disk: disk})
	must(t, err)
	must(t, tb.InstallWitness(ctx, testbed.GuestName))
}

// engineRef is a trial without a ledger, because a ledger writes to the disk itself.
func engineRef(sequence int, access spec.Access) trial.Ref {
	return trial.Ref{Campaign: "engines", Attempt: 1, DiskBytes: diskBytes,
		Trial: campaign.Trial{Sequence: sequence, Seed: 42, Cell: campaign.Cell{Storage: "iscsi", Access: access, WAN: "lan"}}}
}

// engineRun is what one load did, and what it cost the guest.
type engineRun struct {
	entries  []iolog.Entry // all of them, in the order of their completion
	times    []int64       // response times of those in the window, ns, sorted
	window   time.Duration
	logBytes int64
	load     usage // of its processes, in about that window
	witness  usage
	method   string             // of our own engine
	byFio    map[string]float64 // fio's own percentiles of its reads, ns
}

// runEngine runs one load with all witnesses, and reads its log as a trial does.
func runEngine(ctx context.Context, t *testing.T, tb *testbed.Testbed, ref trial.Ref) engineRun {
	t.Helper()
	guestLoad, err := tb.Load(ref)
	must(t, err)
	all := []record.Recording{guestLoad}
	for _, name := range append([]string{testbed.GuestName}, hosts(tb)...) {
		watching, err := tb.Witness(ref, name)
		must(t, err)
		all = append(all, watching)
	}
	for _, recording := range slices.Backward(all) {
		must(t, recording.Start(ctx))
	}
	offset, err := tb.Clock(ctx, testbed.GuestName)
	must(t, err)
	folders := []string{tb.LoadDir(ref), tb.WitnessDir(ref, testbed.GuestName)}
	first := look(ctx, t, tb, folders)
	from := time.Now()
	<-time.After(engineTime)
	to := time.Now()
	last := look(ctx, t, tb, folders)
	for _, recording := range all {
		must(t, recording.Stop(ctx))
	}
	folder := filepath.Join(t.TempDir(), "load")
	_, err = guestLoad.Fetch(ctx, folder, nil)
	must(t, err)
	for _, recording := range all { // the guest's memory is small
		must(t, recording.Remove(ctx))
	}
	run := engineRun{window: to.Sub(from), load: last.since(first, folders[0]), witness: last.since(first, folders[1])}
	run.read(t, tb, ref, folder, from, offset)
	return run
}

// read reads the log, which must be complete.
func (r *engineRun) read(t *testing.T, tb *testbed.Testbed, ref trial.Ref, folder string, from time.Time, offset clock.Offset) {
	t.Helper()
	config, err := tb.LoadConfig(ref)
	must(t, err)
	outcome, err := load.ResultOf(folder, config.Access)
	must(t, err)
	begin := from.Add(offset.Ahead).UnixNano()
	account, err := load.Read(folder, nil, config.Replay(), from, func(e iolog.Entry) error {
		r.entries = append(r.entries, e)
		if e.CompletedNs >= begin && e.CompletedNs < begin+int64(r.window) {
			r.times = append(r.times, e.CompletedNs-e.SubmittedNs)
		}
		return nil
	})
	must(t, err)
	slices.Sort(r.times)
	if len(r.times) == 0 {
		t.Fatal("no I/O has completed")
	}
	r.method = outcome.Method
	if config.Access.Engine == spec.EngineFio {
		r.byFio = fioPercentiles(t, filepath.Join(folder, load.ResultFile))
	}
	r.logBytes = logBytes(t, folder)
	if outcome.Errors != 0 || outcome.Problem != "" || outcome.Pending != 0 || account.Errors != 0 || len(account.Missing) > 0 ||
		account.Detail != iolog.DetailAll || outcome.IOs != int64(len(r.entries)) || account.IOs != outcome.IOs {
		t.Errorf("%d I/Os in its log; its engine says %+v, its log %+v", len(r.entries), outcome, account)
	}
}

// BenchmarkLabEngineMemory runs our own engine at the highest rate that the guest's
// disk allows, for some minutes and with a log that does not fit: after some time
// the log has only histograms. It prints how much of the guest's memory the engine
// used.
func BenchmarkLabEngineMemory(b *testing.B) {
	ctx := b.Context()
	tb := open(b)
	install(ctx, b, tb, hosts(tb)...)
	engineGuest(ctx, b, tb)
	ref := engineRef(1, spec.Access{Name: "fast", Outstanding: 32, Lines: []spec.Line{{SizeBytes: 512, SharePercent: 100, ReadPercent: 100}}})
	config, err := tb.LoadConfig(ref)
	must(b, err)
	config.Budget, config.Page = iolog.Budget{KeepBytes: 128 << 10}, "" // nobody takes blocks
	own, err := load.New(tb.Guest(), filepath.Join(tb.ProgramDir(testbed.GuestName), "heliotrope-witness"), tb.LoadDir(ref), config)
	must(b, err)
	for b.Loop() {
		must(b, own.Start(ctx))
		<-time.After(overflowTime)
		used := look(ctx, b, tb, []string{tb.LoadDir(ref)})
		must(b, own.Stop(ctx))
		folder := filepath.Join(b.TempDir(), "load")
		_, err = own.Fetch(ctx, folder, nil)
		must(b, err)
		must(b, own.Remove(ctx))
		entries := 0
		account, err := load.Read(folder, nil, config.Replay(), time.Now(), func(iolog.Entry) error { entries++; return nil })
		must(b, err)
		b.ReportMetric(float64(used.residentMost[tb.LoadDir(ref)])/(1<<20), "MiB-resident")
		b.Logf("%d I/Os in %s, of which %d have entries and the others are in %d histograms; a log of %d bytes; %.1f MiB resident at most",
			account.IOs, overflowTime, entries, len(account.Histograms), logBytes(b, folder), float64(used.residentMost[tb.LoadDir(ref)])/(1<<20))
	}
}
