//go:build lab

package testbed_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// margin is how much earlier or later than the hypervisor another witness may see
// a stall begin or end on hosts with a busy emulated processor.
const margin = time.Second

// held is a pause of known length, on our clock.
type held struct{ asked, paused, unpausing, unpaused time.Time }

// hold pauses a domain. The time from the end of one command to the beginning of
// the other is the least that the pause lasted.
func hold(ctx context.Context, t *testing.T, h testbed.Hypervisor, domain string, length time.Duration) held {
	t.Helper()
	var p held
	p.asked = time.Now()
	must(t, h.Pause(ctx, domain))
	p.paused = time.Now()
	<-time.After(length)
	p.unpausing = time.Now()
	must(t, h.Unpause(ctx, domain))
	p.unpaused = time.Now()
	t.Logf("paused for %s to %s", p.least(), p.most())
	return p
}

func (p held) least() time.Duration { return p.unpausing.Sub(p.paused) }
func (p held) most() time.Duration  { return p.unpaused.Sub(p.asked) }

// check requires that every record of site A's host shows the pause.
func (p held) check(t *testing.T, folder string, offset clock.Offset) {
	t.Helper()
	domains := read(t, folder, witness.DomainsFile, witness.ReadDomains)
	var from, to witness.DomainReading
	for i, reading := range domains {
		if reading.State == witness.DomainPaused && reading.Spacing > 0 && reading.At.After(p.asked.Add(offset.Ahead-margin)) {
			from = reading
			later := slices.IndexFunc(domains[i:], func(r witness.DomainReading) bool { return r.ID == from.ID && r.State == witness.DomainRunning })
			if later < 0 {
				t.Fatalf("domain %d is paused at %s and never runs again: %+v", from.ID, from.At, domains)
			}
			to = domains[i+later]
			break
		}
	}
	if from.ID == 0 {
		t.Fatalf("no domain is paused: %+v", domains)
	}
	seen, uncertain := to.At.Sub(from.At), max(from.Spacing, to.Spacing)
	t.Logf("hypervisor: paused for %s ± %s, seen %s after the command was given, ± %s",
		seen, uncertain, from.At.Sub(p.asked.Add(offset.Ahead)), offset.Uncertainty)
	if seen < p.least()-uncertain || seen > p.most()+uncertain {
		t.Errorf("the hypervisor's pause is %s ± %s, want %s to %s", seen, uncertain, p.least(), p.most())
	}

	var arrivals []time.Time
	for _, beat := range read(t, folder, witness.HeartbeatsFile, witness.ReadHeartbeats) {
		arrivals = append(arrivals, beat.Arrived)
	}
	p.silent(t, "heartbeats", arrivals, from.At, to.At)
	p.silent(t, "backend", diskActivity(t, folder), from.At, to.At)
}

// silent requires that nothing happened while the domain was paused. The silence
// may begin as early as the command was given, and end later than the pause: on a
// host with one processor, the toolstack keeps the processor from the guest.
func (p held) silent(t *testing.T, what string, at []time.Time, from, to time.Time) {
	t.Helper()
	slices.SortFunc(at, time.Time.Compare)
	var gap time.Duration
	var began time.Time
	for i := range len(at) - 1 {
		if at[i+1].After(from) && at[i].Before(to) && at[i+1].Sub(at[i]) > gap {
			began, gap = at[i], at[i+1].Sub(at[i])
		}
	}
	t.Logf("%s: silent for %s, from %s after the pause began", what, gap, began.Sub(from))
	if pause := to.Sub(from); gap < pause-margin || began.After(from.Add(margin)) {
		t.Errorf("%s: silent for %s, from %s after the beginning of a pause of %s", what, gap, began.Sub(from), pause)
	}
}

// diskActivity is when the guest's disk was seen to complete I/Os.
func diskActivity(t *testing.T, folder string) (at []time.Time) {
	t.Helper()
	last := map[string]int64{}
	for _, r := range read(t, folder, witness.CountersFile, witness.ReadCounters) {
		if r.Device != witness.GuestDisk || r.Name != "reads" && r.Name != "writes" {
			continue
		}
		if r.Value != last[r.Name] && (len(at) == 0 || !at[len(at)-1].Equal(r.At)) {
			at = append(at, r.At)
		}
		last[r.Name] = r.Value
	}
	return at
}

// read reads one of a witness's files.
func read[R any](t *testing.T, folder, file string, readAll func(io.Reader, func(R) error) error) (all []R) {
	t.Helper()
	input, err := os.Open(filepath.Join(folder, file))
	must(t, err)
	defer input.Close()
	must(t, readAll(input, func(r R) error {
		all = append(all, r)
		return nil
	}))
	return all
}

// checkMigration requires that the domain was suspended at A, and then ran at B.
func checkMigration(t *testing.T, folderA, folderB string, a, b clock.Offset, migration hypervisor.Migration) {
	t.Helper()
	last := func(folder, state string) witness.DomainReading {
		domains := read(t, folder, witness.DomainsFile, witness.ReadDomains)
		for _, reading := range slices.Backward(domains) {
			if reading.State == state {
				return reading
			}
		}
		t.Fatalf("%s has no domain that is %s: %+v", folder, state, domains)
		return witness.DomainReading{}
	}
	suspended, gone := last(folderA, witness.DomainSuspended), last(folderA, witness.DomainGone)
	paused, running := last(folderB, witness.DomainPaused), last(folderB, witness.DomainRunning)
	from, to := suspended.At.Add(-a.Ahead), running.At.Add(-b.Ahead)
	t.Logf("hypervisors: blackout of %s from %s, ± %s; pre-copy %s, gone from A after %s; toolstack:\n%s",
		to.Sub(from), from.UTC().Format(time.StampMilli), suspended.Spacing+running.Spacing+a.Uncertainty+b.Uncertainty,
		from.Sub(migration.Started), gone.At.Sub(suspended.At), migration.Log)
	if !suspended.At.Before(gone.At) || !paused.At.Before(running.At) || !from.Before(to) ||
		from.Before(migration.Started) || to.After(migration.Finished.Add(margin)) {
		t.Errorf("suspended at A %+v, gone %+v, paused at B %+v, running %+v in a migration from %s to %s",
			suspended, gone, paused, running, migration.Started, migration.Finished)
	}
	for folder, name := range map[string]string{folderA: "A", folderB: "B"} {
		var longest time.Duration
		for _, reading := range read(t, folder, witness.DomainsFile, witness.ReadDomains) {
			if reading.State == witness.DomainWatch {
				longest = max(longest, reading.Spacing)
			}
		}
		t.Logf("longest time between looks at %s: %s", name, longest)
	}
}

