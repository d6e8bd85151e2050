package answers

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"heliotrope/analysis/group"
	"heliotrope/analysis/stats"
)

// Factors by which groups are compared.
const (
	FactorStorage    = "storage"
	FactorHypervisor = "hypervisor"
)

// pair is the values of a metric in two trials of the same block, or of two consecutive
// ones (see block).
type pair struct {
	a, b   float64
	of, by *one // the trials with a and with b
}

// log is the logarithm of the ratio of the two values.
func (p pair) log() float64 { return math.Log(stats.Ratio(p.a, p.b)) }

// block is the block by which a trial is paired with others. Where cells run in both
// directions in turn, some begin with one direction and some with the other, so only two
// consecutive blocks together (the first and the second, and so on) have each cell in each
// direction.
func (m *material) block(of *one) int32 {
	if m.balanced {
		return twoBlocks(of.row.Block)
	}
	return of.row.Block
}

// pairs are the trials of two groups that are in the same block and both have a value of
// the metric, in the order of the blocks.
func (m *material) pairs(a, b *sample, of *metric) []pair {
	type valued struct {
		value float64
		trial *one
	}
	blocks := map[int32][2][]valued{}
	for side, sample := range []*sample{a, b} {
		for _, trial := range sample.trials {
			if value, known := of.of(trial); known {
				both := blocks[m.block(trial)]
				both[side] = append(both[side], valued{value, trial})
				blocks[m.block(trial)] = both
			}
		}
	}
	var pairs []pair
	for _, block := range slices.Sorted(maps.Keys(blocks)) {
		both := blocks[block]
		for i := range min(len(both[0]), len(both[1])) {
			pairs = append(pairs, pair{both[0][i].value, both[1][i].value, both[0][i].trial, both[1][i].trial})
		}
	}
	return pairs
}

// rivals are two groups that differ in exactly one factor.
type rivals struct {
	factor, aName, bName string
	common               group.Factors // the factors that both have; the factor in which they differ is ""
	direction            string
	a, b                 *sample
}

// without returns a group's factors with one of them removed, and the value of that one.
func without(factors group.Factors, factor string) (group.Factors, string) {
	switch factor {
	case FactorStorage:
		value := factors.Storage
		factors.Storage = ""
		return factors, value
	default:
		value := factors.Hypervisor
		factors.Hypervisor = ""
		return factors, value
	}
}

// rivalsBy are all rivals that differ in a factor: groups of the matrix, in the order of
// the cells.
func (m *material) rivalsBy(factor string) []rivals {
	var all []rivals
	for i, a := range m.groups {
		for _, b := range m.groups[i+1:] {
			common, aName := without(a.factors, factor)
			others, bName := without(b.factors, factor)
			if common != others || aName == bName || a.key.Direction != b.key.Direction || common.Control != "" {
				continue
			}
			all = append(all, rivals{factor, aName, bName, common, a.key.Direction, a, b})
		}
	}
	return all
}

// acrossRTTs groups rivals that have the same names and factors apart from the WAN profile.
func acrossRTTs(all []rivals) [][]rivals {
	type key struct {
		aName, bName, direction string
		common                  group.Factors
	}
	index := map[key]int{}
	var across [][]rivals
	for _, of := range all {
		k := key{of.aName, of.bName, of.direction, of.common}
		k.common.WAN, k.common.RTTMs = "", 0
		i, known := index[k]
		if !known {
			i = len(across)
			index[k] = i
			across = append(across, nil)
		}
		across[i] = append(across[i], of)
	}
	return across
}

// comparisons compares all rivals in each metric.
func (m *material) comparisons(told []*metric) []Comparison {
	all := []Comparison{}
	for _, factor := range []string{FactorStorage, FactorHypervisor} {
		rivals := m.rivalsBy(factor)
		across := acrossRTTs(rivals)
		for _, metric := range told {
			var single, over []Comparison
			for _, of := range rivals {
				c := m.compared(of, metric.Name, m.pairs(of.a, of.b, metric))
				c.CellA, c.CellB = of.a.key.CellID, of.b.key.CellID
				single = append(single, c)
			}
			for _, profiles := range across {
				if len(profiles) < 2 {
					continue
				}
				var pairs []pair
				for _, of := range profiles {
					pairs = append(pairs, m.pairs(of.a, of.b, metric)...)
				}
				c := m.compared(profiles[0], metric.Name, pairs)
				c.AllRTTs, c.Factors.WAN, c.Factors.RTTMs = true, "", 0
				over = append(over, c)
			}
			adjust(single)
			adjust(over)
			all = append(append(all, over...), single...)
		}
	}
	return all
}

// compared compares A with B by these pairs, without correction for other comparisons.
func (m *material) compared(of rivals, metric string, pairs []pair) Comparison {
	c := Comparison{Factor: of.factor, A: of.aName, B: of.bName, Metric: metric, Direction: of.direction, Factors: of.common, Pairs: len(pairs)}
	var logs, differences, unbroken []float64
	for _, pair := range pairs {
		logs, differences = append(logs, pair.log()), append(differences, stats.Difference(pair.a, pair.b))
		c.ApartHours = max(c.ApartHours, Number(pair.apart().Hours()))
		if m.inFixedOrder(pair) {
			c.FixedOrder++
		}
		if m.acrossBreak(pair) {
			c.AcrossBreaks++
		} else {
			unbroken = append(unbroken, pair.log())
		}
		switch {
		case pair.a < pair.b:
			c.ALess++
		case pair.b < pair.a:
			c.BLess++
		}
	}
	ratio := stats.Default.Median(logs).Map(math.Exp)
	c.Ratio, c.RatioLow, c.RatioHigh = Number(math.Exp(stats.Median(logs))), Number(ratio.Low), Number(ratio.High)
	difference := stats.Default.Median(differences)
	c.Difference, c.DifferenceLow, c.DifferenceHigh = Number(stats.Median(differences)), Number(difference.Low), Number(difference.High)
	c.Tested = tested(logs)
	if c.Unbroken = c.Tested; c.AcrossBreaks > 0 {
		c.Unbroken = tested(unbroken)
	}
	return c
}

