package timebase

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const ms = time.Millisecond

// at is a moment of the trial.
func at(seconds float64) time.Time { return start.Add(time.Duration(seconds * 1e9)) }

// clockwork is a simulated clock: how far it is ahead at each whole second of the trial, with
// straight lines in between.
type clockwork struct {
	ahead []float64 // ns
	base  time.Duration
}

// newClockwork returns a clock whose rate wanders by wanderPPM around its average.
func newClockwork(random *rand.Rand, seconds int, base time.Duration, averagePPM, wanderPPM float64) *clockwork {
	c := &clockwork{ahead: make([]float64, seconds+1), base: base}
	ppm := 0.0
	for i := range seconds {
		if random.IntN(10) == 0 {
			ppm = wanderPPM * (2*random.Float64() - 1)
		}
		c.ahead[i+1] = c.ahead[i] + (averagePPM+ppm)*1000
	}
	return c
}

func (c *clockwork) aheadAt(ours time.Time) time.Duration {
	seconds := ours.Sub(start).Seconds()
	i := min(max(0, int(seconds)), len(c.ahead)-2)
	share := seconds - float64(i)
	return c.base + time.Duration(c.ahead[i]+share*(c.ahead[i+1]-c.ahead[i]))
}

func (c *clockwork) theirs(ours time.Time) time.Time { return ours.Add(c.aheadAt(ours)) }

// exchange returns a reading of their clock by the asker's clock, begun at a moment of our clock:
// the way there and the way back each take up to most, independently of each other.
func exchange(random *rand.Rand, asker, theirs func(time.Time) time.Time, asked time.Time, most time.Duration) Reading {
	there := asked.Add(time.Duration(random.Int64N(int64(most))))
	back := there.Add(time.Duration(random.Int64N(int64(most))))
	begun, ended := asker(asked), asker(back)
	middle := begun.Add(ended.Sub(begun) / 2)
	return Reading{At: middle, Ahead: theirs(there).Sub(middle), Uncertainty: ended.Sub(begun) / 2}
}

func ours(t time.Time) time.Time { return t }

// TestClockKeepsItsUncertainty: whatever a clock within the bounds does, each of its times is
// correct within its uncertainty.
func TestClockKeepsItsUncertainty(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		average := 900*random.Float64() - 450
		base := time.Duration(random.Int64N(int64(2*time.Hour))) - time.Hour
		work := newClockwork(random, 300, base, average, DefaultWanderPPM)
		var readings []Reading
		for second := 10.0; second <= 290; second += 1 + 20*random.Float64() {
			readings = append(readings, exchange(random, ours, work.theirs, at(second), 1+time.Duration(random.Int64N(int64(40*ms)))))
		}
		random.Shuffle(len(readings), func(i, j int) { readings[i], readings[j] = readings[j], readings[i] })
		readings = append(readings, readings[0])
		clock, err := New(readings, Options{Machine: "host-a"})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		var last time.Time
		for second := 0.0; second < 300; second += 0.7 {
			got := clock.Ours(work.theirs(at(second)))
			if off, bound := got.Sub(at(second)).Abs(), clock.UncertaintyAt(got); off > bound {
				t.Fatalf("seed %d, second %g: off by %s, more than %s", seed, second, off, bound)
			}
			if off := (clock.Ahead(at(second)) - work.aheadAt(at(second))).Abs(); off > clock.UncertaintyAt(at(second)) {
				t.Fatalf("seed %d, second %g: ahead is off by %s", seed, second, off)
			}
			if got.Before(last) {
				t.Fatalf("seed %d, second %g: time runs back from %s to %s", seed, second, last, got)
			}
			if worst := clock.Worst(at(0), at(300)); clock.UncertaintyAt(at(second)) > worst {
				t.Fatalf("seed %d, second %g: the worst is %s, but here it is %s", seed, second, worst, clock.UncertaintyAt(at(second)))
			}
			last = got
		}
		if off := math.Abs(clock.DriftPPM() - average); off > DefaultWanderPPM+300 {
			t.Errorf("seed %d: a drift of %.1f ppm was found to be %.1f", seed, average, clock.DriftPPM())
		}
	}
}

// steadily reads a clock every 10 s for 300 s, with the given uncertainty.
func steadily(ppm float64, uncertainty time.Duration) []Reading {
	var readings []Reading
	for i := range 31 {
		readings = append(readings, Reading{At: at(10 * float64(i)), Ahead: time.Duration(ppm * 10_000 * float64(i)), Uncertainty: uncertainty})
	}
	return readings
}

