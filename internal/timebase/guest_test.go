package timebase

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// migration is a simulated trial: a guest is read through both hosts, sends heartbeats, stands
// still for a while, and has another offset afterwards.
type migration struct {
	from, to     time.Time // true
	hostA, hostB *clockwork
	first, then  *clockwork // the guest's before and after
	wan          time.Duration
	backIsAway   bool // nothing reads it after the stall
}

func (m migration) guest(ours time.Time) time.Time {
	if ours.Before(m.to) {
		return m.first.theirs(ours)
	}
	return m.then.theirs(ours)
}

// newMigration returns a migration in which the guest's clock steps during a stall of the given
// length.
func newMigration(random *rand.Rand, length, step time.Duration) migration {
	m := migration{from: at(100 + random.Float64()), wan: 40 * ms}
	m.to = m.from.Add(length)
	work := func(base time.Duration) *clockwork {
		return newClockwork(random, 300, base, 100*random.Float64()-50, 20)
	}
	m.hostA, m.hostB = work(-3*time.Second), work(2*time.Second)
	m.first = work(7 * time.Second)
	m.then = work(0)
	m.then.base = m.first.aheadAt(m.to) + step - m.then.aheadAt(m.to)
	if back := m.first.theirs(m.from).Sub(m.then.theirs(m.to)); back < ms {
		m.then.base += max(0, back) // its drift during the stall is lost as well
	}
	return m
}

// host reads a host's clock every 10 s, as the controller does.
func host(t *testing.T, random *rand.Rand, work *clockwork, name string) *Clock {
	t.Helper()
	var readings []Reading
	for second := 1.0; second < 300; second += 10 {
		readings = append(readings, exchange(random, ours, work.theirs, at(second), 2*ms))
	}
	clock, err := New(readings, Options{Machine: name})
	if err != nil {
		t.Fatal(err)
	}
	return clock
}

// take returns the inputs of NewGuest.
func (m migration) take(t *testing.T, random *rand.Rand) (viaA, viaB []Reading, beats []Beat, stall Interval) {
	t.Helper()
	a, b := host(t, random, m.hostA, "host-a"), host(t, random, m.hostB, "host-b")
	near, far := 2*ms, 2*ms+m.wan
	for second := 1.0; second < 299; second += 0.5 {
		if !at(second).Before(m.to) && m.backIsAway {
			break
		}
		if !at(second).Before(m.from.Add(-100*ms)) && at(second).Before(m.to) {
			continue // no answer
		}
		mostA, mostB := near, far
		if !at(second).Before(m.to) {
			mostA, mostB = far, near
		}
		viaA = append(viaA, exchange(random, m.hostA.theirs, m.guest, at(second), mostA))
		viaB = append(viaB, exchange(random, m.hostB.theirs, m.guest, at(second), mostB))
	}
	for second := 1.0; second < 299; second += 0.01 {
		sent := at(second)
		if !sent.Before(m.from) && sent.Before(m.to) {
			continue
		}
		delay := time.Duration(random.Int64N(int64(near)))
		if !sent.Before(m.to) {
			delay += m.wan
		}
		arrived := a.Ours(m.hostA.theirs(sent.Add(delay)))
		beats = append(beats, Beat{Sent: m.guest(sent), Arrived: arrived, Uncertainty: a.UncertaintyAt(arrived)})
	}
	random.Shuffle(len(beats), func(i, j int) { beats[i], beats[j] = beats[j], beats[i] })
	stall = Interval{From: m.from.Add(time.Duration(random.Int64N(int64(10*ms))) - 5*ms),
		To: m.to.Add(time.Duration(random.Int64N(int64(10*ms))) - 5*ms), Uncertainty: 5 * ms}
	return Compose(viaA, a), Compose(viaB, b), beats, stall
}

// TestGuestKeepsItsUncertainty: whatever the guest's clock does in its stall, its times are
// correct within their uncertainty, and its step is found.
func TestGuestKeepsItsUncertainty(t *testing.T) {
	for _, c := range []struct {
		name         string
		length, step time.Duration
	}{
		{"no step, as after a pause", 5 * time.Second, 0},
		{"the target is ahead", 2 * time.Second, 300 * ms},
		{"the target is far ahead", 2 * time.Second, time.Hour},
		{"the target is a little behind", 2 * time.Second, -500 * ms},
		{"the target is far behind: it stands still", 2 * time.Second, -2 * time.Second},
		{"a short stall, standing still", 150 * ms, -150 * ms},
		{"a short stall, forwards", 60 * ms, 20 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(3) {
				random := rand.New(rand.NewPCG(seed, 2))
				m := newMigration(random, c.length, c.step)
				viaA, viaB, beats, stall := m.take(t, random)
				clock, err := NewGuest(slices.Concat(viaA, viaB), beats, stall, nil)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				m.check(t, clock, stall, c.step)
			}
		})
	}
}

