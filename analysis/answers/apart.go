package answers

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/internal/campaign"
)

// Pairs compare two trials of one block, so that whatever drifts meets both. Two things
// weaken that: an order that no lot decided, and a long time between the two trials. They
// are counted here, and shown beside each comparison.

// breakLength is how long no attempt must have run for that to be a break of the campaign:
// one sitting has ended, and another one begins. Between two trials of a sitting there are
// minutes.
const breakLength = 30 * time.Minute

// fixedUpTo is the last block up to which every cell went the same way in the first of each
// two blocks. Plans draw the way of the first for each cell and each two blocks, so this is
// 0: some cell changes its way after two blocks. Plans of earlier versions drew it once for
// each cell and the whole campaign. Two cells of such a plan that began in different
// directions are always one block apart in each direction, and always in the same order.
func fixedUpTo(trials []dataset.Trial) int32 {
	var rows []*dataset.Trial
	for i := range trials {
		if !trials[i].Sentinel {
			rows = append(rows, &trials[i])
		}
	}
	slices.SortStableFunc(rows, func(a, b *dataset.Trial) int { return cmp.Compare(a.Block, b.Block) })
	ways, last := map[string]bool{}, int32(0)
	for _, row := range rows {
		outboundFirst := (group.Any(row).Direction == campaign.Outbound) == (row.Block%2 == 1)
		if before, known := ways[row.CellID]; known && before != outboundFirst {
			last = twoBlocks(row.Block)*2 - 2
			break
		}
		ways[row.CellID], last = outboundFirst, row.Block
	}
	if last <= 2 { // the first two blocks are drawn in every plan
		return 0
	}
	return last
}

// twoBlocks numbers blocks 1 and 2, 3 and 4, and so on, from 1.
func twoBlocks(block int32) int32 { return (block + 1) / 2 }

// breaksOf are the beginnings of sittings after the first, in ns: the times at which an
// attempt began after none had run for breakLength.
func breaksOf(trials []dataset.Trial) []int64 {
	var rows []*dataset.Trial
	for i := range trials {
		if trials[i].StartedTsNs > 0 { // 0: not known
			rows = append(rows, &trials[i])
		}
	}
	slices.SortStableFunc(rows, func(a, b *dataset.Trial) int { return cmp.Compare(a.StartedTsNs, b.StartedTsNs) })
	var breaks []int64
	var ended int64
	for i, row := range rows {
		if i > 0 && time.Duration(row.StartedTsNs-ended) >= breakLength {
			breaks = append(breaks, row.StartedTsNs)
		}
		ended = max(ended, row.StartedTsNs, row.EndedTsNs)
	}
	return breaks
}

// apart is the time between the beginnings of the pair's trials.
func (p pair) apart() time.Duration {
	return time.Duration(p.of.row.StartedTsNs - p.by.row.StartedTsNs).Abs()
}

// inFixedOrder says whether no lot decided which of the pair's trials came first.
func (m *material) inFixedOrder(p pair) bool {
	return p.of.row.Block != p.by.row.Block && max(p.of.row.Block, p.by.row.Block) <= m.fixedUpTo
}

// acrossBreak says whether there is a break between the pair's trials.
func (m *material) acrossBreak(p pair) bool {
	from, to := min(p.of.row.StartedTsNs, p.by.row.StartedTsNs), max(p.of.row.StartedTsNs, p.by.row.StartedTsNs)
	return slices.ContainsFunc(m.breaksNs, func(began int64) bool { return from < began && began <= to })
}

// apartNotes say what the pairs' orders and distances in time mean for the comparisons.
func (m *material) apartNotes(compared []Comparison) []string {
	fixed, across, changed := 0, 0, 0
	for _, c := range compared {
		if c.FixedOrder > 0 {
			fixed++
		}
		if c.AcrossBreaks > 0 {
			across++
		}
		if c.Verdict != c.Unbroken.Verdict {
			changed++
		}
	}
	var notes []string
	if fixed > 0 {
		notes = append(notes, fmt.Sprintf("Fixed order: %d of %d comparisons have pairs whose trials are one block apart, always in the same order (column \"fixed order\"). Up to block %d "+
			"each cell's directions alternate throughout, as plans of earlier versions had it. A lot decided about this order once for each cell, and not for each pair: a steady drift of the testbed "+
			"gives all these pairs the same sign, and their p does not exclude it. See the sentinel's trend.", fixed, len(compared), m.fixedUpTo))
	}
	if across > 0 {
		notes = append(notes, fmt.Sprintf("Breaks: %d times no trial ran for %.0f minutes or longer. %d of %d comparisons have pairs with a break between their trials (column \"over a break\"). "+
			"Without these pairs %d of %d verdicts are other ones (column \"without them\").", len(m.breaksNs), breakLength.Minutes(), across, len(compared), changed, len(compared)))
	}
	return notes
}
