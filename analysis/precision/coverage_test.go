package precision

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"heliotrope/internal/campaign"
)

// campaigns is how many are simulated: the standard error of a share of 95 % of
// them is 0.22 %.
const campaigns = 10_000

// sources are distributions with their medians.
var sources = map[string]struct {
	draw   func(*rand.Rand) float64
	median float64
}{
	"normal":     {func(r *rand.Rand) float64 { return 100 + 20*r.NormFloat64() }, 100},
	"log-normal": {func(r *rand.Rand) float64 { return 100 * math.Exp(r.NormFloat64()) }, 100},
	// A fifth of the trials fail, so that the median is the exponential's 62.5th percentile.
	"failures": {func(r *rand.Rand) float64 {
		if r.Float64() < 0.2 {
			return math.Inf(1)
		}
		return 100 * (1 + r.ExpFloat64())
	}, 100 * (1 - math.Log(1-0.625))},
	// Most trials lose nothing: a value that occurs again and again.
	"none lost": {func(r *rand.Rand) float64 { return math.Floor(r.Float64() * 1.8) }, 0},
}

// TestCoverageWithStopping: of 10,000 campaigns that end at the first look at which they
// are precise, 95 % or more have an interval that contains the median, however little
// precision is asked for.
func TestCoverageWithStopping(t *testing.T) {
	for name, source := range sources {
		for _, percent := range []float64{10, 30, 60} {
			rule := stop(percent, 5, 60)
			share := ended(source.draw, source.median, rule, rule.Looks(), rule.Error())
			t.Logf("%s, ± %g %%: %.2f %%", name, percent, 100*share)
			if share < 0.95-3*0.0022 {
				t.Errorf("%s, ± %g %%: the median was in %.2f %% of the last intervals", name, percent, 100*share)
			}
		}
	}
}

// TestCoverageOfManyLooks: when the same campaigns are looked at after each block with 95 %
// each time, fewer contain it. So the test above can fail.
func TestCoverageOfManyLooks(t *testing.T) {
	var looks []int
	for block := 5; block <= 60; block++ {
		looks = append(looks, block)
	}
	source := sources["normal"]
	share := ended(source.draw, source.median, once(10, 60), looks, once(10, 60).Error())
	t.Logf("%.2f %%", 100*share)
	if share > 0.93 {
		t.Errorf("with 95 %% after each block the median was in %.2f %%", 100*share)
	}
}

// ended is the share of campaigns whose last interval contains the median: the interval of
// the first look at which a rule finds them precise, or of the last look.
func ended(draw func(*rand.Rand) float64, median float64, rule campaign.Stop, looks []int, alpha float64) float64 {
	random := rand.New(rand.NewPCG(3, uint64(len(looks))))
	held, each := 0, rule.Error()
	for range campaigns {
		var values []float64
		for _, look := range looks {
			for len(values) < look {
				values = append(values, draw(random))
			}
			if !judge(look, values, rule, each).Precise && look != looks[len(looks)-1] {
				continue
			}
			low, high, ok := interval(slices.Sorted(slices.Values(values)), alpha)
			if ok && low <= median && median <= high {
				held++
			}
			break
		}
	}
	return float64(held) / campaigns
}

// TestCoverageWithoutStopping: the interval of a single look contains the median as often
// as the binomial distribution says, which is never less than 95 % and at most 99.2 %.
func TestCoverageWithoutStopping(t *testing.T) {
	for name, source := range sources {
		random := rand.New(rand.NewPCG(1, 2))
		for _, n := range []int{6, 8, 9, 20, 40} {
			held := 0
			for range campaigns {
				values := make([]float64, n)
				for i := range values {
					values[i] = source.draw(random)
				}
				slices.Sort(values)
				if low, high, ok := interval(values, 1-campaign.StopConfidence); ok && low <= source.median && source.median <= high {
					held++
				}
			}
			share, want := float64(held)/campaigns, covers(n)
			if share < want-3*0.0022 || name != "none lost" && share > want+3*0.0022 {
				t.Errorf("%s, %d values: the median was in %.2f %% of the intervals, want %.2f %%", name, n, 100*share, 100*want)
			}
		}
	}
	for n := 6; n <= 300; n++ {
		if covered := covers(n); covered < 0.95 || covered > 0.9922 || n >= 20 && covered > 0.984 {
			t.Errorf("%d values: the interval holds the median with %.2f %%", n, 100*covered)
		}
	}
}

// covers is the probability that an interval of n different values contains the median.
func covers(n int) float64 {
	ranks := make([]float64, n)
	for i := range ranks {
		ranks[i] = float64(i)
	}
	left, _, _ := interval(ranks, 1-campaign.StopConfidence)
	missed := 0.0
	for k := range int(left) + 1 {
		missed += exactly(n, k)
	}
	return 1 - 2*missed
}

// exactly is the binomial probability of k in n with one half each. Computed by logarithms,
// it is accurate to ten digits for any possible number of trials.
func exactly(n, k int) float64 {
	all, _ := math.Lgamma(float64(n + 1))
	some, _ := math.Lgamma(float64(k + 1))
	rest, _ := math.Lgamma(float64(n - k + 1))
	return math.Exp(all - some - rest - float64(n)*math.Ln2)
}