func (m migration) check(t *testing.T, clock *GuestClock, stall Interval, step time.Duration) {
	t.Helper()
	if off, most := (clock.Step() - step).Abs(), clock.UncertaintyAt(stall.From)+clock.UncertaintyAt(stall.To)+ms; off > most {
		t.Errorf("a step of %s was found to be %s, more than %s off", step, clock.Step(), most)
	}
	if clock.Worst(at(1), at(299)) > 8*ms {
		t.Errorf("uncertain by %s", clock.Worst(at(1), at(299)))
	}
	var truths []time.Time
	for second := 1.0; second < 299; second += 0.017 {
		truths = append(truths, at(second))
	}
	for i := range 50 { // right at the stall's ends
		truths = append(truths, m.from.Add(-time.Duration(i)*ms/2-1), m.to.Add(time.Duration(i)*ms/2))
	}
	slices.SortFunc(truths, time.Time.Compare)
	var last time.Time
	for _, truth := range truths {
		if !truth.Before(m.from) && truth.Before(m.to) {
			continue
		}
		second, guest := truth.Sub(start).Seconds(), m.guest(truth)
		got := clock.Ours(guest)
		if off := got.Sub(truth).Abs(); off > clock.UncertaintyAt(got) && guest.Sub(clock.StepAt()).Abs() > clock.StepMargin() {
			t.Fatalf("second %g: off by %s, more than %s", second, off, clock.UncertaintyAt(got))
		}
		if got.Before(last) {
			t.Fatalf("second %g: time runs back from %s to %s", second, last, got)
		}
		last = got
	}
	if clock.StepMargin() > 20*ms {
		t.Errorf("the step's place is known to within %s only", clock.StepMargin())
	}
	// An I/O from 100 ms before the stall until 100 ms after it.
	sent, done := m.guest(m.from.Add(-100*ms)), m.guest(m.to.Add(100*ms))
	got, want := clock.LatencyOurs(done, done.Sub(sent)), m.to.Sub(m.from)+200*ms
	if most := clock.UncertaintyAt(m.from) + clock.UncertaintyAt(m.to); (got - want).Abs() > most {
		t.Errorf("the stalled I/O took %s, want %s ± %s", got, want, most)
	}
}

// TestGuestFindsOtherSteps: a step outside the stall, or one that no guest makes, is a jump.
func TestGuestFindsOtherSteps(t *testing.T) {
	for _, c := range []struct {
		name   string
		step   time.Duration // in the stall, of 2 s
		second float64       // of another step
		by     time.Duration
		stall  bool // is told
	}{
		{"before the stall", 0, 60, 50 * ms, true},
		{"soon after the stall", 300 * ms, 106, -50 * ms, true},
		{"late", -300 * ms, 280, 5 * time.Second, true},
		{"in a stall that nobody told of", 300 * ms, 0, 0, false},
		{"back beyond its own time", -3 * time.Second, 0, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			random := rand.New(rand.NewPCG(5, 3))
			m := newMigration(random, 2*time.Second, c.step)
			viaA, viaB, beats, stall := m.take(t, random)
			for _, readings := range [][]Reading{viaA, viaB} {
				for i := range readings {
					if readings[i].At.After(at(c.second)) {
						readings[i].Ahead += c.by
					}
				}
			}
			for i := range beats {
				if beats[i].Arrived.After(at(c.second)) {
					beats[i].Sent = beats[i].Sent.Add(c.by)
				}
			}
			if !c.stall {
				stall = Interval{}
			}
			_, err := NewGuest(slices.Concat(viaA, viaB), beats, stall, nil)
			var jump *JumpError
			if !errors.As(err, &jump) || jump.Machine != "guest" {
				t.Errorf("%v is no jump of the guest", err)
			}
		})
	}
}

