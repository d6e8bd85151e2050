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
	"iter"
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

// Rounds gives the IOPS of each whole round from a moment to another, both in
// ns since 1970 UTC, of completions in any order; what is left over at the end
// is no round. A round is from its first moment to the one after its last.
func Rounds(completionsNs iter.Seq[int64], fromNs, toNs int64, round time.Duration) []float64 {
	if round <= 0 || toNs <= fromNs {
		return nil
	}
	rounds := make([]float64, (toNs-fromNs)/round.Nanoseconds())
	for at := range completionsNs {
		if at < fromNs {
			continue
		}
		if i := (at - fromNs) / round.Nanoseconds(); i < int64(len(rounds)) {
			rounds[i]++
		}
	}
	for i := range rounds {
		rounds[i] /= round.Seconds()
	}
	return rounds
}
