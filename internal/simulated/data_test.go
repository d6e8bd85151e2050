package simulated

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/load"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
)

// contents are the raw files of a trial.
func contents(t *testing.T, ref trial.Ref) []byte {
	t.Helper()
	bed := Open(lane, ref, Faults{})
	recording, err := bed.Load(ref)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if _, err := recording.Fetch(t.Context(), folder, nil); err != nil {
		t.Fatal(err)
	}
	if recording, err = bed.Witness(ref, bed.HostNames()[0]); err != nil {
		t.Fatal(err)
	}
	names, err := recording.Fetch(t.Context(), folder, nil)
	if err != nil || len(names) != 4 {
		t.Fatalf("fetched %v, %v", names, err)
	}
	if there, err := filepath.Glob(filepath.Join(folder, "*")); err != nil || len(there) != len(names)+2 {
		t.Errorf("there are %v, %v", there, err)
	}
	var all []byte
	for _, name := range append(names, load.LogFile, load.ResultFile) {
		text, err := io.ReadAll(open(t, folder, name))
		if err != nil || len(text) == 0 {
			t.Fatalf("%s has %d bytes, %v", name, len(text), err)
		}
		all = append(all, text...)
	}
	return all
}

func TestSameReferenceGivesTheSameBytes(t *testing.T) {
	ref := play(t, reference(cell(replicated, "rtt=60ms,jitter=4ms,loss=1%,rate=50mbit", 30, 4)), Faults{}).ref
	first := contents(t, ref)
	if !bytes.Equal(first, contents(t, ref)) {
		t.Error("the same reference gave other bytes")
	}
	other := ref
	other.Trial.Seed++
	if bytes.Equal(first, contents(t, other)) {
		t.Error("another seed gave the same bytes")
	}
	other = ref
	other.Attempt++
	if bytes.Equal(first, contents(t, other)) {
		t.Error("another attempt gave the same bytes")
	}
}

func TestIOPSFollowTheFormula(t *testing.T) {
	mixed := cell(iscsi, "transatlantic", 67, 4)
	mixed.Access.Lines = []campaign.AccessLine{
		{SizeBytes: 4096, SharePercent: 60, ReadPercent: 80, RandomPercent: 100},
		{SizeBytes: 65536, SharePercent: 40, ReadPercent: 20}}
	for name, c := range map[string]campaign.Cell{
		"iscsi lan":            cell(iscsi, "lan", 50, 1),
		"iscsi continental":    cell(iscsi, "continental", 50, 1),
		"nfs transatlantic":    cell(nfs, "transatlantic", 0, 4),
		"nfs transpacific":     cell(nfs, "transpacific", 100, 8),
		"drbd reads":           cell(replicated, "transpacific", 100, 1),
		"drbd writes":          cell(replicated, "continental", 0, 2),
		"iscsi, sizes":         mixed,
		"more than a disk can": cell(iscsi, "lan", 100, 64),
	} {
		t.Run(name, func(t *testing.T) {
			p := play(t, reference(c), Faults{})
			m, err := modelOf(p.ref, Faults{})
			if err != nil {
				t.Fatal(err)
			}
			log := p.log(t, Faults{})
			before, _ := between(log, all, p.mark(t, trial.WarmUp), p.mark(t, trial.Migrate))
			after, _ := between(log, all, p.mark(t, trial.After), p.mark(t, trial.Collect))
			atA := m.iops(conditions{site: storage.SiteA, protocol: "C"})
			atB := m.iops(conditions{site: storage.SiteB, protocol: "C"})
			if !isNear(before, atA, 0.1) || !isNear(after, atB, 0.1) {
				t.Errorf("%.1f IOPS at A, the formula %.1f; %.1f at B, the formula %.1f", before, atA, after, atB)
			}
		})
	}
}

