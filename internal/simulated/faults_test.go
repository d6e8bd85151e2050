package simulated

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/clock"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

func TestWitnessDies(t *testing.T) {
	faults := Faults{WitnessDies: 1}
	died := map[string]bool{}
	for seed := range uint64(12) {
		ref := reference(cell(iscsi, "lan", 50, 1))
		ref.Trial.Seed = seed
		p := play(t, ref, faults)
		dead := 0
		for _, host := range Open(lane, p.ref, faults).HostNames() {
			recording, err := Open(lane, p.ref, faults).Witness(p.ref, host)
			if err != nil {
				t.Fatal(err)
			}
			progress, err := recording.Progress(t.Context())
			if err != nil || progress.Running != (progress.Problem == "") {
				t.Fatalf("%+v, %v", progress, err)
			}
			readings := p.readings(t, host, faults)
			end := ours(p, host)(readings[len(readings)-1].At)
			if ended := end.Before(p.mark(t, trial.Before).Add(time.Second)); ended == progress.Running {
				t.Errorf("%s: %+v, and its counters end at %s", host, progress, end)
			}
			if !progress.Running {
				dead++
				died[host] = true
			}
		}
		if dead != 1 {
			t.Errorf("seed %d: %d witnesses died", seed, dead)
		}
		p.ref.Attempt = 2
		if _, _, dies := faults.witnessDies(p.ref); dies {
			t.Error("one died in the second attempt")
		}
	}
	if len(died) != 3 {
		t.Errorf("only those of %v ever die", died)
	}
}

// measure measures a clock.
func (p *played) measure(t testing.TB, name string, timeline trial.Timeline, faults Faults) clock.Offset {
	t.Helper()
	ref := p.ref
	ref.Timeline = timeline
	if len(timeline) > 0 {
		ref.Now = timeline[len(timeline)-1].At
	}
	offset, err := Open(lane, ref, faults).Clock(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return offset
}

func TestClockJumps(t *testing.T) {
	faults := Faults{ClockJumps: 1}
	p := play(t, reference(cell(iscsi, "lan", 50, 1)), faults)
	jumped := 0
	for _, host := range Open(lane, p.ref, faults).HostNames() {
		step := p.measure(t, host, p.ref.Timeline, faults).Ahead - p.measure(t, host, p.ref.Timeline[:4], faults).Ahead
		inFile, last := time.Duration(0), time.Time{}
		for _, r := range p.readings(t, host, faults) {
			if r.Device != witness.CPU {
				continue // the others do not always exist, or are more frequent
			}
			if !last.IsZero() && !r.At.Equal(last) && inFile == 0 {
				inFile = r.At.Sub(last) - witness.Interval
			}
			last = r.At
		}
		if step.Abs() < clockRTT {
			if inFile != 0 {
				t.Errorf("%s: its counters jump by %s, its clock does not", host, inFile)
			}
			continue
		}
		jumped++
		if step.Abs() < clockJumpMin-clockRTT || step.Abs() > clockJumpMax+clockRTT || (inFile-step).Abs() > clockRTT {
			t.Errorf("%s: its clock jumped by %s, its counters by %s", host, step, inFile)
		}
	}
	if jumped != 1 {
		t.Errorf("%d clocks jumped", jumped)
	}
}

func TestUncertainClocks(t *testing.T) {
	faults := Faults{UncertainClocks: 1}
	p := play(t, reference(cell(iscsi, "lan", 50, 1)), faults)
	for _, name := range append(Open(lane, p.ref, faults).HostNames(), testbed.GuestName) {
		usual, wide := p.measure(t, name, p.ref.Timeline, Faults{}), p.measure(t, name, p.ref.Timeline, faults)
		if wide.Ahead != usual.Ahead || wide.Uncertainty != usual.Uncertainty+uncertainBy {
			t.Errorf("%s: %+v, usually %+v", name, wide, usual)
		}
	}
	for _, e := range readAll(t, p.watched(t, lane+"-b", faults), witness.ExchangesFile, witness.ReadExchanges) {
		if e.Uncertainty < uncertainBy {
			t.Fatalf("%+v", e)
		}
	}
	p.ref.Attempt = 2
	if wide := p.measure(t, lane+"-a", p.ref.Timeline, faults); wide.Uncertainty >= uncertainBy {
		t.Errorf("in the second attempt: %+v", wide)
	}
}

// TestClockIsAskedAgain: each call is another exchange, correct within its uncertainty.
func TestClockIsAskedAgain(t *testing.T) {
	bed := Open(lane, reference(cell(iscsi, "lan", 50, 1)), Faults{})
	truth := bed.hostClock(bed.ref, lane+"-b").ahead
	seen := map[time.Duration]bool{}
	last := time.Time{}
	for range 10 {
		offset, err := bed.Clock(t.Context(), lane+"-b")
		if err != nil || !offset.At.After(last) || (offset.Ahead-truth).Abs() > offset.Uncertainty {
			t.Errorf("%+v, %v; in truth %s", offset, err, truth)
		}
		seen[offset.Ahead], last = true, offset.At
	}
	if len(seen) < 9 {
		t.Errorf("ten exchanges have %d results", len(seen))
	}
}

func TestEvidenceSaysWhatHappened(t *testing.T) {
	for name, s := range situations {
		p, m := s.play(t)
		folder := filepath.Join(t.TempDir(), "evidence")
		if err := Open(lane, p.ref, Faults{}).Evidence(t.Context(), folder); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(folder, EvidenceFile))
		if err != nil || !strings.Contains(string(text), p.ref.Key()) || strings.Contains(string(text), "suspended") != m.schedule.stalls() {
			t.Errorf("%s: %v, %s", name, err, text)
		}
	}
}
