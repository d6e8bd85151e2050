package timebase

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"time"
)

// What clocks may do unless Options say otherwise.
const (
	// DefaultDriftPPM is the largest rate at which a clock that nobody steers may gain or lose
	// against ours. It is the worst oscillator that Linux allows for: adjtimex(2) corrects no
	// more by its frequency.
	DefaultDriftPPM = 500
	// DefaultWanderPPM is how far a clock's rate may be from its own average during a trial. It
	// is an assumption, and a wide one: an oscillator's rate changes by less than 1 ppm in
	// minutes, a time daemon's corrections by some ten. Readings that contradict it leave the
	// whole drift as the bound.
	DefaultWanderPPM = 50
	// oscillatorPPM is how much an oscillator's rate changes within a trial.
	oscillatorPPM = 1
	// maxDriftPPM is the largest drift that Options may ask for. The kernel can make a clock run
	// faster or slower by 10 %, and chrony does so by 83,333 ppm.
	maxDriftPPM = 110_000
)

// resolution of the readings: a shell reports the time in whole µs.
const resolution = time.Microsecond

// Options are the options of New.
type Options struct {
	Machine string // the machine whose clock it is, for errors
	// SteeredPPM are samples of how much faster than its oscillator the machine's kernel ran the
	// clock, in any order; nil when nobody sampled it. They do not show what was done to the
	// clock and undone between two samples.
	SteeredPPM []float64
	DriftPPM   float64 // 0: DefaultDriftPPM plus the largest steering; at most 110,000
	WanderPPM  float64 // 0: DefaultWanderPPM plus the range of the steering, or DriftPPM when that is less
}

func (o Options) complete() (Options, error) {
	fastest, reach := o.steered()
	if o.DriftPPM == 0 {
		o.DriftPPM = min(DefaultDriftPPM+fastest, maxDriftPPM)
	}
	if o.WanderPPM == 0 {
		o.WanderPPM = min(DefaultWanderPPM+reach, o.DriftPPM)
	}
	if !(o.DriftPPM > 0 && o.DriftPPM <= maxDriftPPM && o.WanderPPM > 0 && o.WanderPPM <= o.DriftPPM) {
		return o, fmt.Errorf("the clock of %s: a drift of %g ppm with a wander of %g ppm: want a drift of up to %d ppm, and a wander of up to the drift",
			o.Machine, o.DriftPPM, o.WanderPPM, maxDriftPPM)
	}
	return o, nil
}

// steered returns how far the clock's rate was from its oscillator's at most, and the range of
// that difference. The oscillator's own rate is unknown. If a time daemon works correctly, the
// steering and the oscillator's error cancel out; if no daemon runs, there is no steering but
// still the oscillator's error. So both are added.
func (o Options) steered() (fastest, reach float64) {
	if len(o.SteeredPPM) == 0 {
		return 0, 0
	}
	least, most := slices.Min(o.SteeredPPM), slices.Max(o.SteeredPPM)
	return max(math.Abs(least), math.Abs(most)) + oscillatorPPM, most - least
}

// Clock is another machine's clock, as far as its readings determine it.
type Clock struct {
	origin     time.Time     // on our clock: the time of the first reading
	base       time.Duration // how far the clock was ahead then
	knots      []bounds      // between two of them both bounds are straight lines
	slow, fast float64       // bounds of the rate at which the clock gains on ours, in ns/ns
	driftPPM   float64
}

