package page

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"heliotrope/analysis/answers"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/summary"
)

// most is the largest number of comparisons in a sentence.
const most = 3

// addAnswer adds the campaign's answer to the page: three sentences, and tables.
func (v *view) addAnswer(a answers.Answers) {
	v.Answer = Sentences(a, v.Model)
	metric := headline(a)
	if table := claimTable(a); len(table.Rows) > 0 {
		v.AnswerTables = append(v.AnswerTables, table)
	}
	is := func(name string) bool { return name == metric.Name }
	other := func(name string) bool { return name != metric.Name }
	for _, table := range []summary.Table{
		comparisonTable(a, "Comparisons inside blocks, over all round trips: "+words(metric), true, is),
		crossoverTable(a, "Where storages change places: "+words(metric), is),
	} {
		if len(table.Rows) > 0 {
			v.AnswerTables = append(v.AnswerTables, table)
		}
	}
	for _, table := range []summary.Table{
		testedTable(a),
		comparisonTable(a, "Comparisons inside blocks, over all round trips: the other metrics", true, other),
		crossoverTable(a, "Where storages change places: the other metrics", other),
		comparisonTable(a, "Comparisons inside blocks, of each round trip", false, func(string) bool { return true }),
	} {
		if len(table.Rows) > 0 {
			v.FoldedTables = append(v.FoldedTables, table)
		}
	}
	if table := trendTable(a); len(table.Rows) > 0 {
		v.Validity = append(v.Validity, table)
	}
	v.AnswerNotes = append(v.AnswerNotes, fmt.Sprintf("The unit is the migration. Intervals cover with %s %%; storages and hypervisors are compared inside blocks only, by the median ratio of their pairs; "+
		"p is of the signed-rank test, adjusted for all comparisons of one family (Holm); bootstraps have %d resamples, seed %d.", summary.Number(100*a.Confidence), a.Resamples, a.Seed))
	v.AnswerNotes = append(v.AnswerNotes, a.Notes...)
}

// Sentences are the answer in three sentences: what differs, where storages change places,
// and what became of the published claims. With model, each sentence says that its numbers
// are a model's.
func Sentences(a answers.Answers, model bool) []string {
	metric := headline(a)
	if metric.Name == "" {
		return []string{"Nothing can be answered yet: no metric is known of any cell."}
	}
	lead := ""
	if model {
		lead = "In the model: "
	}
	return []string{lead + comparisonSentence(a, metric), lead + crossoverSentence(a, metric), lead + claimSentence(a)}
}

// headline is the metric of the sentences: the longest response time, or else the first
// metric there is.
func headline(a answers.Answers) answers.About {
	for _, about := range a.Metrics {
		if about.Name == group.MaxResponseMs {
			return about
		}
	}
	if len(a.Metrics) > 0 {
		return a.Metrics[0]
	}
	return answers.About{}
}

func aboutOf(a answers.Answers, name string) answers.About {
	for _, about := range a.Metrics {
		if about.Name == name {
			return about
		}
	}
	return answers.About{Name: name}
}

// words names a metric in words.
func words(about answers.About) string {
	if about.Says != "" {
		return "the " + about.Says
	}
	return about.Name
}

// comparisonSentence says which storage or hypervisor is better, and by how much.
func comparisonSentence(a answers.Answers, metric answers.About) string {
	var decided, undecided []answers.Comparison
	for _, c := range a.Comparisons {
		switch {
		case c.Metric != metric.Name || !c.AllRTTs:
		case c.Verdict == answers.Undecided:
			undecided = append(undecided, c)
		default:
			decided = append(decided, c)
		}
	}
	if len(decided)+len(undecided) == 0 {
		return rangeSentence(a, metric)
	}
	if len(decided) == 0 {
		return fmt.Sprintf("No difference in %s is shown: none of %d comparisons over all round trips is decided.", words(metric), len(undecided))
	}
	slices.SortStableFunc(decided, func(x, y answers.Comparison) int {
		return cmp.Compare(strength(y), strength(x))
	})
	var parts []string
	for _, c := range decided[:min(most, len(decided))] {
		is := "less"
		if c.Verdict == answers.Greater {
			is = "greater"
		}
		part := fmt.Sprintf("%s with %s than with %s (%s): × %s (%s to %s), in %d pairs, p %s", is, c.A, c.B, joined(c.Direction, c.Factors.Access),
			c.Ratio.String(), c.RatioLow.String(), c.RatioHigh.String(), c.Pairs, probability(c.AdjustedP))
		if c.FixedOrder > 0 {
			part += fmt.Sprintf(", %d pairs in a fixed order", c.FixedOrder)
		}
		parts = append(parts, part)
	}
	return fmt.Sprintf("Over all round trips, %s is %s. %d of %d comparisons are decided.", words(metric), strings.Join(parts, "; "), len(decided), len(decided)+len(undecided))
}

