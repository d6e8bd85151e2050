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
	// DefaultDriftPPM is how fast a clock that nobody steers may gain or lose
	// against ours at most: what Linux takes for the worst of oscillators, for
	// adjtimex(2) corrects no more by its frequency.
	DefaultDriftPPM = 500
	// DefaultWanderPPM is how far a clock's rate may be from its own average
	// over a trial. It is an assumption, and a wide one: an oscillator's rate
	// changes by less than 1 ppm in minutes, a time daemon's corrections by
	// some ten. Readings that contradict it have the whole drift instead.
	DefaultWanderPPM = 50
	// oscillatorPPM is by how much an oscillator's rate changes within a trial.
	oscillatorPPM = 1
	// maxDriftPPM is what Options may ask for at most. The kernel can have a
	// clock run faster or slower by 10 %, and chrony does so by 83,333 ppm.
	maxDriftPPM = 110_000
)

// resolution of the readings: a shell tells the time in whole µs.
const resolution = time.Microsecond

// Options of New.
type Options struct {
	Machine string // whose clock: for errors
	// SteeredPPM is how fast the machine's kernel had the clock run beyond its
	// oscillator, as it was sampled; in any order, and nil when nobody did. What
	// was done to the clock between two samples and undone is not in it.
	SteeredPPM []float64
	DriftPPM   float64 // 0 is DefaultDriftPPM, and the most that it was steered by; at most 110,000
	WanderPPM  float64 // 0 is DefaultWanderPPM, and the range in which it was steered, or DriftPPM when that is less
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

// steered is how far from its oscillator's the clock's rate was at most, and the
// range in which it was. What the oscillator's own rate is, nobody knows: where a
// time daemon is right, the two are opposite, and where none runs there is no
// steering and the oscillator's error all the same. So both are added up.
func (o Options) steered() (fastest, reach float64) {
	if len(o.SteeredPPM) == 0 {
		return 0, 0
	}
	least, most := slices.Min(o.SteeredPPM), slices.Max(o.SteeredPPM)
	return max(math.Abs(least), math.Abs(most)) + oscillatorPPM, most - least
}

// Clock is another machine's clock, as far as its readings tell.
type Clock struct {
	origin     time.Time     // ours, of the first reading
	base       time.Duration // that it was ahead then
	knots      []bounds      // between them, both bounds are straight lines
	slow, fast float64       // of the rate at which it gets ahead, in ns/ns
	driftPPM   float64
}

// New makes a clock of its readings, which may come in any order. A clock that
// was set is a *JumpError, and one that nobody read ErrNoReadings.
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
		// Its moment is anywhere in the exchange; until the middle it drifts.
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

// Ours turns a time of the other clock into ours. It grows with it.
func (c *Clock) Ours(theirs time.Time) time.Time {
	want := float64(theirs.Round(0).Sub(c.origin.Add(c.base)))
	i := sort.Search(len(c.knots), func(i int) bool { return c.knots[i].theirs() > want })
	// Beyond the knots it goes on at the middle of the rates.
	from, pace := c.knots[max(0, i-1)], 1+(c.slow+c.fast)/2
	if i > 0 && i < len(c.knots) {
		pace = (c.knots[i].theirs() - from.theirs()) / (c.knots[i].at - from.at)
	}
	return c.origin.Add(time.Duration(math.Round(from.at + (want-from.theirs())/pace)))
}

// Ahead is how far the other clock is ahead of ours, at a moment of ours.
func (c *Clock) Ahead(ours time.Time) time.Duration {
	return c.base + time.Duration(math.Round(c.at(c.since(ours)).middle()))
}

// UncertaintyAt bounds the error at a moment of ours: the true moment of what
// Ours put there, or of what Ahead says of it, is no further away. It grows
// between readings, and without end before the first and after the last.
func (c *Clock) UncertaintyAt(ours time.Time) time.Duration {
	return c.stretched(c.at(c.since(ours)).half())
}

// Worst is the largest uncertainty from one moment of ours to another.
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

// DriftPPM is how fast the other clock gained on ours from the first reading to
// the last, in µs per second; 0 when all readings are of one moment.
func (c *Clock) DriftPPM() float64 { return c.driftPPM }

// since is a moment of ours as the knots have it.
func (c *Clock) since(ours time.Time) float64 { return float64(ours.Round(0).Sub(c.origin)) }

// stretched makes a bound of how far the clock is ahead one of when: while the
// estimate is off by so much, the offset and the bound itself change by the
// rates at most, each.
func (c *Clock) stretched(half float64) time.Duration {
	rate := max(math.Abs(c.slow), math.Abs(c.fast))
	return time.Duration(math.Ceil(half/(1-2*rate))) + 1
}

// at gives the bounds at a moment.
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
