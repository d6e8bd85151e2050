// Package steady judges whether a load is steady, according to the SNIA's Solid State Storage
// Performance Test Specification (version 2.0.1, 2.1.24). Over a window of rounds,
//
//	range = (highest − lowest round) / average round
//	slope = |fit(last round) − fit(first round)| / average round
//
// where fit is the line of best fit by least squares over the rounds' numbers. Both are in
// percent, and the load is steady when neither exceeds its limit.
//
// It is pure: it is called while a load runs, and again later with the raw data.
//
// Dangerous: a window without a single I/O is not steady, however constant it is; and all rounds
// must have the same length.
package steady

import (
	"math"
	"slices"
	"time"
)

// Verdict is the judgement on the last rounds of a load.
type Verdict struct {
	Steady bool
	// Judged says that there were enough rounds and that they had I/Os: otherwise the percentages
	// are 0 and mean nothing.
	Judged       bool
	RangePercent float64
	SlopePercent float64
	Rounds       int // all rounds, including those of the window
}

// Judge judges the last `window` rounds of the rounds' IOPS; a window must have at least two
// rounds.
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

// perRound returns how much the line of best fit rises from one round to the next.
func perRound(rounds []float64, average float64) float64 {
	middle := float64(len(rounds)-1) / 2
	var products, squares float64
	for i, iops := range rounds {
		products += (float64(i) - middle) * (iops - average)
		squares += (float64(i) - middle) * (float64(i) - middle)
	}
	return products / squares
}

// Rounds counts completions in whole rounds between two moments, both in ns since 1970 UTC; a
// rest at the end is not a round. A round includes its first moment and excludes the first moment
// of the next.
type Rounds struct {
	fromNs int64
	round  time.Duration
	counts []int64
}

// NewRounds returns rounds without completions. There are no rounds when round is not positive,
// or the second moment is not after the first.
func NewRounds(fromNs, toNs int64, round time.Duration) *Rounds {
	r := &Rounds{fromNs: fromNs, round: round}
	if round > 0 && toNs > fromNs {
		r.counts = make([]int64, (toNs-fromNs)/round.Nanoseconds())
	}
	return r
}

// Add counts completions at a time. Times may come in any order; those outside the rounds are
// ignored.
func (r *Rounds) Add(atNs, completions int64) {
	if atNs < r.fromNs || len(r.counts) == 0 {
		return
	}
	if i := (atNs - r.fromNs) / r.round.Nanoseconds(); i < int64(len(r.counts)) {
		r.counts[i] += completions
	}
}

// IOPS returns the IOPS of each round.
func (r *Rounds) IOPS() []float64 {
	iops := make([]float64, len(r.counts))
	for i, count := range r.counts {
		iops[i] = float64(count) / r.round.Seconds()
	}
	return iops
}
