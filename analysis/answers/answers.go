// Package answers answers a campaign's questions from its tables: how large effects are,
// how certain, which storage is better where, and whether published results are reproduced.
//
// It promises that every figure comes from trials of one group (package group); that the
// unit is the migration (a percentile of I/Os is one value of its migration, and the figure
// of a cell is the median over migrations); that failed trials stay in as ∞ for metrics in
// which a failure never ends; that storages and hypervisors are compared only within
// blocks; and that the same rows give the same figures to the last digit: the seed of the
// random numbers is part of the answer. The methods are those of package stats.
// docs/statistics.md has their formulas, sources and limits.
//
// Dangerous: figures from a simulated testbed describe the model, whatever they seem to say
// about storages. Code that shows any of them must show Answers.TestbedKind first.
package answers

import (
	"encoding/json"
	"math"
	"strconv"

	"heliotrope/analysis/group"
)

// Number is a figure. In JSON, a figure that is not known (NaN) is null, and infinite ones
// are the strings "Infinity" and "-Infinity", which JavaScript's Number and Python's float
// accept.
type Number float64

// Unknown is a Number that is not known.
var Unknown = Number(math.NaN())

// Known says whether the number is known; ±∞ counts as known.
func (n Number) Known() bool { return !math.IsNaN(float64(n)) }

// MarshalJSON implements json.Marshaler. It never fails.
func (n Number) MarshalJSON() ([]byte, error) {
	switch v := float64(n); {
	case math.IsNaN(v):
		return []byte("null"), nil
	case math.IsInf(v, 1):
		return []byte(`"Infinity"`), nil
	case math.IsInf(v, -1):
		return []byte(`"-Infinity"`), nil
	default:
		return json.Marshal(v)
	}
}

// UnmarshalJSON implements json.Unmarshaler. It accepts what MarshalJSON writes.
func (n *Number) UnmarshalJSON(text []byte) error {
	switch string(text) {
	case "null":
		*n = Unknown
	case `"Infinity"`:
		*n = Number(math.Inf(1))
	case `"-Infinity"`:
		*n = Number(math.Inf(-1))
	default:
		return json.Unmarshal(text, (*float64)(n))
	}
	return nil
}

