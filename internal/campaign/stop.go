package campaign

import (
	"math"
	"slices"
)

// StopConfidence is that of the intervals of a median by which a campaign stops, of
// all its looks together.
const StopConfidence = 0.95

// stopGrowth is by how much each look has more repetitions than the one before.
const stopGrowth = 1.25

// Looks are the numbers of repetitions after which it is looked whether a campaign's
// results are precise enough: min · 1.25^j, rounded up, and max. They are fixed
// beforehand, so that their number J is; see package precision.
func (s Stop) Looks() []int {
	var looks []int
	for at := float64(s.Min); math.Ceil(at) < float64(s.Max); at *= stopGrowth {
		looks = append(looks, int(math.Ceil(at)))
	}
	return append(slices.Compact(looks), s.Max)
}

// Error is the probability with which the interval of one look may miss the median.
func (s Stop) Error() float64 { return (1 - StopConfidence) / float64(len(s.Looks())) }

// Fewest is the least number of values that have an interval at a look: their least
// and their greatest miss the median with 2 · 2^-n.
func (s Stop) Fewest() int { return int(math.Ceil(1 - math.Log2(s.Error()))) }
