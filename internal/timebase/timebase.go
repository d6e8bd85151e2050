// Package timebase brings the times of every machine of a testbed onto one time
// base, the controller's, and says how certain they are then.
//
// It is pure: it works on readings of clocks that others have taken. A reading
// is a bound and no deviation, so nothing is averaged: what a clock may have
// said at a moment is what every reading allows, widened by how fast the clock
// may drift (Marzullo and Owicki, Maintaining the Time in a Distributed System,
// 1983; the rate is bounded by all pairs of readings as in Duda, Harrus, Haddad
// and Bernard, Estimating Global Time in Distributed Systems, 1987). The middle
// of that interval is the estimate, half of its width is the uncertainty.
//
// It promises that a time lies within the uncertainty that it is given with, as
// long as the readings keep their bounds and the clocks the bounds of Options,
// and that a clock that was set is found as soon as two readings show it: a
// *JumpError, never an estimate between both.
//
// Dangerous: a clock that is set by less than its readings' uncertainty, or
// there and back between two readings, cannot be found; it is then as wrong as
// that. A guest's clock may step once, in the stall that NewGuest is told: told
// none, or the wrong one, it finds a jump.
package timebase

import (
	"errors"
	"fmt"
	"time"
)

// Reading is one exchange with another clock: at a moment of ours, it was Ahead
// of ours, give or take Uncertainty (half of the exchange's round trip, a bound
// and no deviation).
type Reading struct {
	At          time.Time
	Ahead       time.Duration
	Uncertainty time.Duration
}

// Interval is from a moment to a later one. The zero one is none at all.
type Interval struct {
	From, To    time.Time
	Uncertainty time.Duration // of either end
}

// IsZero says whether it is none.
func (i Interval) IsZero() bool { return i.From.IsZero() && i.To.IsZero() }

// ErrNoReadings is a clock, or a side of a guest's stall, that nobody has read.
var ErrNoReadings = errors.New("nobody has read it")

// JumpError is a clock that was set while it was read: between two readings it
// went further than they and its drift allow.
type JumpError struct {
	Machine string
	Since   time.Time     // on our clock: until here its time went on as before
	At      time.Time     // on our clock: the first moment that shows the jump
	By      time.Duration // how far it went forward; below 0: back
}

func (e *JumpError) Error() string {
	return fmt.Sprintf("the clock of %s was set by %s between %s and %s: its times cannot be put onto the controller's",
		e.Machine, e.By, e.Since.UTC().Format(time.RFC3339Nano), e.At.UTC().Format(time.RFC3339Nano))
}

// Compose turns exchanges of a host with another machine, at times of the
// host's clock, into readings of that machine's clock against ours: the
// machine is ahead of us what it is ahead of the host, and the host of us, and
// both are uncertain.
func Compose(exchanges []Reading, host *Clock) []Reading {
	readings := make([]Reading, len(exchanges))
	for i, exchange := range exchanges {
		at := host.Ours(exchange.At)
		readings[i] = Reading{At: at, Ahead: exchange.Ahead + exchange.At.Round(0).Sub(at),
			// The round trip was timed by the host, whose seconds are not quite ours.
			Uncertainty: host.stretched(float64(exchange.Uncertainty)) + host.UncertaintyAt(at)}
	}
	return readings
}
