// Package timebase converts the times of all machines of a testbed to one time base, the
// controller's, and says how certain the results are.
//
// It is pure: it works on readings of clocks that others have taken. A reading is a bound and not
// a deviation, so nothing is averaged. What a clock may have shown at a moment is what every
// reading allows, widened by the rate at which the clock may drift (Marzullo and Owicki,
// Maintaining the Time in a Distributed System, 1983; the rate is bounded by all pairs of
// readings as in Duda, Harrus, Haddad and Bernard, Estimating Global Time in Distributed Systems,
// 1987). The middle of that interval is the estimate, and half its width is the uncertainty.
//
// It promises that a time is correct within the uncertainty given with it, as long as the
// readings keep their bounds and the clocks the bounds of Options. It also promises that a clock
// that was set is detected as soon as two readings show it: the result is a *JumpError, never an
// estimate between the two.
//
// Dangerous: a clock that is set by less than its readings' uncertainty, or set and set back
// between two readings, cannot be detected; its times are then wrong by that much. A guest's
// clock may step once, in the stall that NewGuest is given: with no stall or a wrong one,
// NewGuest reports a jump.
package timebase

import (
	"errors"
	"fmt"
	"time"
)

// Reading is one exchange with another clock: at the moment At of our clock, the other clock was
// Ahead of ours, give or take Uncertainty (half of the exchange's round trip, which is a bound
// and not a deviation).
type Reading struct {
	At          time.Time
	Ahead       time.Duration
	Uncertainty time.Duration
}

// Interval is the time from a moment to a later one. The zero value is no interval.
type Interval struct {
	From, To    time.Time
	Uncertainty time.Duration // of either end
}

// IsZero reports whether there is no interval.
func (i Interval) IsZero() bool { return i.From.IsZero() && i.To.IsZero() }

// ErrNoReadings says that a clock, or one side of a guest's stall, has no readings.
var ErrNoReadings = errors.New("nobody has read it")

// JumpError says that a clock was set while it was being read: between two readings it moved
// further than the readings and its drift allow.
type JumpError struct {
	Machine string
	Since   time.Time     // on our clock: up to here the clock ran normally
	At      time.Time     // on our clock: the first moment that shows the jump
	By      time.Duration // how far the clock moved forward; negative: back
}

func (e *JumpError) Error() string {
	return fmt.Sprintf("the clock of %s was set by %s between %s and %s: its times cannot be put onto the controller's",
		e.Machine, e.By, e.Since.UTC().Format(time.RFC3339Nano), e.At.UTC().Format(time.RFC3339Nano))
}

// Compose converts exchanges of a host with another machine, at times of the host's clock, to
// readings of that machine's clock against ours. The machine's offset from us is its offset from
// the host plus the host's offset from us, and the two uncertainties add up.
func Compose(exchanges []Reading, host *Clock) []Reading {
	readings := make([]Reading, len(exchanges))
	for i, exchange := range exchanges {
		at := host.Ours(exchange.At)
		readings[i] = Reading{At: at, Ahead: exchange.Ahead + exchange.At.Round(0).Sub(at),
			// The host measured the round trip with its own clock, whose seconds are not exactly
			// ours.
			Uncertainty: host.stretched(float64(exchange.Uncertainty)) + host.UncertaintyAt(at)}
	}
	return readings
}
