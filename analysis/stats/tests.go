package stats

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Test is the result of a test: probabilities of what was seen, or of something more
// extreme, if nothing differs. They are 1 when there are no values to decide by.
type Test struct {
	Less, Greater float64 // one-sided: that values are less, or that they are greater
	TwoSided      float64
}

func bothSides(less, greater float64) Test {
	return Test{less, greater, min(1, 2*min(less, greater))}
}

// Numbers of values up to which tests use exact distributions. Beyond these, normal
// distributions are within a percent of the exact ones.
const (
	exactPairs = 200
	exactBoth  = 60
	exactTrend = 100
)

// SignedRank is Wilcoxon's signed-rank test of whether values are centred on 0 (Biometrics
// Bulletin 1, 1945; Hollander and Wolfe, Nonparametric Statistical Methods, 3.1). It is
// exact, also with ties, which get the mean of their ranks, because the signs are random:
// within a randomised block, which of two trials runs first is drawn by lot. Zeros are left
// out. Infinite values have the highest ranks.
func SignedRank(values []float64) Test {
	var sizes []float64
	var positive []bool
	for _, value := range values {
		if value != 0 {
			sizes, positive = append(sizes, math.Abs(value)), append(positive, value > 0)
		}
	}
	ranks, tied := doubledRanks(sizes)
	sum, total := 0, 0
	for i, rank := range ranks {
		total += rank
		if positive[i] {
			sum += rank
		}
	}
	n := float64(len(ranks))
	if len(ranks) > exactPairs {
		variance := n*(n+1)*(2*n+1)/24 - tied/48
		return normal(float64(sum)/2, n*(n+1)/4, variance)
	}
	// chance[s] is the probability that the doubled ranks of positive values have the sum s.
	chance := make([]float64, total+1)
	chance[0] = 1
	reached := 0
	for _, rank := range ranks {
		reached += rank
		for s := reached; s >= 0; s-- {
			chance[s] /= 2
			if s >= rank {
				chance[s] += chance[s-rank] / 2
			}
		}
	}
	return tails(chance, sum)
}

// MannWhitney is the test of Wilcoxon, Mann and Whitney (Hollander and Wolfe, 4.1) of
// whether the values of a are less, or greater, than those of b. It is exact up to 60
// values, also with ties; beyond that it uses a normal distribution that is corrected for
// ties.
func MannWhitney(a, b []float64) Test {
	all := slices.Concat(a, b)
	ranks, tied := doubledRanks(all)
	sum := 0
	for _, rank := range ranks[:len(a)] {
		sum += rank
	}
	if len(a) == 0 || len(b) == 0 {
		return Test{1, 1, 1}
	}
	if n, m := float64(len(a)), float64(len(b)); len(all) > exactBoth {
		variance := n * m / 12 * (n + m + 1 - tied/((n+m)*(n+m-1)))
		return normal(float64(sum)/2, n*(n+m+1)/2, variance)
	}
	total := 0
	for _, rank := range ranks {
		total += rank
	}
	// ways[k][s] is the number of ways to draw k of the ranks with sum s.
	ways := make([][]float64, len(a)+1)
	for k := range ways {
		ways[k] = make([]float64, total+1)
	}
	ways[0][0] = 1
	for _, rank := range ranks {
		for k := len(a); k > 0; k-- {
			for s := total; s >= rank; s-- {
				ways[k][s] += ways[k-1][s-rank]
			}
		}
	}
	return tails(ways[len(a)], sum)
}

// doubledRanks are twice the ranks of the values, beginning with 2, so that a mean of ranks
// is a whole number; tied is Σ(t³-t) over the groups of t equal values.
func doubledRanks(values []float64) (ranks []int, tied float64) {
	order := make([]int, len(values))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(values[i], values[j]) })
	ranks = make([]int, len(values))
	for from := 0; from < len(order); {
		to := from + 1
		for to < len(order) && values[order[to]] == values[order[from]] {
			to++
		}
		for _, i := range order[from:to] {
			ranks[i] = from + 1 + to
		}
		t := float64(to - from)
		tied += t*t*t - t
		from = to
	}
	return ranks, tied
}

// tails are the shares of a distribution up to a sum, and from it on.
func tails(weights []float64, sum int) Test {
	var all, upTo, from float64
	for s, weight := range weights {
		all += weight
		if s <= sum {
			upTo += weight
		}
		if s >= sum {
			from += weight
		}
	}
	return bothSides(upTo/all, from/all)
}

// normal is a test with the normal distribution and a correction for continuity.
func normal(value, mean, variance float64) Test {
	if variance <= 0 {
		return Test{1, 1, 1}
	}
	cdf := func(by float64) float64 { return distuv.UnitNormal.CDF((value - mean + by) / math.Sqrt(variance)) }
	return bothSides(cdf(0.5), 1-cdf(-0.5))
}

// FewestPairs is the smallest number of pairs with which SignedRank can find anything in a
// family of that many comparisons (see Holm): 2·2^-n · family must be at most alpha.
func FewestPairs(family int, alpha float64) int {
	return int(math.Ceil(math.Log2(2*float64(max(family, 1))/alpha) - 1e-12))
}

// Holm adjusts the probabilities of a family of tests (Scandinavian Journal of Statistics
// 6, 1979). When all results with an adjusted probability of at most alpha are believed,
// the probability that any of them is wrong is at most alpha, however the tests depend on
// each other. NaN stands for no test, and stays NaN.
func Holm(p []float64) []float64 {
	adjusted := slices.Clone(p)
	var order []int
	for i, value := range p {
		if !math.IsNaN(value) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(p[i], p[j]) })
	most := 0.0
	for rank, i := range order {
		most = max(most, min(1, p[i]*float64(len(order)-rank)))
		adjusted[i] = most
	}
	return adjusted
}