// New makes a clock from its readings, which may come in any order. The error is a *JumpError for
// a clock that was set, and ErrNoReadings when there are no readings.
func New(readings []Reading, options Options) (*Clock, error) {
	options, err := options.complete()
	if err != nil {
		return nil, err
	}
	if len(readings) == 0 {
		return nil, fmt.Errorf("the clock of %s: %w", options.Machine, ErrNoReadings)
	}
	readings = slices.Clone(readings)
	for i, r := range readings {
		if r.Uncertainty < 0 || r.At.IsZero() {
			return nil, fmt.Errorf("the clock of %s: reading of %s ahead at %s with an uncertainty of %s: want a time and an uncertainty of 0 or more",
				options.Machine, r.Ahead, r.At, r.Uncertainty)
		}
		readings[i].At = r.At.Round(0)
	}
	slices.SortFunc(readings, func(a, b Reading) int { return a.At.Compare(b.At) })
	c := &Clock{origin: readings[0].At, base: readings[0].Ahead}
	drift, wander := options.DriftPPM/1e6, options.WanderPPM/1e6
	nodes := make([]bounds, len(readings))
	for i, r := range readings {
		// The clock was read at any moment in the exchange; until the exchange's middle it
		// drifts.
		half := float64(r.Uncertainty)*(1+drift) + float64(resolution)
		ahead := float64(r.Ahead - c.base)
		nodes[i] = bounds{at: float64(r.At.Sub(c.origin)), low: ahead - half, high: ahead + half}
	}
	if since, at, found := jump(nodes, drift); found {
		return nil, &JumpError{Machine: options.Machine, Since: readings[since].At, At: readings[at].At,
			By: readings[at].Ahead - readings[since].Ahead}
	}
	nodes = merge(nodes)
	c.slow, c.fast = rates(thin(nodes), drift, wander)
	tighten(nodes, c.slow, c.fast)
	c.knots = knots(nodes, c.slow, c.fast)
	if first, last := nodes[0], nodes[len(nodes)-1]; last.at > first.at {
		c.driftPPM = (last.middle() - first.middle()) / (last.at - first.at) * 1e6
	}
	return c, nil
}

// Ours converts a time of the other clock to ours. It is strictly increasing.
func (c *Clock) Ours(theirs time.Time) time.Time {
	want := float64(theirs.Round(0).Sub(c.origin.Add(c.base)))
	i := sort.Search(len(c.knots), func(i int) bool { return c.knots[i].theirs() > want })
	// Outside the knots the conversion continues at the middle of the two rates.
	from, pace := c.knots[max(0, i-1)], 1+(c.slow+c.fast)/2
	if i > 0 && i < len(c.knots) {
		pace = (c.knots[i].theirs() - from.theirs()) / (c.knots[i].at - from.at)
	}
	return c.origin.Add(time.Duration(math.Round(from.at + (want-from.theirs())/pace)))
}

// Ahead returns how far the other clock is ahead of ours at a moment of our clock.
func (c *Clock) Ahead(ours time.Time) time.Duration {
	return c.base + time.Duration(math.Round(c.at(c.since(ours)).middle()))
}

// UncertaintyAt bounds the error at a moment of our clock: the error of a time that Ours
// converted to that moment, and that of Ahead at that moment. It grows between readings, and
// without limit before the first and after the last.
func (c *Clock) UncertaintyAt(ours time.Time) time.Duration {
	return c.stretched(c.at(c.since(ours)).half())
}

// Worst returns the largest uncertainty between two moments of our clock.
func (c *Clock) Worst(from, to time.Time) time.Duration {
	start, end := c.since(from), c.since(to)
	worst := max(c.at(start).half(), c.at(end).half())
	for _, knot := range c.knots {
		if start < knot.at && knot.at < end {
			worst = max(worst, knot.half())
		}
	}
	return c.stretched(worst)
}

// DriftPPM returns how fast the other clock gained on ours from the first reading to the last, in
// µs per second; 0 when all readings are from one moment.
func (c *Clock) DriftPPM() float64 { return c.driftPPM }

// since converts a moment of our clock to the time scale of the knots.
func (c *Clock) since(ours time.Time) float64 { return float64(ours.Round(0).Sub(c.origin)) }

// stretched converts a bound on how far the clock is ahead to a bound on when it showed a time:
// over the time by which the estimate is wrong, the offset and the bound itself each change by at
// most the rates.
func (c *Clock) stretched(half float64) time.Duration {
	rate := max(math.Abs(c.slow), math.Abs(c.fast))
	return time.Duration(math.Ceil(half/(1-2*rate))) + 1
}

// at returns the bounds at a moment.
func (c *Clock) at(moment float64) bounds {
	i := sort.Search(len(c.knots), func(i int) bool { return c.knots[i].at > moment })
	switch {
	case i == 0:
		return c.knots[0].before(moment, c.slow, c.fast)
	case i == len(c.knots):
		return c.knots[i-1].after(moment, c.slow, c.fast)
	}
	a, b := c.knots[i-1], c.knots[i]
	share := (moment - a.at) / (b.at - a.at)
	return bounds{moment, a.low + share*(b.low-a.low), a.high + share*(b.high-a.high)}
}
