// Package group says which trials may be put together.
//
// It promises one rule for all that counts, averages or orders trials: those of
// one cell, migrated in one direction, that count. Trials of two groups are never
// pooled, for the two directions of a migration over a WAN are two experiments:
// one brings the guest nearer to its disk, the other takes it away.
//
// Dangerous: a sentinel has the ID of a cell of the matrix, but other seeds and one
// direction, and is run more often; it is of no group.
package group

import (
	"cmp"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/trial"
)

// Key names a group: a cell of the matrix or a control, whose ID has all factors,
// and the direction of its migrations.
type Key struct {
	CellID    string
	Direction string // campaign.Outbound or campaign.Return
}

// Compare orders keys by their cells.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.CellID, other.CellID), cmp.Compare(k.Direction, other.Direction))
}

// Of is the group of an attempt; false for one that is in none: a sentinel's, one
// that is not the attempt of its trial that counts, and one that was skipped.
func Of(row *dataset.Trial) (Key, bool) {
	return Any(row), row.Counted && !row.Sentinel && trial.Verdict(row.Verdict) != trial.Skipped
}

// Any is the group that an attempt would be of if it counted: for what is told of
// every attempt, as why it failed.
func Any(row *dataset.Trial) Key {
	return Key{CellID: row.CellID, Direction: cmp.Or(row.Direction, campaign.Outbound)}
}
