package answers

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"heliotrope/analysis/group"
)

// What was published, and how it is tested. This was written before any trial of a campaign
// had been looked at. A later change of it must be mentioned with every figure that depends
// on it.
//
// The source is the abstract alone. It does not say over which round trips the results
// hold, under which load, how often they were measured, or how large the difference is. So
// each claim is taken to hold wherever the abstract's words apply: over every WAN profile
// that adds a round trip, in both directions, under every load of the campaign, in the
// median over pairs of migrations. DRBD stands for DRBD with protocol C: only that protocol
// allows both sites to have the disk open at once, as a live migration needs.
const (
	claimSource = `abstract of "Performance of Disk I/O operations during the Live Migration of a Virtual Machine over WAN", ` +
		`Blekinge Tekniska Högskola`
	claimDRBD = "drbd C"
	// sameWithin is how near to 1 the whole interval of a ratio must be to count as no
	// relevant difference: ±5 %.
	sameWithin = 0.05

	claimRule = "Pairs: trials of the same block, direction, WAN profile (with a round trip above 0) and load, on one hypervisor, without controls. " +
		"Test: Wilcoxon's signed-rank test of log(DRBD/rival), two-sided, of all pairs together, by Holm over both claims and both rivals. " +
		"Reproduced: DRBD is less than iSCSI and less than NFS, each with an adjusted p of 0.05 or less. " +
		"Not reproduced: DRBD is greater than one of them as surely, or the 95 % interval of the median ratio to one of them lies within 0.95 to 1.05. " +
		"Undecided: anything else."
)

var claimRivals = []string{"iscsi", "nfs"}

// statement is a claim, with the metric that tests it and the metrics that are shown beside
// it.
type statement struct {
	id, says, metric, of string
	beside               []string
}

var statements = []statement{
	{id: "network-bandwidth", says: "DRBD consumed less network bandwidth than iSCSI and NFS.", metric: WANMB,
		of: "bytes on the WAN during the migration, both directions, of valid trials",
		// These are the rate, the bytes of all measuring phases, and the bytes for each
		// byte of I/O: in a closed loop, a slower load also sends less.
		beside: []string{WANMbitPerS, WANMeasuredMB, WANPerIOByte}},
	{id: "maximum-response-time", says: "DRBD had a lower maximum I/O response time than iSCSI and NFS.", metric: group.MaxResponseMs,
		of:     "longest response time of any I/O from the storage's preparation to the end of phase after; of a trial that failed ∞",
		beside: []string{group.ReadResponseMs, group.WriteResponseMs}},
}

// claims judges the claims, separately for each hypervisor.
func (m *material) claims() []Claim {
	all := []Claim{}
	storages := m.rivalsBy(FactorStorage)
	var hypervisors []string
	for _, group := range m.groups {
		hypervisors = append(hypervisors, group.factors.Hypervisor)
	}
	slices.Sort(hypervisors)
	for _, hypervisor := range slices.Compact(hypervisors) {
		var claims []Claim
		for _, s := range statements {
			c := Claim{ID: s.id, Source: claimSource, Statement: s.says, Hypothesis: "Metric: " + s.of + ". " + claimRule, Hypervisor: hypervisor, Metric: s.metric}
			for _, name := range claimRivals {
				c.Against = append(c.Against, m.rival(storages, hypervisor, name, s.metric))
				for _, metric := range s.beside {
					c.Beside = append(c.Beside, m.rival(storages, hypervisor, name, metric))
				}
			}
			claims = append(claims, c)
		}
		settle(claims)
		all = append(all, claims...)
	}
	return all
}

// rival compares DRBD with one storage system over the pairs of all profiles above 0 ms,
// directions and loads. Its verdict is the side to which they tend, no matter how certain
// that is.
func (m *material) rival(storages []rivals, hypervisor, name, metric string) Rival {
	var pairs []pair
	for _, of := range storages {
		if of.common.Hypervisor != hypervisor || of.common.RTTMs <= 0 {
			continue
		}
		switch {
		case of.aName == claimDRBD && of.bName == name:
			pairs = append(pairs, m.pairs(of.a, of.b, metricOf(metric))...)
		case of.bName == claimDRBD && of.aName == name:
			pairs = append(pairs, m.pairs(of.b, of.a, metricOf(metric))...)
		}
	}
	c := m.compared(rivals{}, metric, pairs)
	return Rival{Metric: metric, Rival: name, Pairs: c.Pairs, Less: c.ALess, RivalLess: c.BLess,
		Ratio: c.Ratio, RatioLow: c.RatioLow, RatioHigh: c.RatioHigh, Tested: c.Tested, Apart: c.Apart}
}

// settle gives the claims of one hypervisor their verdicts.
func settle(claims []Claim) {
	var all, unbroken []*Tested
	for _, c := range claims {
		for i := range c.Against {
			all, unbroken = append(all, &c.Against[i].Tested), append(unbroken, &c.Against[i].Unbroken)
		}
	}
	correct(all)
	correct(unbroken)
	for i := range claims {
		c := &claims[i]
		c.Verdict = verdictOf(c.Against)
		c.Why = why(c)
	}
}

// verdictOf applies the rules that claimRule states, in the order in which it states them:
// where several apply, the first decides.
func verdictOf(against []Rival) ClaimVerdict {
	less, notLess, tested := 0, 0, 0
	for _, rival := range against {
		if rival.Pairs > 0 {
			tested++
		}
		if rival.Verdict == Less {
			less++
		}
		if rival.Verdict == Greater || rival.RatioLow >= 1-sameWithin && rival.RatioHigh <= 1+sameWithin {
			notLess++
		}
	}
	switch {
	case less == len(against):
		return Reproduced
	case notLess > 0:
		return NotReproduced
	case tested < len(against):
		return Untested
	}
	return ClaimUndecided
}

// why says a claim's figures in words.
func why(c *Claim) string {
	var parts []string
	for _, rival := range c.Against {
		if rival.Pairs == 0 {
			parts = append(parts, fmt.Sprintf("no pairs of %s and %s over a WAN", claimDRBD, rival.Rival))
			continue
		}
		text := fmt.Sprintf("%s is %s × %s", claimDRBD, rival.Ratio, rival.Rival)
		if rival.RatioLow.Known() {
			text += fmt.Sprintf(" (%s to %s)", rival.RatioLow, rival.RatioHigh)
		}
		text = fmt.Sprintf("%s, less in %d of %d pairs, adjusted p %s", text, rival.Less, rival.Pairs, probability(rival.AdjustedP))
		if rival.FixedOrder > 0 {
			text += fmt.Sprintf(", %d pairs in a fixed order", rival.FixedOrder)
		}
		if rival.AcrossBreaks > 0 {
			text += fmt.Sprintf(", %d pairs over a break (without them %s)", rival.AcrossBreaks, found(rival.Unbroken))
		}
		parts = append(parts, text)
	}
	return fmt.Sprintf("%s: %s.", c.Metric, strings.Join(parts, "; "))
}

// found says what a test found, in words.
func found(of Tested) string {
	if !of.P.Known() {
		return "none is left"
	}
	return fmt.Sprintf("%s, adjusted p %s", of.Verdict, probability(of.AdjustedP))
}

// probability formats a p-value.
func probability(p Number) string {
	if p < 0.001 {
		return "< 0.001"
	}
	return strconv.FormatFloat(float64(p), 'f', 3, 64)
}
