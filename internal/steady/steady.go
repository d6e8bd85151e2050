// Package steady judges whether a load is steady, after the SNIA's Solid State
// Storage Performance Test Specification (version 2.0.1, 2.1.24): over a window
// of rounds,
//
//	range = (highest − lowest round) / average round
//	slope = |fit(last round) − fit(first round)| / average round
//
// with the line of best fit by least squares over the rounds' numbers; both in
// percent, and the load is steady when neither is above its limit.
//
// It is pure: it is asked while a load runs, and again from its raw data.
//
// Dangerous: a window without a single I/O is not steady, however level it is;
// and rounds must be of equal lengths.
package steady

import (
	"math"
	"slices"
	"time"
)

// Verdict on the last rounds of a load.
type Verdict struct {
	Steady bool
	// Judged says that there were enough rounds, and I/O in them: otherwise
	// the percentages are 0 and say nothing.
	Judged       bool
	RangePercent float64
	SlopePercent float64
	Rounds       int // that there were, the window's among them
}

// Judge looks at the last window of the rounds' IOPS; a window has two rounds
// at least.
func Judge(roundsIOPS []float64, window int, rangePercent, slopePercent float64) Verdict {
	verdict := Verdict{Rounds: len(roundsIOPS)}
	if window < 2 || len(roundsIOPS) < window {
		return verdict
	}
	last := roundsIOPS[len(roundsIOPS)-window:]
	var sum float64
	for _, iops := range last {
		sum += iops
	}
	average := sum / float64(window)
	if !(average > 0) || math.IsInf(average, 0) {
		return verdict
	}
	verdict.Judged = true
	verdict.RangePercent = 100 * (slices.Max(last) - slices.Min(last)) / average
	verdict.SlopePercent = 100 * math.Abs(perRound(last, average)) * float64(window-1) / average
	verdict.Steady = verdict.RangePercent <= rangePercent && verdict.SlopePercent <= slopePercent
	return verdict
}

// perRound is what the line of best fit gains from a round to the next.
func perRound(rounds []float64, average float64) float64 {
	middle := float64(len(rounds)-1) / 2
	var products, squares float64
	for i, iops := range rounds {
		products += (float64(i) - middle) * (iops - average)
		squares += (float64(i) - middle) * (float64(i) - middle)
	}
	return products / squares
}

// Rounds counts completions by whole rounds from a moment to another, both in ns
// since 1970 UTC; what is left over at the end is no round. A round is from its
// first moment to the one after its last.
type Rounds struct {
	fromNs int64
	round  time.Duration
	counts []int64
}

// NewRounds begins with none completed. There are no rounds when one has no
// length, or nothing is between the two moments.
func NewRounds(fromNs, toNs int64, round time.Duration) *Rounds {
	r := &Rounds{fromNs: fromNs, round: round}
	if round > 0 && toNs > fromNs {
		r.counts = make([]int64, (toNs-fromNs)/round.Nanoseconds())
	}
	return r
}

// Add counts so many completions; they may come in any order, and from outside.
func (r *Rounds) Add(atNs, completions int64) {
	if atNs < r.fromNs || len(r.counts) == 0 {
		return
	}
	if i := (atNs - r.fromNs) / r.round.Nanoseconds(); i < int64(len(r.counts)) {
		r.counts[i] += completions
	}
}

// IOPS are those of each round.
func (r *Rounds) IOPS() []float64 {
	iops := make([]float64, len(r.counts))
	for i, count := range r.counts {
		iops[i] = float64(count) / r.round.Seconds()
	}
	return iops
}
