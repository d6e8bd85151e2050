package simulated

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// A pause passes in the Bed's own time: the code that pauses looks for this method.
var _ interface {
	testbed.Bed
	Wait(ctx context.Context, duration time.Duration) error
} = (*Bed)(nil)

// watched fetches what the witness on a machine has seen.
func (p *played) watched(t testing.TB, machine string, faults Faults) (folder string) {
	t.Helper()
	folder = t.TempDir()
	recording, err := Open(lane, p.ref, faults).Witness(p.ref, machine)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := recording.Fetch(t.Context(), folder, nil); err != nil {
		t.Fatal(err)
	}
	return folder
}

func readAll[T any](t testing.TB, folder, name string, read func(io.Reader, func(T) error) error) []T {
	t.Helper()
	var all []T
	err := read(open(t, folder, name), func(one T) error {
		all = append(all, one)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// readings are a host's counters.
func (p *played) readings(t testing.TB, host string, faults Faults) []witness.Reading {
	t.Helper()
	return readAll(t, p.watched(t, host, faults), witness.CountersFile, witness.ReadCounters)
}

// ours converts a host's time to the controller's exactly, which only a model can do.
func ours(p played, host string) func(time.Time) time.Time {
	ahead := Open(lane, p.ref, Faults{}).hostClock(p.ref, host).ahead
	return func(at time.Time) time.Time { return at.Add(-ahead) }
}

// longest returns the longest time between neighbours.
func longest(at []time.Time) time.Duration {
	gap := time.Duration(0)
	for i := 1; i < len(at); i++ {
		gap = max(gap, at[i].Sub(at[i-1]))
	}
	return gap
}

// hypervisorStall returns the time from when the domain stops running at one site to when it runs
// at the other, or at the same site again, and the uncertainty of that time.
func (p *played) hypervisorStall(t testing.TB) (stall, uncertain time.Duration) {
	t.Helper()
	var stopped, runs witness.DomainReading
	for _, site := range []string{p.ref.From(), p.ref.To()} {
		host := lane + "-" + site
		for _, r := range readAll(t, p.watched(t, host, Faults{}), witness.DomainsFile, witness.ReadDomains) {
			r.At = ours(*p, host)(r.At)
			switch {
			case r.State == witness.DomainSuspended || r.State == witness.DomainPaused && site == p.ref.From():
				stopped = r
			case r.State == witness.DomainRunning && r.Spacing > 0:
				runs = r
			}
		}
	}
	if stopped.At.IsZero() != runs.At.IsZero() {
		t.Fatalf("stopped %+v, runs %+v", stopped, runs)
	}
	return runs.At.Sub(stopped.At), stopped.Spacing + runs.Spacing
}

// networkStall is the longest time in which nothing arrived at site A.
func (p *played) networkStall(t testing.TB) time.Duration {
	t.Helper()
	var arrived []time.Time
	for _, beat := range readAll(t, p.watched(t, lane+"-a", Faults{}), witness.HeartbeatsFile, witness.ReadHeartbeats) {
		arrived = append(arrived, beat.Arrived)
	}
	if len(arrived) < 2000 {
		t.Fatalf("%d heartbeats", len(arrived))
	}
	return longest(arrived)
}

// backendStall is the longest time in which the guest's disk completed nothing,
// as both hosts count it.
func (p *played) backendStall(t testing.TB) time.Duration {
	t.Helper()
	var moved []time.Time
	for _, host := range []string{lane + "-a", lane + "-b"} {
		last := int64(0)
		for _, r := range p.readings(t, host, Faults{}) {
			if r.Device == witness.GuestDisk && r.Name == "reads" && r.Value != last {
				last, moved = r.Value, append(moved, ours(*p, host)(r.At))
			}
		}
	}
	slices.SortFunc(moved, time.Time.Compare)
	return longest(moved)
}

// guestStall is the longest time in which the load completed nothing.
func (p *played) guestStall(t testing.TB) time.Duration {
	t.Helper()
	var done []time.Time
	for _, entry := range p.log(t, Faults{}) {
		done = append(done, entry.at)
	}
	return longest(done)
}

// control is a cell without a migration.
func control(c campaign.Cell, control string, hold time.Duration) campaign.Cell {
	c.Control, c.Hold = control, hold
	return c
}

// situation is a cell and a direction.
type situation struct {
	cell      campaign.Cell
	direction string
}

var situations = map[string]situation{
	"iscsi":        {cell(iscsi, "continental", 100, 4), campaign.Outbound},
	"nfs, return":  {cell(nfs, "transatlantic", 100, 4), campaign.Return},
	"drbd":         {cell(replicated, "lan", 100, 4), campaign.Outbound},
	"drbd, return": {cell(replicated, "rtt=60ms,jitter=2ms,loss=0.1%,rate=50mbit", 100, 4), campaign.Return},
	"pause":        {control(cell(iscsi, "lan", 100, 4), campaign.ControlPause, 5*time.Second), campaign.Outbound},
	"pause at B":   {control(cell(nfs, "continental", 100, 4), campaign.ControlPause, 2*time.Second), campaign.Return},
	"none":         {control(cell(iscsi, "lan", 100, 4), campaign.ControlNone, 20*time.Second), campaign.Outbound},
	"none at B":    {control(cell(iscsi, "continental", 100, 4), campaign.ControlNone, 20*time.Second), campaign.Return},
}

func (s situation) play(t testing.TB) (played, *model) {
	t.Helper()
	ref := reference(s.cell)
	ref.Trial.Direction = s.direction
	p := play(t, ref, Faults{})
	m, err := modelOf(p.ref, Faults{})
	if err != nil || p.err != nil {
		t.Fatal(err, p.err)
	}
	return p, m
}

func TestWitnessesSeeOneStall(t *testing.T) {
	for name, s := range situations {
		t.Run(name, func(t *testing.T) {
			p, m := s.play(t)
			stall, ofDisk := time.Duration(0), time.Duration(0)
			if m.schedule.stalls() {
				stall, ofDisk = m.schedule.blackout(), m.schedule.connected.Sub(m.schedule.suspended)
			}
			if s.cell.Control == campaign.ControlPause && (p.paused != s.cell.Hold || stall < p.paused || stall > p.paused+unpauseLate) {
				t.Errorf("a stall of %s, the pause took %s", stall, p.paused)
			}
			if got, uncertain := p.hypervisorStall(t); (got-stall).Abs() > uncertain || uncertain > 50*time.Millisecond {
				t.Errorf("the hypervisor says %s ± %s, the stall is %s", got, uncertain, stall)
			}
			if got := p.networkStall(t); got < stall-m.rtt/2-5*time.Millisecond || got > stall+m.rtt/2+30*time.Millisecond {
				t.Errorf("the network says %s, the stall is %s", got, stall)
			}
			// From the last completion to the first, with four outstanding I/Os.
			if got := p.guestStall(t); got < ofDisk-5*time.Millisecond || got > ofDisk+m.rtt+100*time.Millisecond {
				t.Errorf("the guest says %s, the stall of its disk is %s", got, ofDisk)
			}
			if got := p.backendStall(t); got < ofDisk-witness.DiskInterval || got > ofDisk+m.rtt+100*time.Millisecond+2*witness.DiskInterval {
				t.Errorf("the backend says %s, the stall of the disk is %s", got, ofDisk)
			}
		})
	}
}

// TestExchangesBoundTheGuestsClock: each reading is correct within its uncertainty, and there is
// none while the guest stands still.
func TestExchangesBoundTheGuestsClock(t *testing.T) {
	for name, s := range situations {
		t.Run(name, func(t *testing.T) {
			p, m := s.play(t)
			for _, host := range []string{lane + "-a", lane + "-b"} {
				exchanges := readAll(t, p.watched(t, host, Faults{}), witness.ExchangesFile, witness.ReadExchanges)
				for _, e := range exchanges {
					at := ours(p, host)(e.At)
					if _, runs := m.schedule.where(at); !runs {
						t.Fatalf("%s: %+v, while the guest stands still", host, e)
					}
					truth := time.Duration(m.guest.says(at.UnixNano()) - e.At.UnixNano())
					if (e.Ahead-truth).Abs() > e.Uncertainty || e.Uncertainty <= 0 || e.Uncertainty > m.rtt/2+10*time.Millisecond {
						t.Fatalf("%s: %+v, in truth %s", host, e, truth)
					}
				}
				first, last := exchanges[0], exchanges[len(exchanges)-1]
				lost := time.Duration(0)
				if m.schedule.moved {
					lost = m.schedule.blackout()
				}
				if step := first.Ahead - last.Ahead; (step - lost).Abs() > first.Uncertainty+last.Uncertainty {
					t.Errorf("%s: the guest's clock lost %s, want %s", host, step, lost)
				}
				if want := last.At.Sub(first.At) / witness.ExchangeInterval; len(exchanges) < int(want)*4/5 {
					t.Errorf("%s: %d exchanges, want nearly %d", host, len(exchanges), want)
				}
			}
		})
	}
}

func TestHeartbeatsTellOfTheLedger(t *testing.T) {
	for name, s := range situations {
		t.Run(name, func(t *testing.T) {
			p, m := s.play(t)
			beats := readAll(t, p.watched(t, lane+"-a", Faults{}), witness.HeartbeatsFile, witness.ReadHeartbeats)
			for i := 1; i < len(beats); i++ {
				a, b := beats[i-1], beats[i]
				if b.Sequence <= a.Sequence || b.Sent.Before(a.Sent) || b.Arrived.Before(a.Arrived) || b.Acked < a.Acked || b.Acked > a.Acked+1 {
					t.Fatalf("%+v follows %+v", b, a)
				}
				gap := b.Arrived.Sub(a.Arrived)
				if gap > time.Second && b.Acked != a.Acked {
					t.Errorf("%+v and %+v, and the guest stood still between them", a, b)
				}
			}
			last := beats[len(beats)-1]
			ran := m.schedule.ran(storage.SiteA, p.mark(t, trial.WarmUp), p.end(t)) + m.schedule.ran(storage.SiteB, p.mark(t, trial.WarmUp), p.end(t))
			if !isNear(float64(last.Sequence), float64(ran/witness.HeartbeatInterval), 0.01) {
				t.Errorf("%d heartbeats in %s", last.Sequence, ran)
			}
			if longest, shortest := ran/(200*time.Millisecond), ran/(200*time.Millisecond+2*m.rtt+20*time.Millisecond); last.Acked > uint64(longest) || last.Acked < uint64(shortest)-4 {
				t.Errorf("%d records in %s", last.Acked, ran)
			}
			p.ref.LedgerBytes = 0
			for _, beat := range readAll(t, p.watched(t, lane+"-a", Faults{}), witness.HeartbeatsFile, witness.ReadHeartbeats) {
				if beat.Acked != 0 {
					t.Fatalf("%+v without a ledger", beat)
				}
			}
		})
	}
}

func TestDomainsAreWatchedEachSecond(t *testing.T) {
	for name, s := range situations {
		p, _ := s.play(t)
		for _, host := range []string{lane + "-a", lane + "-b"} {
			watched := []time.Time{}
			last := time.Time{}
			for _, r := range readAll(t, p.watched(t, host, Faults{}), witness.DomainsFile, witness.ReadDomains) {
				if r.At.Before(last) {
					t.Errorf("%s on %s: %+v follows one of %s", name, host, r, last)
				}
				last = r.At
				if r.State == witness.DomainWatch {
					watched = append(watched, r.At)
				}
			}
			seconds := int(p.end(t).Sub(p.mark(t, trial.WarmUp)).Seconds())
			if longest(watched) != time.Second || len(watched) != seconds {
				t.Errorf("%s on %s: watched %d times in %d s, the longest time between is %s", name, host, len(watched), seconds, longest(watched))
			}
		}
	}
}

// TestOtherWitnesses: the store has no guest, and the guest leaves no files.
func TestOtherWitnesses(t *testing.T) {
	p, _ := situations["iscsi"].play(t)
	bed := Open(lane, p.ref, Faults{})
	for machine, want := range map[string][]string{
		lane + "-store":   {witness.CountersFile},
		lane + "-b":       {witness.CountersFile, witness.DomainsFile, witness.HeartbeatsFile, witness.ExchangesFile},
		testbed.GuestName: nil,
	} {
		recording, err := bed.Witness(p.ref, machine)
		if err != nil {
			t.Fatal(err)
		}
		folder := t.TempDir()
		names, err := recording.Fetch(t.Context(), folder, nil)
		if err != nil || !slices.Equal(names, want) {
			t.Errorf("%s: %v, %v", machine, names, err)
		}
		progress, err := recording.Progress(t.Context())
		if err != nil || !progress.Running || progress.Steps < 300 {
			t.Errorf("%s: %+v, %v", machine, progress, err)
		}
		if machine == lane+"-b" {
			if beats := readAll(t, folder, witness.HeartbeatsFile, witness.ReadHeartbeats); len(beats) != 0 {
				t.Errorf("%d heartbeats at site B", len(beats))
			}
		}
	}
}

func TestGuestOfAReturnStartsAtSiteB(t *testing.T) {
	ref := reference(cell(nfs, "lan", 50, 1))
	ref.Trial.Direction = campaign.Return
	held := ref
	held.Trial.Cell = control(held.Trial.Cell, campaign.ControlPause, time.Second)
	for _, phase := range []trial.Phase{trial.Shape, trial.Migrate, trial.After} {
		mark := trial.Mark{Phase: phase, At: ref.Now}
		ref.Timeline, held.Timeline = append(ref.Timeline, mark), append(held.Timeline, mark)
		want := "b"
		if phase == trial.After {
			want = "a"
		}
		if got := where(t, Open(lane, ref, Faults{})); got != want {
			t.Errorf("in phase %s the guest is at %q, not %q", phase, got, want)
		}
		if got := where(t, Open(lane, held, Faults{})); got != "b" {
			t.Errorf("in phase %s the guest without a migration is at %q", phase, got)
		}
	}
	ref.Timeline = nil
	bed := Open(lane, ref, Faults{})
	if _, err := bed.StartGuest(t.Context(), storage.SiteB, testbed.Guest{Disk: provision(t, bed)}); err != nil || where(t, bed) != "b" {
		t.Errorf("started at B it is at %q, %v", where(t, bed), err)
	}
	bed = Open(lane, held, Faults{})
	if _, err := bed.Hypervisor(storage.SiteB).Migrate(t.Context(), orderOf(bed, storage.SiteB)); err == nil {
		t.Error("a guest of a trial without a migration migrated")
	}
}

func TestLedgerIsFoundOnEveryCopy(t *testing.T) {
	for kind, want := range map[string]int{iscsi: 1, nfs: 1, replicated: 3} {
		for _, faults := range []Faults{{}, {LosesWrites: 1}} {
			p := play(t, reference(cell(kind, "lan", 50, 1)), faults)
			bed := Open(lane, p.ref, faults)
			system, err := bed.Storage(kind, nil)
			if err != nil {
				t.Fatal(err)
			}
			copies, err := system.(storage.Copier).Copies(t.Context(), provision(t, bed), storage.SiteB)
			if err != nil || len(copies) != want {
				t.Fatalf("%s: %+v, %v", kind, copies, err)
			}
			losing := 0
			for _, acked := range []uint64{0, 1, 150, 5000} {
				for _, c := range copies {
					report, err := bed.CheckLedger(t.Context(), p.ref, c, acked)
					if err != nil || report.Copy != c.Name || report.Host != c.Host || report.Acked != acked ||
						report.Checked != int64(min(acked, 2048)) || report.Found+report.LostCount != report.Checked || int(report.LostCount) != len(report.Lost) {
						t.Fatalf("%s, %s: %+v, %v", kind, c.Name, report, err)
					}
					for _, number := range report.Lost {
						if number > acked || number+uint64(report.Checked) <= acked {
							t.Errorf("%s: lost %d, which nobody looked for: %+v", c.Name, number, report)
						}
					}
					if report.LostCount > 0 {
						losing++
					}
				}
			}
			if expected := int(3 * faults.LosesWrites); losing != expected {
				t.Errorf("%s, %+v: %d reports with losses, want %d", kind, faults, losing, expected)
			}
		}
	}
}

// BenchmarkWitnesses fetches the files of all witnesses of a migration between two phases of 10
// s.
func BenchmarkWitnesses(b *testing.B) {
	p := play(b, reference(cell(iscsi, "continental", 50, 4)), Faults{})
	bed := Open(lane, p.ref, Faults{})
	folder := b.TempDir()
	for _, machine := range append(bed.HostNames(), testbed.GuestName) {
		b.Run(machine, func(b *testing.B) {
			recording, err := bed.Witness(p.ref, machine)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := recording.Fetch(b.Context(), folder, nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(p.end(b).Sub(p.mark(b, trial.WarmUp)).Seconds(), "trial-s")
		})
	}
}