func TestSharedStorageWaitsForTheRoundTripAtSiteB(t *testing.T) {
	for kind, localMs := range map[string]float64{iscsi: 5.7, nfs: 6.75} {
		for profile, rttMs := range map[string]float64{"lan": 1, "continental": 31, "transatlantic": 91, "transpacific": 161} {
			p := play(t, reference(cell(kind, profile, 50, 1)), Faults{})
			log := p.log(t, Faults{})
			_, before := between(log, all, p.mark(t, trial.Before), p.mark(t, trial.Migrate))
			iops, after := between(log, all, p.mark(t, trial.After), p.mark(t, trial.Collect))
			if !isNear(before, localMs, 0.05) || !isNear(after, localMs+rttMs, 0.05) || !isNear(iops, 1000/(localMs+rttMs), 0.05) {
				t.Errorf("%s over %s: %.1f ms at A, %.1f ms and %.1f IOPS at B", kind, profile, before, after, iops)
			}
		}
	}
}

func TestDRBDReadsAreLocalAndWritesFollowTheProtocol(t *testing.T) {
	for _, test := range []struct {
		protocol         string
		readMs, writesMs float64 // mean
	}{{"", 4.7, 99.8}, {"C", 4.7, 99.8}, {"B", 4.7, 96.7}, {"A", 4.7, 4.7}} {
		c := cell(replicated, "transatlantic", 50, 1)
		c.DRBDProtocol = test.protocol
		p := play(t, reference(c), Faults{})
		log := p.log(t, Faults{})
		for _, phase := range []struct{ from, to trial.Phase }{{trial.Before, trial.Migrate}, {trial.After, trial.Collect}} {
			from, to := p.mark(t, phase.from), p.mark(t, phase.to)
			_, reads := between(log, onlyReads, from, to)
			_, writes := between(log, onlyWrites, from, to)
			if !isNear(reads, test.readMs, 0.1) || !isNear(writes, test.writesMs, 0.1) {
				t.Errorf("protocol %q, %s: reads take %.1f ms, writes %.1f ms", test.protocol, phase.from, reads, writes)
			}
		}
	}
}

func TestBlackoutIsAGapOnTheControllersTime(t *testing.T) {
	for _, kind := range []string{iscsi, nfs, replicated} {
		p := play(t, reference(cell(kind, "continental", 50, 4)), Faults{})
		m, err := modelOf(p.ref, Faults{})
		if err != nil {
			t.Fatal(err)
		}
		blackout := m.schedule.blackout()
		reconnect := m.schedule.connected.Sub(m.schedule.resumed)
		if blackout < 200*time.Millisecond || blackout > 5*time.Second {
			t.Errorf("%s: a blackout of %s", kind, blackout)
		}
		log := p.log(t, Faults{})
		longest, guestLongest, slowest := time.Duration(0), time.Duration(0), time.Duration(0)
		var at time.Time
		for i := 1; i < len(log); i++ {
			if gap := log[i].at.Sub(log[i-1].at); gap > longest {
				longest, at = gap, log[i].at
			}
			slowest = max(slowest, time.Duration(log[i].LatencyNs))
			guestLongest = max(guestLongest, time.Duration(log[i].GuestTimeNs-log[i-1].GuestTimeNs))
		}
		// One I/O's time at either end, and the log's resolution of a millisecond.
		if gap := blackout + reconnect; longest < gap-5*time.Millisecond || longest > gap+100*time.Millisecond {
			t.Errorf("%s: the longest gap is %s, the blackout %s, the disk's connection %s", kind, longest, blackout, reconnect)
		}
		if at.Before(p.migration.Started) || at.After(p.migration.Finished.Add(time.Second)) {
			t.Errorf("%s: the gap ends at %s, the migration is from %s to %s", kind, at, p.migration.Started, p.migration.Finished)
		}
		if guestLongest < reconnect-2*time.Millisecond || guestLongest > reconnect+100*time.Millisecond {
			t.Errorf("%s: the guest's own clock shows a gap of %s, the disk's connection took %s, the blackout %s", kind, guestLongest, reconnect, blackout)
		}
		if slowest < reconnect || slowest > reconnect+100*time.Millisecond {
			t.Errorf("%s: the slowest I/O took %s on the guest's clock, the disk's connection %s", kind, slowest, reconnect)
		}
		before, after := p.guestClocks(t, Faults{})
		if lost := before - after; lost < blackout-time.Millisecond || lost > blackout+time.Millisecond {
			t.Errorf("%s: the guest's clock lost %s, the blackout is %s", kind, lost, blackout)
		}
	}
}

