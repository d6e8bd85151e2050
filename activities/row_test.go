package activities

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
)

// rowOf is the row of an attempt at a cell, with the account of its migration.
func rowOf(cell campaign.Cell, migrated Migrated) dataset.Trial {
	a := account{}
	a.input.Ref.Trial.Cell = cell
	a.input.Known.Migrated = migrated
	a.fill()
	return a.row
}

func TestRowSaysHowTheGuestMigrated(t *testing.T) {
	cell := campaign.Cell{Hypervisor: campaign.KVM, Storage: campaign.Mirror, MirrorCopy: campaign.IncrementalCopy, MigrationOptions: campaign.MigrationOptions{
		Migration: campaign.PostCopy, AutoConverge: true, BandwidthMiBPerS: 8, MaxDowntimeMs: 300}}
	row := rowOf(cell, Migrated{})
	require.Equal(t, dataset.Trial{MirrorCopy: pointer("incremental"), Migration: pointer("postcopy"), AutoConverge: pointer(true),
		BandwidthMiBPerS: pointer(int32(8)), MaxDowntimeMs: pointer(int32(300))},
		dataset.Trial{MirrorCopy: row.MirrorCopy, Migration: row.Migration, AutoConverge: row.AutoConverge,
			BandwidthMiBPerS: row.BandwidthMiBPerS, MaxDowntimeMs: row.MaxDowntimeMs})

	row = rowOf(campaign.Cell{Hypervisor: campaign.Xen, Storage: "nfs"}, Migrated{})
	require.Equal(t, []any{"precopy", false}, []any{*row.Migration, *row.AutoConverge})
	require.Nil(t, row.MirrorCopy)
	require.Nil(t, row.BandwidthMiBPerS, "no limit is no number")
	require.Nil(t, row.MaxDowntimeMs, "the hypervisor's own is not known")

	row = rowOf(campaign.Cell{Control: campaign.ControlPause, Hold: time.Second}, Migrated{})
	require.Nil(t, row.Migration, "nothing migrated")
	require.Nil(t, row.AutoConverge)
}

func TestRowHasTheStoragesParts(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	row := rowOf(campaign.Cell{}, Migrated{PrepareBegan: at, Prepared: at.Add(time.Second), Started: at.Add(2 * time.Second),
		Finished: at.Add(9 * time.Second), FinishBegan: at.Add(9 * time.Second), Settled: at.Add(9500 * time.Millisecond)})
	require.Equal(t, []any{at.UnixNano(), 1000.0, 500.0}, []any{*row.StoragePrepareTsNs, *row.StoragePrepareMs, *row.StorageFinishMs})
	row = rowOf(campaign.Cell{Control: campaign.ControlPause}, Migrated{Prepared: at, Settled: at.Add(time.Second)})
	require.Nil(t, row.StoragePrepareMs, "a pause has no storage to prepare")
	require.Nil(t, row.StorageFinishMs)
}

func TestRowHasWhatTheHypervisorTells(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	row := rowOf(campaign.Cell{}, Migrated{Started: at, Finished: at.Add(time.Second), DowntimeMs: pointer(0.0), Rounds: pointer(int64(4)), DiskBytes: pointer(int64(64 << 20))})
	require.Equal(t, []any{0.0, int64(4), int64(64 << 20)}, []any{*row.DowntimeMs, *row.Rounds, *row.DiskBytes})
	require.Equal(t, []any{at.UnixNano(), at.UnixNano() + 1e9, 1000.0}, []any{*row.MigrationStartedTsNs, *row.MigrationFinishedTsNs, *row.TotalMigrationMs})
	row = rowOf(campaign.Cell{}, Migrated{Started: at})
	require.Equal(t, at.UnixNano(), *row.MigrationStartedTsNs)
	require.Nil(t, row.MigrationFinishedTsNs, "nobody told when it ended")
	require.Nil(t, row.TotalMigrationMs)
	row = rowOf(campaign.Cell{}, Migrated{})
	require.Nil(t, row.MigrationStartedTsNs, "nor when it began")
	row = rowOf(campaign.Cell{}, Migrated{Started: at, Finished: at.Add(time.Second)})
	require.Nil(t, row.DowntimeMs)
	require.Nil(t, row.Rounds)
	require.Nil(t, row.DiskBytes)
}
