// Package group says which trials may be put together.
//
// It promises one rule for everything that counts, averages or orders trials: only trials
// of the same cell that were migrated in the same direction, and that count, are put
// together. Trials of two groups are never pooled, because the two directions of a
// migration over a WAN are two experiments: one brings the guest nearer to its disk, the
// other takes it away.
//
// Dangerous: a sentinel has the ID of a cell of the matrix, but other seeds and only one
// direction, and is run more often. It belongs to no group.
package group

import (
	"cmp"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// Key identifies a group: a cell of the matrix or a control, whose ID contains all factors,
// and the direction of its migrations.
type Key struct {
	CellID    string
	Direction string // campaign.Outbound or campaign.Return
}

// Compare orders keys by their cells.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.CellID, other.CellID), cmp.Compare(k.Direction, other.Direction))
}

// Of is an attempt's group; false when the attempt belongs to none: a sentinel, an attempt
// that does not count, and a skipped trial.
func Of(row *dataset.Trial) (Key, bool) {
	return Any(row), row.Counted && !row.Sentinel && trial.Verdict(row.Verdict) != trial.Skipped
}

// Any is the group that an attempt would belong to if it counted, for tables that include
// every attempt, such as those of causes of failures.
func Any(row *dataset.Trial) Key {
	return Key{CellID: row.CellID, Direction: cmp.Or(row.Direction, campaign.Outbound)}
}