// TestHeartbeatFromTheFuture: between two readings the guest's clock was set forward and back
// again, which only its heartbeats show.
func TestHeartbeatFromTheFuture(t *testing.T) {
	readings := steadily(0, ms)
	beats := []Beat{{Sent: at(42), Arrived: at(42).Add(-ms)}, {Sent: at(55), Arrived: at(55).Add(2 * ms)}}
	if _, err := NewGuest(readings, beats, Interval{}, nil); err != nil {
		t.Errorf("1 ms early, and the clock is as uncertain: %v", err)
	}
	beats[0].Sent = at(43)
	var jump *JumpError
	for _, stall := range []Interval{{}, {From: at(100), To: at(102)}, {From: at(20), To: at(22)}} {
		if _, err := NewGuest(readings, beats, stall, nil); !errors.As(err, &jump) || (jump.By-time.Second).Abs() > 10*ms {
			t.Errorf("a heartbeat arrived 1 s before it was sent, stall %+v: %v", stall, err)
		}
	}
}

// TestHeartbeatFromBeyondTheStall: a heartbeat that arrived during the stall cannot have been
// sent after it, and does not move the step.
func TestHeartbeatFromBeyondTheStall(t *testing.T) {
	beats := []Beat{{Sent: at(250), Arrived: at(101).Add(-ms / 2)}}
	var jump *JumpError
	if _, err := NewGuest(steadily(0, ms), beats, Interval{From: at(100), To: at(102)}, nil); !errors.As(err, &jump) {
		t.Errorf("%v is no jump", err)
	}
}

// TestStepThatTheGuestSaw: two stamps of the load's log, one on each side of the step, show where
// it was.
func TestStepThatTheGuestSaw(t *testing.T) {
	readings := steadily(0, 2*ms)
	for i := range readings {
		if readings[i].At.After(at(100)) {
			readings[i].Ahead = -2*time.Second + ms // the clock stood still, and gained a little
		}
	}
	stall := Interval{From: at(100), To: at(102), Uncertainty: 3 * ms}
	without, err := NewGuest(readings, nil, stall, nil)
	if err != nil {
		t.Fatal(err)
	}
	last := without.StepAt().Add(2 * ms)
	seen := []Step{{at(40), at(40.1)}, {last.Add(-ms), last.Add(1200 * time.Microsecond)}, {last, last.Add(ms)}, {at(104), at(104.1)}}
	with, err := NewGuest(readings, nil, stall, seen)
	if err != nil {
		t.Fatal(err)
	}
	if with.StepMargin() > ms || without.StepMargin() < 4*ms || with.StepAt().Before(last) || !with.StepAt().Before(last.Add(ms)) {
		t.Errorf("the step is at %s ± %s, want %s and a ms; without what was seen ± %s", with.StepAt(), with.StepMargin(), last, without.StepMargin())
	}
	if before, after := with.Ours(last), with.Ours(last.Add(ms)); before.After(at(101)) || after.Before(at(101)) {
		t.Errorf("the stamps are put to %s and %s", before, after)
	}
	contrary := []Step{{last, last.Add(ms)}, {last.Add(ms), last.Add(2 * ms)}}
	if two, err := NewGuest(readings, nil, stall, contrary); err != nil || two.StepMargin() != without.StepMargin() {
		t.Errorf("two steps: ± %s, %v", two.StepMargin(), err)
	}
}

