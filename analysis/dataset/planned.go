package dataset

import (
	"cmp"
	"iter"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// Planned is an attempt's row as far as the plan determines it.
func Planned(ref trial.Ref, kind string) Trial {
	cell := ref.Trial.Cell
	row := Trial{
		Key: ref.Key(), Sequence: int32(ref.Trial.Sequence), Block: int32(ref.Trial.Block), Attempt: int32(ref.Attempt), //nolint:gosec // small by the spec's limits
		CellID: ref.Trial.CellID, TestbedKind: kind,
		Hypervisor: cell.Hypervisor, Storage: cell.Storage, WAN: cell.WAN, RTTMs: cell.RTTMs, Access: cell.Access.Name,
		Seed: ref.Trial.Seed, Control: cell.Control, Direction: cmp.Or(ref.Trial.Direction, campaign.Outbound), Sentinel: ref.Trial.Sentinel,
	}
	if cell.DRBDProtocol != "" {
		row.DRBDProtocol = &cell.DRBDProtocol
	}
	if cell.MirrorCopy != "" {
		row.MirrorCopy = &cell.MirrorCopy
	}
	row.GuestMemoryMiB, row.GuestVCPUs = above(cell.GuestMemoryMiB), above(cell.VCPUs())
	if cell.Control != "" && cell.Hold > 0 {
		hold := float64(cell.Hold) / float64(time.Millisecond)
		row.HoldMs = &hold
	}
	if cell.Migrates() {
		mode := cell.Mode()
		row.Migration, row.AutoConverge = &mode, &cell.AutoConverge
		row.BandwidthMiBPerS, row.MaxDowntimeMs = above(cell.BandwidthMiBPerS), above(cell.MaxDowntimeMs)
	}
	return row
}

// above is a pointer to a number; nil when the number is 0, which in a plan means not set.
func above(number int) *int32 {
	if number <= 0 {
		return nil
	}
	value := int32(number) //nolint:gosec // small by the spec's limits
	return &value
}

// neverRun has a row for each trial of the plan, as if none had run; nil while the campaign
// runs.
func (r *Record) neverRun() (iter.Seq[Trial], error) {
	if over, err := r.isOver(); err != nil || !over {
		return nil, err
	}
	plan, identity := r.Plan(), r.Identity()
	return func(yield func(Trial) bool) {
		for _, planned := range plan {
			row := Planned(trial.Ref{Campaign: identity.Campaign, Trial: planned}, identity.TestbedKind)
			row.Verdict, row.Cause, row.Reason = string(trial.Skipped), string(cause.Cancelled), "it never ran"
			row.SpecSHA256 = identity.SpecSHA256
			if !yield(row) {
				return
			}
		}
	}, nil
}