// checkCounters reads the counters: all that the host has, and those of the
// traffic.
func checkCounters(t *testing.T, tb *testbed.Testbed, folder, host string) {
	t.Helper()
	first, last := map[string]int64{}, map[string]int64{}
	var end time.Time
	var samples int
	for _, r := range read(t, folder, witness.CountersFile, witness.ReadCounters) {
		key := r.Device + " " + r.Name
		if _, known := first[key]; !known {
			first[key] = r.Value
		}
		last[key] = r.Value
		if !r.At.Equal(end) {
			end = r.At
			samples++
		}
	}
	if last["memory free_bytes"] == 0 {
		t.Errorf("%s: no free memory", host)
	}
	want := []string{"cpu idle_ticks", "test-net rx_bytes", "test-net tx_bytes"}
	if host == tb.Inventory.WAN.Host {
		want = append(want, "wan rx_bytes", "wan tx_bytes", "wan migration_to_b_bytes", "wan iscsi_to_b_bytes", "wan heartbeat_to_a_bytes", "target commands")
	} else {
		want = append(want, "guest-disk writes")
	}
	for _, key := range want {
		if growth := last[key] - first[key]; growth == 0 {
			t.Errorf("%s: %s did not change from %d", host, key, first[key])
		}
	}
	busy := last["cpu user_ticks"] + last["cpu system_ticks"] - first["cpu user_ticks"] - first["cpu system_ticks"]
	t.Logf("%s: %d samples, %d ticks busy, %d idle", host, samples, busy, last["cpu idle_ticks"]-first["cpu idle_ticks"])
}

// acked is the newest record that site A's host was told of.
func acked(t *testing.T, folder string) (newest uint64) {
	t.Helper()
	for _, beat := range read(t, folder, witness.HeartbeatsFile, witness.ReadHeartbeats) {
		newest = max(newest, beat.Acked)
	}
	return newest
}

// checkLedger reads the ledger from every copy. Only the named copies may lack
// records.
func checkLedger(ctx context.Context, t *testing.T, tb *testbed.Testbed, ref trial.Ref, copies []storage.Copy, acked uint64, broken []string) {
	t.Helper()
	if acked == 0 || len(copies) == 0 {
		t.Fatalf("nothing to check: %d records on %v", acked, copies)
	}
	for _, copied := range copies {
		started := time.Now()
		report, err := tb.CheckLedger(ctx, ref, copied, acked)
		must(t, err)
		t.Logf("ledger: %+v, in %s", report, time.Since(started).Round(time.Millisecond))
		if lost := slices.Contains(broken, copied.Name); report.Checked == 0 || lost != (report.LostCount > 0) ||
			report.Found+report.LostCount != report.Checked || report.Copy != copied.Name || report.Host != copied.Host {
			t.Errorf("%s: %+v, want lost records: %t", copied.Name, report, lost)
		}
	}
}

// hypervisorEvidence is what each hypervisor leaves at both sites of a migration,
// and guestEvidence is what it knows of the guest where the guest runs.
var (
	hypervisorEvidence = map[string][]string{
		"xen": {"domains.txt", "xen.txt", "toolstack.txt"},
		"kvm": {"qemu.log", "kvm.txt"},
	}
	guestEvidence = map[string]string{"xen": "domain.txt", "kvm": "domains.xml"}
)

// checkEvidence requires the files from which a failure would be explained.
func checkEvidence(ctx context.Context, t *testing.T, tb *testbed.Testbed) {
	t.Helper()
	folder := t.TempDir()
	started := time.Now()
	must(t, tb.Evidence(ctx, folder))
	t.Logf("evidence in %s", time.Since(started).Round(time.Millisecond))
	if missing, err := os.ReadFile(filepath.Join(folder, "missing.txt")); err == nil {
		t.Logf("missing:\n%s", missing)
	}
	for _, host := range hosts(tb) {
		want := []string{"dmesg.txt", "qdiscs.txt", "interfaces.txt"}
		if tb.Inventory.IsSite(host) {
			want = append(want, "iscsi.txt")
			want = append(want, hypervisorEvidence[tb.Inventory.Hypervisor]...)
		}
		if host == tb.Inventory.Sites.B { // where the guest is now
			want = append(want, guestEvidence[tb.Inventory.Hypervisor])
		}
		for _, file := range want {
			if info, err := os.Stat(filepath.Join(folder, host, file)); err != nil || info.Size() == 0 {
				t.Errorf("evidence of %s: %v", host, err)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(folder, testbed.GuestName, "mounts.txt")); err != nil {
		t.Errorf("evidence of the guest: %v", err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*", "*"))
	must(t, err)
	for _, file := range files {
		info, err := os.Stat(file)
		must(t, err)
		fmt.Fprintf(t.Output(), "%8d %s\n", info.Size(), file[len(folder)+1:])
	}
}