// TestStepIsAfterTheLastHeartbeat: the readings and the stall determine the step's place only to
// some ms; a heartbeat that had arrived by the stall's middle was sent before the step.
func TestStepIsAfterTheLastHeartbeat(t *testing.T) {
	readings := steadily(0, 2*ms)
	for i := range readings {
		if readings[i].At.After(at(100)) {
			readings[i].Ahead = -2 * time.Second // it stood still
		}
	}
	stall := Interval{From: at(100), To: at(102), Uncertainty: 3 * ms}
	without, err := NewGuest(readings, nil, stall, nil)
	if err != nil {
		t.Fatal(err)
	}
	sent := without.StepAt().Add(3 * ms)
	beats := []Beat{{Sent: sent.Add(-10 * ms), Arrived: at(100.2)}, {Sent: sent, Arrived: at(100.3)}, {Sent: sent.Add(2 * ms), Arrived: at(102.1)}}
	with, err := NewGuest(readings, beats, stall, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !with.StepAt().Equal(sent) || with.StepMargin() >= without.StepMargin() || without.StepMargin() < 5*ms {
		t.Errorf("the step is at %s ± %s, want %s and better than ± %s", with.StepAt(), with.StepMargin(), sent, without.StepMargin())
	}
	if got := with.Ours(sent.Add(2 * ms)).Sub(at(102)); got < 0 || got > 10*ms {
		t.Errorf("the first heartbeat after the stall was sent %s after it", got)
	}
}

// TestGuestWithoutStall is one clock over all readings.
func TestGuestWithoutStall(t *testing.T) {
	readings := steadily(40, ms)
	clock, err := NewGuest(readings, nil, Interval{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	one, err := New(readings, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for second := -10.0; second < 320; second += 7 {
		guest := at(second)
		if !clock.Ours(guest).Equal(one.Ours(guest)) || clock.UncertaintyAt(guest) != one.UncertaintyAt(guest) || clock.Ahead(guest) != one.Ahead(guest) {
			t.Errorf("second %g: not as one clock", second)
		}
	}
	if clock.Step() != 0 || !clock.StepAt().IsZero() || clock.StepMargin() != 0 || clock.Worst(at(0), at(300)) != one.Worst(at(0), at(300)) {
		t.Errorf("%+v has a step", clock)
	}
	if got := clock.LatencyOurs(at(50), 30*ms); (got - 30*ms).Abs() > 10*time.Microsecond {
		t.Errorf("a latency of 30 ms became %s", got)
	}
}

// TestGuestWithoutHeartbeats: the stall and the readings are enough.
func TestGuestWithoutHeartbeats(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 4))
	m := newMigration(random, 2*time.Second, -700*ms)
	viaA, viaB, _, stall := m.take(t, random)
	clock, err := NewGuest(slices.Concat(viaA, viaB), nil, stall, nil)
	if err != nil {
		t.Fatal(err)
	}
	m.check(t, clock, stall, -700*ms)
}

func TestGuestMissesReadings(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 5))
	m := newMigration(random, 2*time.Second, 0)
	m.backIsAway = true
	viaA, viaB, beats, stall := m.take(t, random)
	if _, err := NewGuest(slices.Concat(viaA, viaB), beats, stall, nil); !errors.Is(err, ErrNoReadings) {
		t.Errorf("a guest that did not come back: %v", err)
	}
	if _, err := NewGuest(nil, nil, Interval{}, nil); !errors.Is(err, ErrNoReadings) {
		t.Errorf("no reading at all: %v", err)
	}
	// The only exchange that began before the stall was still under way during it.
	late := []Reading{{At: stall.From.Add(-3 * ms), Uncertainty: 4 * ms}, {At: at(150), Uncertainty: ms}}
	if _, err := NewGuest(late, nil, stall, nil); !errors.Is(err, ErrNoReadings) {
		t.Errorf("a reading that touches the stall was taken: %v", err)
	}
	for _, bad := range []Interval{{From: at(2), To: at(1)}, {From: at(1)}, {From: at(1), To: at(2), Uncertainty: -1}} {
		if _, err := NewGuest(steadily(0, ms), nil, bad, nil); err == nil || errors.Is(err, ErrNoReadings) {
			t.Errorf("%+v is no stall: %v", bad, err)
		}
	}
}

// TestClockStoodLongerThanTold: a hypervisor reports a stop after it has saved the guest's clock,
// and the start before it sets the clock. A clock that lost some ms more than the stall is still
// the same guest's; one that lost much more was set.
func TestClockStoodLongerThanTold(t *testing.T) {
	for lost, good := range map[time.Duration]bool{13 * ms: true, 500 * ms: false} {
		stall := Interval{From: at(100), To: at(105), Uncertainty: ms}
		var readings []Reading
		for second := 1.0; second < 200; second++ {
			if second >= 100 && second <= 105 {
				continue
			}
			reading := Reading{At: at(second), Ahead: time.Second, Uncertainty: ms}
			if second > 105 {
				reading.Ahead -= stall.To.Sub(stall.From) + lost
			}
			readings = append(readings, reading)
		}
		clock, err := NewGuest(readings, nil, stall, nil)
		var jump *JumpError
		switch {
		case good && (err != nil || (clock.Step()+stall.To.Sub(stall.From)+lost).Abs() > 2*ms):
			t.Errorf("%s more: %v, %+v", lost, err, clock)
		case !good && !errors.As(err, &jump):
			t.Errorf("%s more: %v, want a jump", lost, err)
		}
	}
}