// String shows three significant digits, or all digits before the point when there are
// more; – when the number is not known.
func (n Number) String() string {
	v := float64(n)
	switch magnitude := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case math.IsInf(v, 1):
		return "∞"
	case math.IsInf(v, -1):
		return "-∞"
	case magnitude >= 1e6:
		return strconv.FormatFloat(v, 'g', 3, 64)
	case magnitude >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case magnitude >= 9.995:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case magnitude >= 0.1 || magnitude == 0:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// Verdict is the verdict of a comparison.
type Verdict string

// Verdicts say how the first of two compares with the second. Undecided ones may still
// differ: the trials do not show it.
const (
	Greater   Verdict = "greater" // longer, more
	Less      Verdict = "less"    // shorter, less
	Undecided Verdict = "undecided"
)

// Answers are the answers of one campaign.
type Answers struct {
	TestbedKind string  `json:"testbed_kind"` // always shown first: "simulated" is no measurement
	Campaign    string  `json:"campaign"`
	Confidence  float64 `json:"confidence"` // of all intervals: 0.95
	Seed        uint64  `json:"seed"`       // of the bootstrap
	Resamples   int     `json:"resamples"`  // of each bootstrap
	Metrics     []About `json:"metrics"`    // all metrics that have figures, in the order of Cell.Estimates
	// Cells are ordered by their factors: hypervisor, access specification, round trip,
	// profile, memory, storage, migration, control, direction.
	Cells       []Cell       `json:"cells"`
	Comparisons []Comparison `json:"comparisons"`
	Crossovers  []Crossover  `json:"crossovers"`
	Sentinel    []Trend      `json:"sentinel"` // one for each watched metric; empty without a sentinel
	Claims      []Claim      `json:"claims"`   // for each hypervisor; see claims.go
	Notes       []string     `json:"notes"`    // for people: what the figures leave out
}

// About describes a metric.
type About struct {
	Name string `json:"name"` // its name in MetricNames: max_response_ms
	Unit string `json:"unit"` // ms, s, MB (10^6 bytes), Mbit/s, 1/s
	Says string `json:"says"` // in words
	// FailedIsInfinite says that a failed trial counts as a value above all others. Without
	// it a failed trial has no value, and figures are of valid trials only.
	FailedIsInfinite bool `json:"failed_is_infinite"`
	LessIsBetter     bool `json:"less_is_better"`
}

// Cell is a group: a cell of the matrix or a control, in one direction.
type Cell struct {
	ID        string        `json:"cell_id"`
	Direction string        `json:"direction"`
	Factors   group.Factors `json:"factors"`
	Results   int           `json:"results"`   // valid and target-failed trials
	Failures  Rate          `json:"failures"`  // target-failed, of the results
	Invalid   Rate          `json:"invalid"`   // trials that stayed invalid, of those that ran
	Estimates []Estimate    `json:"estimates"` // of each of Answers.Metrics
}

// Estimate returns the estimate of a metric; its N is 0 when there is none.
func (c Cell) Estimate(metric string) Estimate {
	for _, estimate := range c.Estimates {
		if estimate.Metric == metric {
			return estimate
		}
	}
	return Estimate{Metric: metric, Median: Unknown, Low: Unknown, High: Unknown, HalfWidthPercent: Unknown}
}

// Estimate is the median of a metric over migrations, with its interval.
type Estimate struct {
	Metric   string `json:"metric"`
	N        int    `json:"n"`        // migrations that have a value
	Infinite int    `json:"infinite"` // of them
	Median   Number `json:"median"`   // not known when N is 0
	// Low and High are the ends of the median's interval (BCa bootstrap); not known with
	// fewer than stats.FewestForInterval values.
	Low  Number `json:"low"`
	High Number `json:"high"`
	// HalfWidthPercent is half of High minus Low, in percent of the median; not known when
	// one of them is infinite.
	HalfWidthPercent Number `json:"half_width_percent"`
	// MoreTrials forecasts how many more results are needed until HalfWidthPercent is 5; 0
	// when it is already. Nil when there are too few values for a forecast, or infinite
	// ones.
	MoreTrials *int `json:"more_trials"`
}

// Rate is a share of trials, with an exact interval (Clopper and Pearson).
type Rate struct {
	Count int    `json:"count"`
	Of    int    `json:"of"`
	Share Number `json:"share"` // 0 to 1; not known when Of is 0
	Low   Number `json:"low"`
	High  Number `json:"high"`
}

// Comparison compares one storage or hypervisor with another one, in the same blocks and
// with all other factors and the direction equal.
type Comparison struct {
	Factor    string `json:"factor"` // storage, hypervisor
	A         string `json:"a"`      // the factor's values: drbd C
	B         string `json:"b"`      // nfs
	Metric    string `json:"metric"`
	Direction string `json:"direction"`
	// Factors are those that both have; the compared factor is "". When AllRTTs is set, WAN
	// is "" and RTTMs 0.
	Factors group.Factors `json:"factors"`
	// AllRTTs says that the pairs are of all WAN profiles together; each pair is of one
	// profile.
	AllRTTs bool   `json:"all_rtts"`
	CellA   string `json:"cell_a,omitempty"` // IDs; "" when AllRTTs is set
	CellB   string `json:"cell_b,omitempty"`
	Pairs   int    `json:"pairs"`  // number of pairs: trials of the same block that both have a value
	ALess   int    `json:"a_less"` // pairs in which A has the smaller value
	BLess   int    `json:"b_less"`
	// Ratio is the median of A/B over the pairs, with its interval (BCa); it is above 1
	// when A is greater. Two failures are a ratio of 1; a failure of only B or only A is 0
	// or ∞.
	Ratio     Number `json:"ratio"`
	RatioLow  Number `json:"ratio_low"`
	RatioHigh Number `json:"ratio_high"`
	// Difference is the median of A−B over the pairs, in the metric's unit.
	Difference     Number `json:"difference"`
	DifferenceLow  Number `json:"difference_low"`
	DifferenceHigh Number `json:"difference_high"`
	// Tested decides, by Holm over Family comparisons: those of the same factor and metric,
	// with AllRTTs all set or all not set.
	Tested
	Family int `json:"family"`
	// WantPairs is the smallest number of pairs with which a family of this size can decide
	// anything, even when A is less in every pair.
	WantPairs int `json:"want_pairs"`
	Apart
}

// Tested is the result of the exact two-sided signed-rank test of log(A/B).
type Tested struct {
	P         Number  `json:"p"`
	AdjustedP Number  `json:"adjusted_p"` // Holm's, over the family of the test
	Verdict   Verdict `json:"verdict"`    // of A against B, by AdjustedP
}

// Apart says how far apart in time the two trials of pairs are.
type Apart struct {
	// ApartHours is the longest time between the beginnings of the two trials of a pair; 0
	// without pairs.
	ApartHours Number `json:"apart_hours"`
	// FixedOrder counts pairs of two blocks in which A's trial was planned to be always
	// first, or always last (see fixedUpTo): no lot decided about the sign of these pairs.
	FixedOrder int `json:"fixed_order"`
	// AcrossBreaks counts pairs with a break of the campaign between their trials (see
	// breakLength). Unbroken is the test without these pairs. It decides nothing.
	AcrossBreaks int    `json:"across_breaks"`
	Unbroken     Tested `json:"unbroken"`
}

// CrossoverVerdict says whether two storages change places.
type CrossoverVerdict string

// Verdicts on crossovers, by the verdicts of the comparisons at each round trip.
const (
	Crosses            CrossoverVerdict = "crosses" // decided one way at one round trip, and the other way at another
	CrossesNowhere     CrossoverVerdict = "none"    // decided the same way at every round trip
	CrossoverUndecided CrossoverVerdict = "undecided"
)

// Crossover is the round trip at which two storages change places in a metric.
type Crossover struct {
	A         string        `json:"a"`
	B         string        `json:"b"`
	Metric    string        `json:"metric"`
	Direction string        `json:"direction"`
	Factors   group.Factors `json:"factors"` // factors that both have, without storage, WAN and round trip
	FromRTTMs float64       `json:"from_rtt_ms"`
	ToRTTMs   float64       `json:"to_rtt_ms"`
	Points    []Point       `json:"points"` // by round trip
	// Verdict is the answer. What follows it are figures that show no crossover by
	// themselves: the medians of two equal storages cross, too.
	Verdict CrossoverVerdict `json:"verdict"`
	// Crosses says whether the medians cross in the range of round trips, and At where;
	// when they do so several times, At is the shortest such round trip. At shorter ones,
	// the storage in Below has the smaller median.
	Crosses bool   `json:"medians_cross"`
	At      Number `json:"at_rtt_ms"`
	Low     Number `json:"low_rtt_ms"` // interval of At, over the resamples that cross
	High    Number `json:"high_rtt_ms"`
	Below   string `json:"below"` // A's or B's name; without a crossing the one with less everywhere; "" when neither has
	// None is the share of resamples without a crossing, and Several of those with more than
	// one. They are no probabilities that there is none, or that there are several.
	None    Number `json:"none_share"`
	Several Number `json:"several_share"`
}

// Turns are the points around the decided changes of places, by round trip: of each change
// the last decided point before it, and the first after it. There are none unless Verdict is
// Crosses.
func (c Crossover) Turns() []Point {
	var turns []Point
	var last Point
	for _, point := range c.Points {
		switch {
		case point.Verdict == Undecided:
			continue
		case last.Verdict == "" || last.Verdict == point.Verdict:
		case len(turns) > 0 && turns[len(turns)-1].RTTMs == last.RTTMs:
			turns = append(turns, point)
		default:
			turns = append(turns, last, point)
		}
		last = point
	}
	return turns
}

// Least is the storage that has less at a point; "" where that is not decided.
func (c Crossover) Least(at Point) string {
	return map[Verdict]string{Less: c.A, Greater: c.B}[at.Verdict]
}

// Point is the median ratio of two storages at one round trip.
type Point struct {
	RTTMs      float64 `json:"rtt_ms"`
	Pairs      int     `json:"pairs"`
	Ratio      Number  `json:"ratio"`       // A/B
	Verdict    Verdict `json:"verdict"`     // of their Comparison at this round trip
	FixedOrder int     `json:"fixed_order"` // of that Comparison
}

// Trend is a metric's trend over the sentinel's trials of one lane. They repeat the same
// trial on the same testbed, so a slope comes from the testbed.
type Trend struct {
	Lane   string  `json:"lane"`
	Metric string  `json:"metric"`
	N      int     `json:"n"`
	Hours  float64 `json:"hours"` // from the first trial to the last
	Median Number  `json:"median"`
	// PercentPerHour is the slope by Theil and Sen, in percent of the median, with its
	// interval.
	PercentPerHour Number  `json:"percent_per_hour"`
	Low            Number  `json:"low"`
	High           Number  `json:"high"`
	P              Number  `json:"p"`          // test by Mann and Kendall, two-sided
	AdjustedP      Number  `json:"adjusted_p"` // Holm's, over the watched metrics of all lanes
	Verdict        Verdict `json:"verdict"`    // Greater: the metric grows
}

// ClaimVerdict is the verdict on a published claim.
type ClaimVerdict string

// Verdicts of claims; Untested says that the campaign has no trials for it.
const (
	Reproduced     ClaimVerdict = "reproduced"
	NotReproduced  ClaimVerdict = "not reproduced"
	ClaimUndecided ClaimVerdict = "undecided"
	Untested       ClaimVerdict = "untested"
)

// Claim is a published claim, in words that were fixed before there were data.
type Claim struct {
	ID         string `json:"id"` // network-bandwidth, maximum-response-time
	Source     string `json:"source"`
	Statement  string `json:"statement"`  // what was published
	Hypothesis string `json:"hypothesis"` // what is tested, and what leads to which verdict
	Hypervisor string `json:"hypervisor"`
	Metric     string `json:"metric"`
	// Against compares DRBD with each of its rivals, iSCSI and NFS. The pairs are of all
	// WAN profiles, directions and loads together.
	Against []Rival      `json:"against"`
	Verdict ClaimVerdict `json:"verdict"`
	Why     string       `json:"why"` // the figures behind the verdict, in a sentence
	// Beside are other readings of the same claim. They do not change the verdict.
	Beside []Rival `json:"beside"`
}

// Rival compares DRBD with one rival in one metric.
type Rival struct {
	Metric    string `json:"metric"`
	Rival     string `json:"rival"` // iscsi, nfs
	Pairs     int    `json:"pairs"`
	Less      int    `json:"less"` // pairs in which DRBD has the smaller value
	RivalLess int    `json:"rival_less"`
	Ratio     Number `json:"ratio"` // DRBD/rival
	RatioLow  Number `json:"ratio_low"`
	RatioHigh Number `json:"ratio_high"`
	// Tested is by Holm over both claims and both rivals. In Claim.Beside AdjustedP is not
	// known, and Verdict is the side to which the pairs tend, no matter how certain that is.
	Tested
	Apart
}