// TestManyReadingsAreBetterThanOne: all readings together determine the rate, so little certainty
// is lost between two of them, and drift is found.
func TestManyReadingsAreBetterThanOne(t *testing.T) {
	clock, err := New(steadily(120, ms), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := clock.DriftPPM(); math.Abs(got-120) > 0.001 {
		t.Errorf("a drift of %g ppm, want 120", got)
	}
	// 5 s from the nearest reading the rate may be wrong by twice the wander, and by the
	// uncertainties of two readings over 300 s.
	if got, most := clock.Worst(at(0), at(300)), ms+5*(100+7)*time.Microsecond+10*time.Microsecond; got < ms || got > most {
		t.Errorf("uncertain by %s, want 1 ms to %s", got, most)
	}
	if one, err := New(steadily(120, ms)[:1], Options{}); err != nil || one.DriftPPM() != 0 ||
		one.UncertaintyAt(at(10)) < 6*ms || one.UncertaintyAt(at(10)) > 6*ms+20*time.Microsecond {
		t.Errorf("%v, one reading: want 1 ms and 500 ppm of 10 s, have %s", err, one.UncertaintyAt(at(10)))
	}
	if before, after := clock.UncertaintyAt(at(-100)), clock.UncertaintyAt(at(400)); before < 10*ms || after < 10*ms {
		t.Errorf("100 s before and after all readings only %s and %s uncertain", before, after)
	}
}

// TestSlowestClock: at the limit of the allowed drift, a time of the slow clock is placed too
// early, where the bound is still smaller.
func TestSlowestClock(t *testing.T) {
	for _, ppm := range []float64{DefaultDriftPPM, maxDriftPPM} {
		clock, err := New([]Reading{{At: at(0)}}, Options{DriftPPM: ppm})
		if err != nil {
			t.Fatal(err)
		}
		got := clock.Ours(at(1000 - ppm/1000))
		if off, bound := at(1000).Sub(got), clock.UncertaintyAt(got); off > bound || bound > off*4/3 {
			t.Errorf("%g ppm: off by %s, said to be %s", ppm, off, bound)
		}
	}
}

// TestOneGoodReadingHelpsItsNeighbours: the bad readings around it are no more uncertain than it
// plus the drift since.
func TestOneGoodReadingHelpsItsNeighbours(t *testing.T) {
	readings := steadily(0, 80*ms)
	readings[15].Uncertainty = ms
	clock, err := New(readings, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := clock.UncertaintyAt(at(140)); got > 7*ms {
		t.Errorf("10 s from a reading of ± 1 ms uncertain by %s", got)
	}
}

func TestThinningKeepsTheNarrowest(t *testing.T) {
	var nodes []bounds
	for i := range 5000 {
		half := 100.0
		if i%5 == 3 {
			half = 1
		}
		nodes = append(nodes, bounds{at: float64(i), low: -half, high: half})
	}
	whole := slices.Clone(nodes)
	got := thin(nodes)
	if len(got) < maxPaired || len(got) > maxPaired+1 {
		t.Errorf("%d nodes", len(got))
	}
	for _, node := range got[:maxPaired] {
		if node.half() != 1 {
			t.Fatalf("%+v was kept", node)
		}
	}
	if !slices.Equal(nodes, whole) {
		t.Error("the nodes were changed")
	}
}

// TestWander: readings that no nearly constant rate explains are no jump, but then only the drift
// limits the clock.
func TestWander(t *testing.T) {
	readings := steadily(300, 10*time.Microsecond)
	for i := 15; i < len(readings); i++ {
		readings[i].Ahead = readings[14].Ahead - time.Duration(300*10_000*(i-14))
	}
	clock, err := New(readings, Options{})
	if err != nil {
		t.Fatal(err)
	}
	// The clock lost 300 ppm, and may have lost 500 or 100 ppm in half of the time.
	if got := clock.UncertaintyAt(at(205)); got < ms || got > ms+15*time.Microsecond {
		t.Errorf("between readings uncertain by %s, want 1 ms", got)
	}
	if wide, err := New(readings, Options{WanderPPM: 400}); err != nil || wide.UncertaintyAt(at(205)) > clock.UncertaintyAt(at(205)) {
		t.Errorf("%v: a wander that explains it is worse", err)
	}
}

func TestJumps(t *testing.T) {
	for _, c := range []struct {
		name      string
		by        time.Duration // from reading 12 on
		bad       []int         // readings with an uncertainty of 200 ms instead of 1 ms
		since, at int
	}{
		{name: "forwards", by: 20 * ms, since: 11, at: 12},
		{name: "back", by: -20 * ms, since: 11, at: 12},
		{name: "far", by: 2 * time.Hour, since: 11, at: 12},
		{name: "behind a bad reading", by: 60 * ms, bad: []int{12, 13}, since: 11, at: 14},
		{name: "within what the readings allow", by: 6 * ms, at: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			readings := steadily(100, ms)
			for i := 12; i < len(readings); i++ {
				readings[i].Ahead += c.by
			}
			for _, i := range c.bad {
				readings[i].Uncertainty = 200 * ms
			}
			_, err := New(readings, Options{Machine: "host-b"})
			if c.at < 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var jump *JumpError
			if !errors.As(err, &jump) {
				t.Fatalf("%v is no jump", err)
			}
			if jump.Machine != "host-b" || !jump.Since.Equal(readings[c.since].At) || !jump.At.Equal(readings[c.at].At) ||
				(jump.By-c.by).Abs() > 4*ms || !strings.Contains(err.Error(), "host-b") {
				t.Errorf("%+v: %v", jump, err)
			}
		})
	}
	two := []Reading{{At: at(0), Uncertainty: ms}, {At: at(0), Ahead: 3 * ms, Uncertainty: ms}}
	var jump *JumpError
	if _, err := New(two, Options{}); !errors.As(err, &jump) {
		t.Errorf("%v: two readings of one moment that exclude each other are none", err)
	}
}

func TestBadReadingsAndOptions(t *testing.T) {
	if _, err := New(nil, Options{Machine: "store"}); !errors.Is(err, ErrNoReadings) || !strings.Contains(err.Error(), "store") {
		t.Error(err)
	}
	good := Reading{At: at(0), Uncertainty: ms}
	for _, bad := range []Reading{{}, {At: at(1), Uncertainty: -1}} {
		if _, err := New([]Reading{good, bad}, Options{}); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	for _, o := range []Options{{DriftPPM: -1}, {DriftPPM: 1e6}, {DriftPPM: math.NaN()}, {WanderPPM: -1}, {DriftPPM: 10, WanderPPM: 11}} {
		if _, err := New([]Reading{good}, o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	if _, err := New([]Reading{good}, Options{DriftPPM: 10}); err != nil {
		t.Error(err)
	}
}

// TestReadingsStay: New changes neither the readings nor their order.
func TestReadingsStay(t *testing.T) {
	readings := steadily(50, ms)
	slices.Reverse(readings)
	before := fmt.Sprint(readings)
	if _, err := New(readings, Options{}); err != nil || fmt.Sprint(readings) != before {
		t.Errorf("%v, or the readings were changed", err)
	}
}

// TestCompose: what a host read of another machine becomes a reading on the controller's time.
func TestCompose(t *testing.T) {
	host, err := New([]Reading{{At: at(0), Ahead: 5 * time.Second, Uncertainty: 2 * ms}, {At: at(10), Ahead: 5 * time.Second, Uncertainty: 2 * ms}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := Compose([]Reading{{At: at(10).Add(5 * time.Second), Ahead: -time.Second, Uncertainty: 3 * ms}}, host)
	if len(got) != 1 || got[0].At.Sub(at(10)).Abs() > time.Microsecond || (got[0].Ahead-4*time.Second).Abs() > time.Microsecond ||
		got[0].Uncertainty < 5*ms || got[0].Uncertainty > 5*ms+20*time.Microsecond {
		t.Errorf("%+v", got)
	}
	if got := Compose(nil, host); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}

// TestSlewingClock: a time daemon may make a clock run 8 % fast for some seconds, and may do so
// in such a way that two readings hardly show it. If its kernel was asked each second, each of
// the clock's times is correct within its uncertainty.
func TestSlewingClock(t *testing.T) {
	for _, slew := range []struct {
		ppm     float64
		seconds int
	}{{83_333, 3}, {-83_333, 1}, {2_000, 1}, {-900, 4}, {83_333, 200}} {
		for seed := range uint64(10) {
			random := rand.New(rand.NewPCG(seed, 7))
			oscillator := 400*random.Float64() - 200
			work := newClockwork(random, 300, time.Hour, 0, 0)
			var samples []float64
			for i := range 300 {
				ppm := -oscillator // as the daemon has found it
				if i >= 103 && i < 103+slew.seconds {
					ppm += slew.ppm
				}
				samples = append(samples, ppm)
				work.ahead[i+1] = work.ahead[i] + (oscillator+ppm)*1000
			}
			var readings []Reading
			for second := 1.0; second < 300; second += 10 {
				readings = append(readings, exchange(random, ours, work.theirs, at(second), ms))
			}
			clock, err := New(readings, Options{Machine: "host-a", SteeredPPM: samples})
			if err != nil {
				t.Fatalf("%+v: %v", slew, err)
			}
			for second := 0.0; second < 300; second += 0.25 {
				if off := clock.Ours(work.theirs(at(second))).Sub(at(second)); off.Abs() > clock.UncertaintyAt(at(second)) {
					t.Fatalf("%+v, %g s: off by %s, bound %s", slew, second, off, clock.UncertaintyAt(at(second)))
				}
			}
		}
	}
}

// TestSteadyClockIsNoLessCertain: samples that show no steering hardly reduce the certainty.
func TestSteadyClockIsNoLessCertain(t *testing.T) {
	readings := steadily(0, ms)
	worst := func(samples []float64) time.Duration {
		clock, err := New(readings, Options{Machine: "host-a", SteeredPPM: samples})
		if err != nil {
			t.Fatal(err)
		}
		return clock.Worst(at(10), at(200))
	}
	if without, with := worst(nil), worst([]float64{-13.5, -13.5, -13.4}); with > without+without/100 {
		t.Errorf("± %s with samples, ± %s without", with, without)
	}
}