// joined joins the texts that are not "".
func joined(texts ...string) string {
	return strings.Join(slices.DeleteFunc(texts, func(text string) bool { return text == "" }), ", ")
}

// strength is how far a comparison's ratio is from 1, for sorting.
func strength(c answers.Comparison) float64 { return math.Abs(math.Log(float64(c.Ratio))) }

// rangeSentence says from where to where the cells' medians range.
func rangeSentence(a answers.Answers, metric answers.About) string {
	type one struct {
		name   string
		median float64
	}
	var all []one
	for _, c := range a.Cells {
		if e := c.Estimate(metric.Name); e.Median.Known() && c.Factors.Control == "" {
			all = append(all, one{strings.Join([]string{c.Factors.Storage, c.Factors.WAN, c.Direction}, ", "), float64(e.Median)})
		}
	}
	if len(all) == 0 {
		return fmt.Sprintf("Of no cell is %s known.", words(metric))
	}
	slices.SortStableFunc(all, func(x, y one) int { return cmp.Compare(x.median, y.median) })
	least, greatest := all[0], all[len(all)-1]
	return fmt.Sprintf("The median of %s is from %s %s (%s) to %s %s (%s), over %d cells; storages cannot be compared inside blocks here.",
		words(metric), summary.Number(least.median), metric.Unit, least.name, summary.Number(greatest.median), metric.Unit, greatest.name, len(all))
}

// crossoverSentence says at which round trips storages are shown to change places, of how
// many two storages it is shown that they do not, and of how many nothing is shown.
func crossoverSentence(a answers.Answers, metric answers.About) string {
	var parts []string
	count := map[answers.CrossoverVerdict]int{}
	from, to := math.Inf(1), math.Inf(-1)
	for _, c := range a.Crossovers {
		if c.Metric != metric.Name {
			continue
		}
		count[c.Verdict]++
		from, to = min(from, c.FromRTTMs), max(to, c.ToRTTMs)
		if c.Verdict == answers.Crosses && len(parts) < most {
			parts = append(parts, turnsOf(c))
		}
	}
	tested := count[answers.Crosses] + count[answers.CrossesNowhere] + count[answers.CrossoverUndecided]
	if tested == 0 {
		return "A round trip at which storages change places cannot be looked for: that takes two storages over two round trips or more."
	}
	say := fmt.Sprintf("Between %s and %s ms of round trip, a change of places in %s is shown in %d of %d comparisons of two storages", summary.Number(from), summary.Number(to), words(metric), count[answers.Crosses], tested)
	if len(parts) > 0 {
		say += ": " + strings.Join(parts, "; ")
	}
	return fmt.Sprintf("%s. In %d the same storage has less at every round trip; of %d it cannot be told.", say, count[answers.CrossesNowhere], count[answers.CrossoverUndecided])
}

// turnsOf says between which round trips two storages change places.
func turnsOf(c answers.Crossover) string {
	turns := c.Turns()
	var parts []string
	fixed := 0
	for i, point := range turns {
		less := "with "
		if i == 0 {
			less = "it is less with "
		}
		parts = append(parts, fmt.Sprintf("at %s ms %s%s", summary.Number(point.RTTMs), less, c.Least(point)))
		fixed += point.FixedOrder
	}
	of := joined(c.A+" and "+c.B, c.Direction, c.Factors.Access)
	// The estimate is the first crossing of the medians: that of the change only where there
	// is one change, and the crossing is within it.
	if at := float64(c.At); len(turns) == 2 && c.Low.Known() && at >= turns[0].RTTMs && at <= turns[1].RTTMs {
		of += fmt.Sprintf("; the medians cross at %s ms, %s to %s", c.At.String(), c.Low.String(), c.High.String())
	}
	if fixed > 0 {
		of += fmt.Sprintf("; %d pairs in a fixed order", fixed)
	}
	return fmt.Sprintf("%s (%s)", strings.Join(parts, ", "), of)
}

