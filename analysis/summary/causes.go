package summary

import (
	"cmp"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/internal/trial"
)

// Cause is why attempts of a cell, in one direction, are not valid. It counts every
// attempt, including those that were tried again and then went well.
type Cause struct {
	Key      group.Key
	Sentinel bool
	Verdict  trial.Verdict
	Cause    string // a code of package cause; "" in campaigns that are older than these codes
	Attempts int
	Counted  int // how many of them are the attempt of their trial that counts
}

// causes counts attempts that are not valid. Its keys are causes without their counts.
type causes map[Cause]*tally

type tally struct{ attempts, counted int }

func (c causes) add(row *dataset.Trial) {
	if trial.Verdict(row.Verdict) == trial.Valid {
		return
	}
	count := entry(c, Cause{Key: group.Any(row), Sentinel: row.Sentinel, Verdict: trial.Verdict(row.Verdict), Cause: row.Cause})
	count.attempts++
	if row.Counted {
		count.counted++
	}
}

// sorted are the causes in the order of the cells, then of the cells' IDs.
func (c causes) sorted(cells []Cell) []Cause {
	all := make([]Cause, 0, len(c))
	for one, count := range c {
		one.Attempts, one.Counted = count.attempts, count.counted
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(place(cells, a), place(cells, b)), a.Key.Compare(b.Key), cmp.Compare(a.Verdict, b.Verdict), cmp.Compare(a.Cause, b.Cause))
	})
	return all
}

// place is the index of a cause's cell; a cause that belongs to no cell comes after all
// cells.
func place(cells []Cell, c Cause) int {
	if i := slices.IndexFunc(cells, func(cell Cell) bool { return cell.ID == c.Key.CellID && cell.Direction == c.Key.Direction }); i >= 0 && !c.Sentinel {
		return i
	}
	return len(cells)
}
