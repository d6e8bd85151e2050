package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Trend is the trend of a series.
type Trend struct {
	Slope    float64  // by Theil and Sen, per unit of x; NaN when all x are equal
	Interval Interval // of the slope; not known with too few values
	Test     Test     // by Mann and Kendall: Greater means that the series grows, Less that it falls
}

// TrendOf is the trend of y over x; all values must be finite. The slope is the median of
// the slopes of all pairs (Theil 1950; Sen, Journal of the American Statistical Association
// 63, 1968). Its interval comes from the normal distribution of Kendall's statistic (after
// Sen, with the ends rounded outwards). The test of Mann and Kendall is exact without ties
// up to 100 values, and corrected for them otherwise (Hollander and Wolfe, 8.1). Apart from
// the trend, values must not depend on each other.
func TrendOf(x, y []float64, confidence float64) Trend {
	var slopes []float64
	s := 0 // Kendall's statistic: pairs that grow minus pairs that fall
	for i := range x {
		for j := range i {
			if x[i] == x[j] {
				continue
			}
			slope := (y[i] - y[j]) / (x[i] - x[j])
			slopes = append(slopes, slope)
			switch {
			case slope > 0:
				s++
			case slope < 0:
				s--
			}
		}
	}
	slices.Sort(slopes)
	trend := Trend{Slope: Median(slopes), Interval: unknown, Test: mannKendall(s, x, y)}
	reach := distuv.UnitNormal.Quantile(0.5+confidence/2) * math.Sqrt(kendallVariance(x, y))
	low := int(math.Floor((float64(len(slopes)) - reach) / 2))
	high := int(math.Ceil((float64(len(slopes))+reach)/2)) + 1
	if low >= 1 && high <= len(slopes) {
		trend.Interval = Interval{slopes[low-1], slopes[high-1]}
	}
	return trend
}

// kendallVariance is the variance of Kendall's statistic when there is no trend.
func kendallVariance(x, y []float64) float64 {
	n := float64(len(x))
	tx, ty := ties(x), ties(y)
	variance := n * (n - 1) * (2*n + 5)
	var pairs, triples [2]float64
	for i, groups := range [][]float64{tx, ty} {
		for _, t := range groups {
			variance -= t * (t - 1) * (2*t + 5)
			pairs[i] += t * (t - 1)
			triples[i] += t * (t - 1) * (t - 2)
		}
	}
	variance /= 18
	if n > 2 {
		variance += triples[0]*triples[1]/(9*n*(n-1)*(n-2)) + pairs[0]*pairs[1]/(2*n*(n-1))
	}
	return variance
}

// ties are the sizes of the groups of two or more equal values.
func ties(values []float64) []float64 {
	sorted := slices.Sorted(slices.Values(values))
	var groups []float64
	for from := 0; from < len(sorted); {
		to := from + 1
		for to < len(sorted) && sorted[to] == sorted[from] {
			to++
		}
		if to-from > 1 {
			groups = append(groups, float64(to-from))
		}
		from = to
	}
	return groups
}

func mannKendall(s int, x, y []float64) Test {
	n := len(x)
	if n < 2 {
		return Test{1, 1, 1}
	}
	if len(ties(x))+len(ties(y)) > 0 || n > exactTrend {
		// One pair more or less changes the statistic by 2, so half a step is 1.
		return normal(float64(s)/2, 0, kendallVariance(x, y)/4)
	}
	// chance[k] is the probability that k pairs grow: the i-th value is greater than any
	// number from 0 to i of the values before it, each with the same probability.
	chance := []float64{1}
	for i := 1; i < n; i++ {
		next := make([]float64, len(chance)+i)
		for k, p := range chance {
			for more := range i + 1 {
				next[k+more] += p / float64(i+1)
			}
		}
		chance = next
	}
	return tails(chance, (s+n*(n-1)/2)/2)
}