// claimSentence says what became of the published claims.
func claimSentence(a answers.Answers) string {
	var parts []string
	for _, claim := range a.Claims {
		pairs, fixed := 0, 0
		for _, rival := range claim.Against {
			pairs, fixed = pairs+rival.Pairs, fixed+rival.FixedOrder
		}
		of := claim.Hypervisor
		if fixed > 0 {
			of += fmt.Sprintf("; %d of %d pairs in a fixed order", fixed, pairs)
		}
		parts = append(parts, fmt.Sprintf("“%s” is %s (%s)", claim.Statement, claim.Verdict, of))
	}
	if len(parts) == 0 {
		return "The published claims are not tested: the campaign has no trials for them."
	}
	return "Of what was published: " + strings.Join(parts, "; ") + "."
}

func claimTable(a answers.Answers) summary.Table {
	t := summary.Table{Title: "Published claims, stated before the data were seen", Header: []string{"claim", "hypervisor", "verdict", "why"}, Texts: 2}
	for _, c := range a.Claims {
		t.Rows = append(t.Rows, []string{c.Statement, c.Hypervisor, string(c.Verdict), c.Why})
	}
	return t
}

// testedTable has the tests by which the claims are judged.
func testedTable(a answers.Answers) summary.Table {
	t := summary.Table{Title: "What is tested of the published claims", Header: []string{"claim", "what is tested", "source"}, Texts: 1}
	for i, c := range a.Claims {
		if slices.IndexFunc(a.Claims, func(other answers.Claim) bool { return other.ID == c.ID }) == i { // once for all hypervisors
			t.Rows = append(t.Rows, []string{c.Statement, c.Hypothesis, c.Source})
		}
	}
	return t
}

func comparisonTable(a answers.Answers, title string, all bool, wanted func(metric string) bool) summary.Table {
	t := summary.Table{Title: title, Header: []string{"A", "B", "metric", "direction", "of", "A/B", "from", "to", "A−B", "unit", "pairs", "A less", "p adjusted", "of family", "A is",
		"fixed order", "apart h", "over a break", "without them"}, Texts: 3}
	guest := guestsOf(a.Cells)
	for _, c := range a.Comparisons {
		if c.AllRTTs != all || !wanted(c.Metric) {
			continue
		}
		of := joined(c.Factors.Hypervisor, c.Factors.Storage, c.Factors.WAN, c.Factors.Access, guest(c.Factors), c.Factors.Migration)
		t.Rows = append(t.Rows, []string{c.A, c.B, c.Metric, c.Direction, of, c.Ratio.String(), c.RatioLow.String(), c.RatioHigh.String(),
			c.Difference.String(), aboutOf(a, c.Metric).Unit, strconv.Itoa(c.Pairs), strconv.Itoa(c.ALess), probability(c.AdjustedP), strconv.Itoa(c.Family), string(c.Verdict),
			strconv.Itoa(c.FixedOrder), c.ApartHours.String(), strconv.Itoa(c.AcrossBreaks), string(c.Unbroken.Verdict)})
	}
	return t
}

func crossoverTable(a answers.Answers, title string, wanted func(metric string) bool) summary.Table {
	t := summary.Table{Title: title, Header: []string{"A", "B", "metric", "direction", "of", "range ms", "places change", "medians cross at ms", "from", "to", "less below", "% without", "% several"}, Texts: 3}
	guest := guestsOf(a.Cells)
	for _, c := range a.Crossovers {
		if !wanted(c.Metric) {
			continue
		}
		of := joined(c.Factors.Hypervisor, c.Factors.Access, guest(c.Factors), c.Factors.Migration)
		below := c.Below
		if below == "" {
			below = "–"
		}
		t.Rows = append(t.Rows, []string{c.A, c.B, c.Metric, c.Direction, of, summary.Number(c.FromRTTMs) + " to " + summary.Number(c.ToRTTMs),
			placesChange[c.Verdict], c.At.String(), c.Low.String(), c.High.String(), below, (100 * c.None).String(), (100 * c.Several).String()})
	}
	return t
}