func TestMigrationFitsBetweenItsMarks(t *testing.T) {
	p := play(t, reference(cell(iscsi, "lan", 50, 1)), Faults{})
	start := p.mark(t, trial.Migrate)
	for i, mark := range p.ref.Timeline {
		if mark.Phase == trial.After {
			p.ref.Timeline[i].At = start.Add(time.Second)
		}
	}
	m, err := modelOf(p.ref, Faults{})
	if err != nil {
		t.Fatal(err)
	}
	s := m.schedule
	if !s.started.After(start) || !s.suspended.After(s.started) || !s.resumed.After(s.suspended) || s.finished.After(start.Add(time.Second)) {
		t.Errorf("in the second after %s: %+v", start, s)
	}
}

func TestEntriesAreWhatWasAskedFor(t *testing.T) {
	c := cell(nfs, "lan", 0, 3)
	c.Access.Lines = []campaign.AccessLine{
		{SizeBytes: 512, SharePercent: 30, ReadPercent: 100, RandomPercent: 100},
		{SizeBytes: 65536, SharePercent: 70, ReadPercent: 0, RandomPercent: 100, AlignBytes: 4096}}
	p := play(t, reference(c), Faults{})
	log := p.log(t, Faults{})
	small := 0
	for i, entry := range log {
		if entry.OffsetBytes < 0 || entry.OffsetBytes+int64(entry.SizeBytes) > diskBytes {
			t.Fatalf("%+v is not on the disk", entry)
		}
		isSmall := entry.SizeBytes == 512
		if isSmall == entry.Write || !isSmall && entry.OffsetBytes%4096 != 0 {
			t.Fatalf("%+v was not asked for", entry)
		}
		if isSmall {
			small++
		}
		if entry.LatencyNs <= 0 || i > 0 && entry.at.Before(log[i-1].at.Add(-2*time.Millisecond)) {
			t.Fatalf("%+v follows %+v", entry, log[i-1])
		}
	}
	if share := float64(small) / float64(len(log)); !isNear(share, 0.3, 0.1) {
		t.Errorf("%.2f of %d are small", share, len(log))
	}
	first, last := log[0].at, log[len(log)-1].at
	if from := p.mark(t, trial.WarmUp); first.Before(from) || first.After(from.Add(100*time.Millisecond)) {
		t.Errorf("the log begins at %s, the warm-up at %s", first, from)
	}
	if to := p.end(t); last.After(to.Add(time.Millisecond)) || last.Before(to.Add(-100*time.Millisecond)) {
		t.Errorf("the log ends at %s, what records at %s", last, to)
	}
}

func TestSequentialIOsFollowEachOther(t *testing.T) {
	c := cell(iscsi, "lan", 0, 1)
	c.Access.Lines[0].RandomPercent = 0
	p := play(t, reference(c), Faults{})
	next := int64(0)
	for _, entry := range p.log(t, Faults{}) {
		if entry.OffsetBytes != next%diskBytes {
			t.Fatalf("%+v, want offset %d", entry, next%diskBytes)
		}
		next += int64(entry.SizeBytes)
	}
}

