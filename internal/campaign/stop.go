package campaign

import (
	"math"
	"slices"
)

// StopConfidence is the confidence, over all looks together, of the intervals of a median by
// which a campaign stops.
const StopConfidence = 0.95

// stopGrowth is the factor by which each look has more repetitions than the previous one.
const stopGrowth = 1.25

// Looks returns the numbers of repetitions after which the campaign checks whether its results
// are precise enough: min · 1.25^j, rounded up, and max. They are fixed beforehand, and so is
// their number J; see package precision.
func (s Stop) Looks() []int {
	var looks []int
	for at := float64(s.Min); math.Ceil(at) < float64(s.Max); at *= stopGrowth {
		looks = append(looks, int(math.Ceil(at)))
	}
	return append(slices.Compact(looks), s.Max)
}

// Error returns the probability with which the interval of one look may miss the median.
func (s Stop) Error() float64 { return (1 - StopConfidence) / float64(len(s.Looks())) }

// Fewest returns the smallest number of values that have an interval at a look: the interval from
// the smallest to the largest value misses the median with probability 2 · 2^-n.
func (s Stop) Fewest() int { return int(math.Ceil(1 - math.Log2(s.Error()))) }
