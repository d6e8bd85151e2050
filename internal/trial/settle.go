package trial

import "heliotrope/internal/cause"

// Outcome is how one attempt of a trial ended.
type Outcome struct {
	Verdict Verdict
	Cause   cause.Code
}

// Standing is how far a trial has come by its attempts.
type Standing int

// The standings.
const (
	Open    Standing = iota // it is tried again
	Late                    // it is tried again, after the others of its block
	Settled                 // it is not tried again
)

// infrastructureAttempts is how often a host, a worker or the way to them may end an
// attempt of a trial before its block goes on without it. As often again, and the trial
// is given up.
const infrastructureAttempts = 10

// Settle says how a trial stands after its attempts, of which at most so many may be
// invalid. A result settles it, and so does a trial that cannot be. Attempts that
// somebody cancelled do not count, and those that the infrastructure ended have a
// number of their own: they say nothing of the trial.
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

// IsResult says whether the attempt measured the system under test, or its failure.
func (o Outcome) IsResult() bool { return o.Verdict == Valid || o.Verdict == TargetFailed }