func TestProgressCountsTheIOs(t *testing.T) {
	ref := reference(cell(iscsi, "lan", 50, 1))
	ref.Timeline = trial.Timeline{{Phase: trial.WarmUp, At: began}}
	ref.Now = began.Add(10 * time.Second)
	bed := Open(lane, ref, Faults{})
	recording, err := bed.Load(ref)
	if err != nil {
		t.Fatal(err)
	}
	first, err := recording.Progress(t.Context())
	if err != nil || !first.Running || first.IOPS != 0 || !isNear(float64(first.Steps), 1750, 0.1) {
		t.Errorf("%+v, %v", first, err)
	}
	if err := bed.spend(t.Context(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	second, err := recording.Progress(t.Context())
	if err != nil || second.Steps <= first.Steps || !isNear(second.IOPS, 174, 0.1) || !isNear(second.MeanLatencyMs, 5.7, 0.1) {
		t.Errorf("%+v, %v", second, err)
	}
	if err := recording.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if third, err := recording.Progress(t.Context()); err != nil || third.Running || third.Problem != "" {
		t.Errorf("stopped: %+v, %v", third, err)
	}
}

func TestFaults(t *testing.T) {
	ref := reference(cell(iscsi, "continental", 50, 1))

	t.Run("the migration fails, and fails again", func(t *testing.T) {
		faults := Faults{MigrationFails: 1}
		p := play(t, ref, faults)
		var failed *hypervisor.MigrationError
		if !errors.As(p.err, &failed) || failed.Log == "" {
			t.Fatalf("%v", p.err)
		}
		if at := where(t, Open(lane, p.ref, faults)); at != "a" {
			t.Errorf("the guest is at %q", at)
		}
		log := p.log(t, faults)
		for i := 1; i < len(log); i++ {
			if gap := log[i].at.Sub(log[i-1].at); gap > 200*time.Millisecond {
				t.Errorf("a gap of %s", gap)
			}
		}
		if again := play(t, ref, faults); again.err == nil || again.ref.Now != p.ref.Now {
			t.Errorf("again: %v, at %s", again.err, again.ref.Now)
		}
	})
	t.Run("provisioning fails in the first attempt", func(t *testing.T) {
		for attempt := 1; attempt <= 2; attempt++ {
			tried := ref
			tried.Attempt = attempt
			system, err := Open(lane, tried, Faults{ProvisionFails: 1}).Storage(iscsi, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = system.Provision(t.Context(), storage.Spec{Name: "test", SizeBytes: 64 << 20}, storage.SiteA)
			if (err != nil) != (attempt == 1) {
				t.Errorf("attempt %d: %v", attempt, err)
			}
		}
	})
	t.Run("the round trip is outside the tolerance in the first attempt", func(t *testing.T) {
		for attempt := 1; attempt <= 2; attempt++ {
			tried := ref
			tried.Attempt = attempt
			certificate, err := Open(lane, tried, Faults{RTTOutside: 1}).Certify(t.Context(), tried)
			if err != nil || (certificate.BToA.Ping.Min > 100*time.Millisecond) != (attempt == 1) {
				t.Errorf("attempt %d: %+v, %v", attempt, certificate, err)
			}
		}
	})
	t.Run("the load ends by itself", func(t *testing.T) {
		faults := Faults{LoadEnds: 1}
		p := play(t, ref, faults)
		recording, err := Open(lane, p.ref, faults).Load(p.ref)
		if err != nil {
			t.Fatal(err)
		}
		progress, err := recording.Progress(t.Context())
		if err != nil || progress.Running || progress.Problem == "" {
			t.Errorf("%+v, %v", progress, err)
		}
		log := p.log(t, faults)
		if end := log[len(log)-1].at; end.After(p.mark(t, trial.WarmUp).Add(loadEndsMax)) {
			t.Errorf("the log ends at %s", end)
		}
	})
	t.Run("as often as asked for", func(t *testing.T) {
		failed := 0
		for seed := range uint64(1000) {
			tried := ref
			tried.Trial.Seed = seed
			if (Faults{MigrationFails: 0.3}).migrationFails(tried) {
				failed++
			}
		}
		if failed < 250 || failed > 350 {
			t.Errorf("%d of 1000 failed, asked for were 30 %%", failed)
		}
	})
}

// BenchmarkFetch makes and writes the log of 3,000 I/Os.
func BenchmarkFetch(b *testing.B) {
	ref := reference(cell(nfs, "lan", 50, 1))
	ref.Timeline = trial.Timeline{{Phase: trial.WarmUp, At: began}}
	ref.Now = began.Add(20_290 * time.Millisecond)
	folder := b.TempDir()
	recording, err := Open(lane, ref, Faults{}).Load(ref)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := recording.Fetch(b.Context(), folder, nil); err != nil {
			b.Fatal(err)
		}
	}
	fresh, err := Open(lane, ref, Faults{}).Load(ref) // whose Bed has its time
	if err != nil {
		b.Fatal(err)
	}
	counted, err := fresh.Progress(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(counted.Steps), "I/Os")
}

// BenchmarkOperations makes 3,000 I/Os and writes nothing.
func BenchmarkOperations(b *testing.B) {
	ref := reference(cell(nfs, "lan", 50, 1))
	ref.Timeline = trial.Timeline{{Phase: trial.WarmUp, At: began}}
	m, err := modelOf(ref, Faults{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		count := 0
		for range m.operations(began, began.Add(time.Minute)) {
			if count++; count == 3000 {
				break
			}
		}
	}
}