// placesChange has the verdicts on crossovers in the words of their table.
var placesChange = map[answers.CrossoverVerdict]string{answers.Crosses: "yes", answers.CrossesNowhere: "no", answers.CrossoverUndecided: "cannot be told"}

func trendTable(a answers.Answers) summary.Table {
	t := summary.Table{Title: "Sentinel: does the testbed drift?", Header: []string{"metric", "lane", "unit", "trials", "hours", "median", "% an hour", "from", "to", "p adjusted", "it"}}
	for _, trend := range a.Sentinel {
		it := "shows no trend"
		switch trend.Verdict {
		case answers.Greater:
			it = "grows"
		case answers.Less:
			it = "falls"
		}
		t.Rows = append(t.Rows, []string{trend.Metric, cmp.Or(trend.Lane, "–"), aboutOf(a, trend.Metric).Unit, strconv.Itoa(trend.N), summary.Number(trend.Hours), trend.Median.String(),
			trend.PercentPerHour.String(), trend.Low.String(), trend.High.String(), probability(trend.AdjustedP), it})
	}
	return t
}

// known is a table of what is known of a cell's metrics.
func known(a answers.Answers, of summary.Cell) summary.Table {
	t := summary.Table{Title: "Medians over migrations, with intervals", Header: []string{"metric", "unit", "migrations", "∞", "median", "from", "to", "± %", "more for ± 5 %"}}
	for _, c := range a.Cells {
		if c.ID != of.ID || c.Direction != of.Direction {
			continue
		}
		for _, e := range c.Estimates {
			if e.N == 0 {
				continue
			}
			more := "–"
			if e.MoreTrials != nil {
				more = strconv.Itoa(*e.MoreTrials)
			}
			t.Rows = append(t.Rows, []string{e.Metric, aboutOf(a, e.Metric).Unit, strconv.Itoa(e.N), strconv.Itoa(e.Infinite), e.Median.String(), e.Low.String(), e.High.String(), e.HalfWidthPercent.String(), more})
		}
		t.Rows = append(t.Rows, []string{"failed", "%", strconv.Itoa(c.Failures.Of), "–", (100 * c.Failures.Share).String(), (100 * c.Failures.Low).String(), (100 * c.Failures.High).String(), "–", "–"})
	}
	return t
}

// probability formats a p-value; it never shows 0.
func probability(p answers.Number) string {
	if p.Known() && p < 0.001 {
		return "< 0.001"
	}
	return p.String()
}

// metrics are the cells' estimates as rows of table metrics.
func metrics(a answers.Answers) []dataset.Metric {
	var rows []dataset.Metric
	value := func(n answers.Number) *float64 {
		if !n.Known() {
			return nil
		}
		v := float64(n)
		return &v
	}
	for _, c := range a.Cells {
		for _, e := range c.Estimates {
			row := dataset.Metric{CellID: c.ID, Direction: c.Direction, Hypervisor: c.Factors.Hypervisor, Storage: c.Factors.Storage, WAN: c.Factors.WAN, RTTMs: c.Factors.RTTMs,
				Access: c.Factors.Access, Migration: c.Factors.Migration, Control: c.Factors.Control, Metric: e.Metric, Unit: aboutOf(a, e.Metric).Unit,
				Results: number(c.Results), Failed: number(c.Failures.Count), N: number(e.N), Infinite: number(e.Infinite),
				Median: value(e.Median), Low: value(e.Low), High: value(e.High)}
			if c.Factors.MemoryMiB > 0 {
				row.MemoryMiB = &c.Factors.MemoryMiB
			}
			if c.Factors.VCPUs > 0 {
				row.VCPUs = &c.Factors.VCPUs
			}
			if e.MoreTrials != nil {
				more := number(*e.MoreTrials)
				row.MoreTrials = &more
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func number(n int) int32 { return int32(min(n, math.MaxInt32)) } //nolint:gosec // not above
