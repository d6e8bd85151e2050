package trial

import "heliotrope/internal/cause"

// Outcome is how one attempt of a trial ended.
type Outcome struct {
	Verdict Verdict
	Cause   cause.Code
}

// Standing says whether a trial is to be tried again after its attempts so far.
type Standing int

// The standings.
const (
	Open    Standing = iota // it is tried again
	Late                    // it is tried again, after the other trials of its block
	Settled                 // it is not tried again
)

// infrastructureAttempts is how many attempts of a trial the infrastructure (a host, a worker or
// the connection to them) may end before the trial's block continues without it. After as many
// again, the trial is given up.
const infrastructureAttempts = 10

// Settle returns how a trial stands after its attempts, of which at most `attempts` may be
// invalid. A result settles a trial, and so does bad input. Cancelled attempts do not count.
// Attempts that the infrastructure ended have a limit of their own: they say nothing about the
// trial.
func Settle(outcomes []Outcome, attempts int) Standing {
	invalid, ended := 0, 0
	for _, outcome := range outcomes {
		switch {
		case outcome.IsResult() || outcome.Cause == cause.BadInput:
			return Settled
		case outcome.Verdict == Skipped || outcome.Cause == cause.Cancelled:
		case outcome.Cause == cause.Infrastructure:
			ended++
		default:
			invalid++
		}
	}
	switch {
	case invalid >= max(1, attempts) || ended >= 2*infrastructureAttempts:
		return Settled
	case ended >= infrastructureAttempts:
		return Late
	}
	return Open
}

// IsResult reports whether the attempt measured the system under test, or its failure.
func (o Outcome) IsResult() bool { return o.Verdict == Valid || o.Verdict == TargetFailed }