// tested tests the logarithms of ratios, without correction for other tests.
func tested(logs []float64) Tested {
	if len(logs) == 0 {
		return Tested{P: Unknown, AdjustedP: Unknown, Verdict: Undecided}
	}
	test := stats.SignedRank(logs)
	return Tested{P: Number(test.TwoSided), AdjustedP: Unknown, Verdict: side(test)}
}

// side is the side to which a test tends.
func side(test stats.Test) Verdict {
	switch {
	case test.Less < test.Greater:
		return Less
	case test.Greater < test.Less:
		return Greater
	}
	return Undecided
}

// adjust corrects one family of comparisons, with all pairs and with those that no break
// parts.
func adjust(family []Comparison) {
	var all, unbroken []*Tested
	for i := range family {
		all, unbroken = append(all, &family[i].Tested), append(unbroken, &family[i].Unbroken)
	}
	tests := correct(all)
	correct(unbroken)
	for i := range family {
		family[i].Family, family[i].WantPairs = tests, stats.FewestPairs(tests, alpha)
	}
}

// correct corrects one family of tests by Holm's method: those that are then not certain
// enough become undecided. It returns how many tests there are: those with a probability.
func correct(family []*Tested) (tests int) {
	p := make([]float64, len(family))
	for i, of := range family {
		if p[i] = float64(of.P); of.P.Known() {
			tests++
		}
	}
	for i, adjusted := range stats.Holm(p) {
		family[i].AdjustedP = Number(adjusted)
		if !(adjusted <= alpha) { // also true of NaN
			family[i].Verdict = Undecided
		}
	}
	return tests
}

// crossovers finds the crossover of each two storages that were compared at several round
// trips. Their comparisons decide whether there is one.
func (m *material) crossovers(told []*metric, compared []Comparison) []Crossover {
	all := []Crossover{}
	decided := map[comparedCells]Comparison{}
	for _, c := range compared {
		if !c.AllRTTs {
			decided[comparedCells{c.CellA, c.CellB, c.Direction, c.Metric}] = c
		}
	}
	for _, profiles := range acrossRTTs(m.rivalsBy(FactorStorage)) {
		slices.SortStableFunc(profiles, func(a, b rivals) int { return cmp.Compare(a.common.RTTMs, b.common.RTTMs) })
		same := slices.CompactFunc(slices.Clone(profiles), func(a, b rivals) bool { return a.common.RTTMs == b.common.RTTMs })
		first := profiles[0]
		if len(same) < len(profiles) {
			m.notes = append(m.notes, fmt.Sprintf("%s and %s, %s: no crossover over the round trip is looked for, as several WAN profiles have the same", first.aName, first.bName, first.direction))
			continue
		}
		for _, metric := range told {
			if of, any := m.crossover(profiles, metric, decided); any {
				all = append(all, of)
			}
		}
	}
	return all
}

// comparedCells are two cells that are compared in a metric.
type comparedCells struct{ a, b, direction, metric string }

// crossover finds a metric's crossover over the profiles at which there are pairs; false
// where there are fewer than two such profiles.
func (m *material) crossover(profiles []rivals, of *metric, decided map[comparedCells]Comparison) (Crossover, bool) {
	first := profiles[0]
	c := Crossover{A: first.aName, B: first.bName, Metric: of.Name, Direction: first.direction, Factors: first.common, Points: []Point{}}
	c.Factors.WAN, c.Factors.RTTMs = "", 0
	var x []float64
	var logs [][]float64
	for _, profile := range profiles {
		var at []float64
		for _, pair := range m.pairs(profile.a, profile.b, of) {
			at = append(at, pair.log())
		}
		if len(at) > 0 {
			x, logs = append(x, profile.common.RTTMs), append(logs, at)
			by := decided[comparedCells{profile.a.key.CellID, profile.b.key.CellID, profile.direction, of.Name}]
			c.Points = append(c.Points, Point{RTTMs: profile.common.RTTMs, Pairs: len(at), Ratio: Number(math.Exp(stats.Median(at))), Verdict: by.Verdict, FixedOrder: by.FixedOrder})
		}
	}
	if len(x) < 2 {
		return c, false
	}
	c.Verdict = crossoverVerdict(c, len(profiles))
	c.FromRTTMs, c.ToRTTMs = x[0], x[len(x)-1]
	found := stats.Default.CrossoverOf(x, logs)
	c.Crosses, c.At, c.Low, c.High = found.Crosses, Number(found.At), Number(found.Interval.Low), Number(found.Interval.High)
	c.None, c.Several = Number(found.None), Number(found.Several)
	switch found.Below {
	case -1:
		c.Below = c.A
	case 1:
		c.Below = c.B
	}
	return c, true
}

// crossoverVerdict decides by the verdicts at the points: two storages change places where
// these contradict each other, and do not where they are the same at all profiles.
func crossoverVerdict(c Crossover, profiles int) CrossoverVerdict {
	same := func(p Point) bool { return p.Verdict == c.Points[0].Verdict && p.Verdict != Undecided }
	switch {
	case len(c.Turns()) > 0:
		return Crosses
	case len(c.Points) == profiles && !slices.ContainsFunc(c.Points, func(p Point) bool { return !same(p) }):
		return CrossesNowhere
	}
	return CrossoverUndecided
}
