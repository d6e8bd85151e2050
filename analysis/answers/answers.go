// Package answers answers a campaign's questions from its tables: how large, how
// sure, which storage is better where, and whether what was published is seen again.
//
// It promises that every figure is of trials of one group (package group), that
// the unit is the migration (a percentile of I/Os is one value of its migration,
// and what is told of a cell is the median over migrations), that trials which
// failed stay in as ∞ where a metric has no end for them, that storages and
// hypervisors are compared inside blocks only, and that the same rows give the same
// figures to the last digit: the random numbers' seed is part of the answer. The
// methods are package stats', and docs/statistics.md has their formulas, their
// sources and what they do not say.
//
// Dangerous: what a simulated testbed answers is the model's, whatever it says of
// storages. Whoever shows any of it names Answers.TestbedKind first.
package answers

import (
	"encoding/json"
	"math"
	"strconv"

	"heliotrope/analysis/group"
)

// Number is a figure. In JSON one that is not known (NaN) is null, and infinite ones
// are the strings "Infinity" and "-Infinity", which JavaScript's Number and Python's
// float understand.
type Number float64

// Unknown is a Number that is not known.
var Unknown = Number(math.NaN())

// Known says whether there is one; ±∞ is known.
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

// UnmarshalJSON implements json.Unmarshaler: it takes what MarshalJSON writes.
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

// String has three significant digits, or all before the point; – when it is not known.
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

// Verdict of a comparison.
type Verdict string

// Verdicts of comparisons: of the first of the two against the second. What was
// not decided may still differ: the trials do not show it.
const (
	Greater   Verdict = "greater" // longer, more
	Less      Verdict = "less"    // shorter, less
	Undecided Verdict = "undecided"
)

// Answers of one campaign.
type Answers struct {
	TestbedKind string  `json:"testbed_kind"` // first of all: "simulated" is no measurement
	Campaign    string  `json:"campaign"`
	Confidence  float64 `json:"confidence"` // of all intervals: 0.95
	Seed        uint64  `json:"seed"`       // of the bootstrap
	Resamples   int     `json:"resamples"`  // of each bootstrap
	Metrics     []About `json:"metrics"`    // that anything is told of, in the order of Cell.Estimates
	// Cells in the order of their factors: hypervisor, access specification, round
	// trip, profile, memory, storage, migration, control, direction.
	Cells       []Cell       `json:"cells"`
	Comparisons []Comparison `json:"comparisons"`
	Crossovers  []Crossover  `json:"crossovers"`
	Sentinel    []Trend      `json:"sentinel"` // for each metric that is watched; none without a sentinel
	Claims      []Claim      `json:"claims"`   // for each hypervisor, as stated in claims.go
	Notes       []string     `json:"notes"`    // what the figures leave out, for people
}

// About is a metric.
type About struct {
	Name string `json:"name"` // as Value knows it: max_response_ms
	Unit string `json:"unit"` // ms, s, MB (10^6 bytes), Mbit/s, 1/s
	Says string `json:"says"` // in words
	// FailedIsInfinite: a trial that failed is a value above all others; otherwise
	// it has none, and the valid trials alone are told of.
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

// Estimate returns that of a metric; its N is 0 when there is none.
func (c Cell) Estimate(metric string) Estimate {
	for _, estimate := range c.Estimates {
		if estimate.Metric == metric {
			return estimate
		}
	}
	return Estimate{Metric: metric, Median: Unknown, Low: Unknown, High: Unknown, HalfWidthPercent: Unknown}
}

// Estimate is what is known of a median over migrations.
type Estimate struct {
	Metric   string `json:"metric"`
	N        int    `json:"n"`        // migrations that have the metric
	Infinite int    `json:"infinite"` // of them
	Median   Number `json:"median"`   // not known of none
	// Low and High enclose the median (BCa bootstrap); not known of fewer than
	// stats.FewestForInterval values.
	Low  Number `json:"low"`
	High Number `json:"high"`
	// HalfWidthPercent is half of High less Low in percent of the median; not known
	// where one of them is infinite.
	HalfWidthPercent Number `json:"half_width_percent"`
	// MoreTrials is a forecast of how many more results it takes until that is 5;
	// 0 when it is. Nil when it cannot be told: of too few values, or infinite ones.
	MoreTrials *int `json:"more_trials"`
}

// Rate is a share of trials, with an exact interval (Clopper and Pearson).
type Rate struct {
	Count int    `json:"count"`
	Of    int    `json:"of"`
	Share Number `json:"share"` // 0 to 1; not known of none
	Low   Number `json:"low"`
	High  Number `json:"high"`
}

// Comparison is one storage or hypervisor against another one, in the same blocks,
// where all other factors and the direction are the same.
type Comparison struct {
	Factor    string `json:"factor"` // storage, hypervisor
	A         string `json:"a"`      // the factor's values: drbd C
	B         string `json:"b"`      // nfs
	Metric    string `json:"metric"`
	Direction string `json:"direction"`
	// Factors that both have; the one that is compared is "". Over all round trips
	// (AllRTTs), WAN is "" and RTTMs 0.
	Factors group.Factors `json:"factors"`
	// AllRTTs says that pairs of all WAN profiles are in it, each a pair of one profile.
	AllRTTs bool   `json:"all_rtts"`
	CellA   string `json:"cell_a,omitempty"` // IDs; "" over all round trips
	CellB   string `json:"cell_b,omitempty"`
	Pairs   int    `json:"pairs"`  // blocks in which both have the metric
	ALess   int    `json:"a_less"` // pairs in which A is less
	BLess   int    `json:"b_less"`
	// Ratio is the median of A/B over the pairs, with its interval (BCa); above 1
	// where A is greater. Two failures are a ratio of 1, one alone is 0 or ∞.
	Ratio     Number `json:"ratio"`
	RatioLow  Number `json:"ratio_low"`
	RatioHigh Number `json:"ratio_high"`
	// Difference is the median of A−B over the pairs, in the metric's unit.
	Difference     Number `json:"difference"`
	DifferenceLow  Number `json:"difference_low"`
	DifferenceHigh Number `json:"difference_high"`
	// P is of the exact signed-rank test of log(A/B), two-sided; AdjustedP is Holm's,
	// over the Family comparisons of the same factor and metric that are (or are not)
	// over all round trips.
	P         Number  `json:"p"`
	AdjustedP Number  `json:"adjusted_p"`
	Family    int     `json:"family"`
	Verdict   Verdict `json:"verdict"` // of A against B, by AdjustedP
	// WantPairs is how many pairs it takes at least until a family of this size can
	// decide anything, even if A is less in each of them.
	WantPairs int `json:"want_pairs"`
}

// Crossover tells at which round trip two storages change places.
type Crossover struct {
	A         string        `json:"a"`
	B         string        `json:"b"`
	Metric    string        `json:"metric"`
	Direction string        `json:"direction"`
	Factors   group.Factors `json:"factors"` // that both have, without storage, WAN and round trip
	FromRTTMs float64       `json:"from_rtt_ms"`
	ToRTTMs   float64       `json:"to_rtt_ms"`
	Points    []Point       `json:"points"` // by round trip
	// Crosses says whether the medians cross in the range, and At where, at the least
	// round trip if they do several times. Below it the one named Below is less.
	Crosses bool   `json:"crosses"`
	At      Number `json:"at_rtt_ms"`
	Low     Number `json:"low_rtt_ms"` // of the resamples that cross
	High    Number `json:"high_rtt_ms"`
	Below   string `json:"below"` // A or B's name; where it does not cross, the one that is less everywhere; "" when neither is
	// None is the share of resamples without a crossing: about how probable "none in
	// the range" is.
	None Number `json:"none_probability"`
	// Several is the share of resamples with more than one.
	Several Number `json:"several_probability"`
}

// Point is the median ratio of two storages at one round trip.
type Point struct {
	RTTMs float64 `json:"rtt_ms"`
	Pairs int     `json:"pairs"`
	Ratio Number  `json:"ratio"` // A/B
}

// Trend of the sentinel: the same trial again and again, so that a slope is the
// testbed's.
type Trend struct {
	Metric string  `json:"metric"`
	N      int     `json:"n"`
	Hours  float64 `json:"hours"` // from the first to the last
	Median Number  `json:"median"`
	// PercentPerHour is Theil and Sen's slope in percent of the median, with an interval.
	PercentPerHour Number  `json:"percent_per_hour"`
	Low            Number  `json:"low"`
	High           Number  `json:"high"`
	P              Number  `json:"p"`          // Mann and Kendall's test, two-sided
	AdjustedP      Number  `json:"adjusted_p"` // Holm's, over the metrics that are watched
	Verdict        Verdict `json:"verdict"`    // Greater: it grows
}

// ClaimVerdict is what became of a published claim.
type ClaimVerdict string

// Verdicts of claims; Untested says that the campaign has no trials for it.
const (
	Reproduced     ClaimVerdict = "reproduced"
	NotReproduced  ClaimVerdict = "not reproduced"
	ClaimUndecided ClaimVerdict = "undecided"
	Untested       ClaimVerdict = "untested"
)

// Claim is what was published, as it was stated before there were data.
type Claim struct {
	ID         string `json:"id"` // network-bandwidth, maximum-response-time
	Source     string `json:"source"`
	Statement  string `json:"statement"`  // what was published
	Hypothesis string `json:"hypothesis"` // what is tested, and what counts as which verdict
	Hypervisor string `json:"hypervisor"`
	Metric     string `json:"metric"`
	// Against has DRBD against each of its rivals, iSCSI and NFS; the pairs of all WAN
	// profiles, directions and loads together.
	Against []Rival      `json:"against"`
	Verdict ClaimVerdict `json:"verdict"`
	Why     string       `json:"why"` // the figures in a sentence
	// Beside are other readings of the same claim. They decide nothing.
	Beside []Rival `json:"beside"`
}

// Rival is DRBD against one rival in one metric.
type Rival struct {
	Metric    string `json:"metric"`
	Rival     string `json:"rival"` // iscsi, nfs
	Pairs     int    `json:"pairs"`
	Less      int    `json:"less"` // pairs in which DRBD has less
	RivalLess int    `json:"rival_less"`
	Ratio     Number `json:"ratio"` // DRBD/rival
	RatioLow  Number `json:"ratio_low"`
	RatioHigh Number `json:"ratio_high"`
	P         Number `json:"p"`
	// AdjustedP is Holm's over both claims and both rivals; not known of Beside.
	AdjustedP Number `json:"adjusted_p"`
	// Verdict is by AdjustedP; of Beside it is the side to which the pairs tend,
	// however sure that is.
	Verdict Verdict `json:"verdict"`
}
