package campaign

import (
	"cmp"
	"slices"
	"time"

	"heliotrope/internal/ledger"
	"heliotrope/internal/limits"
	"heliotrope/internal/wan"
)

// JobOf returns what a trial of a cell has to do with a disk. A cell that does not say how much
// memory its guest has gets memoryMiB; 0 means that it is not known.
func JobOf(cell Cell, disk DiskSpec, memoryMiB int) limits.Job {
	profile, _ := wan.ParseProfile(cell.WAN) // one that cannot be read has no limits, and is refused elsewhere
	job := limits.Job{
		MemoryBytes: int64(cmp.Or(cell.GuestMemoryMiB, memoryMiB)) << 20,
		StreamBits:  int64(cell.BandwidthMiBPerS) << 23,
		PostCopy:    cell.Mode() == PostCopy,
		LedgerBytes: int64(disk.LedgerMiB) << 20,
		Certificate: profile.CertifyTime(), Path: profile.Path(),
		DirtyBytesPerS: readBytesPerS(cell.Access),
	}
	if disk.Precondition == PreconditionFill {
		job.FilledBytes = int64(disk.SizeMiB) << 20
	}
	if cell.copiesDisk() {
		job.CopiedBytes = int64(disk.SizeMiB) << 20
	}
	if cell.Storage == DRBD {
		job.ComparedBytes = int64(disk.SizeMiB) << 20
	}
	return job
}

// copiesDisk reports whether a cell's migration copies all of a private disk.
func (c Cell) copiesDisk() bool {
	return c.MirrorCopy == FullCopy || c.MirrorCopy == SynchronousCopy || c.Storage == Local
}

// readBytesPerS returns how many bytes a load reads into its guest's memory in a second, if that
// is known beforehand, which it is for an open loop. Writes do not change memory.
func readBytesPerS(access AccessSpec) float64 {
	mean := 0.0
	for _, line := range access.Lines {
		mean += float64(line.SizeBytes) * float64(line.SharePercent) / 100 * float64(line.ReadPercent) / 100
	}
	return access.RateIOPS * mean
}

// completeLimits fills in the limits that the file does not give, from the cells. Without cells,
// as when they have problems in the file, it uses the smallest limits.
func (s *Spec) completeLimits(given func(setting string) bool, cells []Cell) {
	// A disk without a given size grows to have room for the ledger, unless a migration must copy
	// the disk.
	grows := !given("disk.size_mib") && !slices.ContainsFunc(cells, Cell.copiesDisk)
	if !given("limits.migration") {
		least, most := s.Limits.Migration, maxLedger
		switch {
		case given("disk.ledger_mib"):
			most = s.Disk.LedgerMiB
		case !grows:
			most = min(most, s.Disk.SizeMiB/2)
		}
		for _, cell := range cells {
			if cell.Migrates() {
				s.Limits.Migration = max(s.Limits.Migration, JobOf(cell, s.Disk, 0).Migration())
			}
		}
		s.Limits.Migration = max(least, min(s.Limits.Migration, s.longestMigration(most)))
	}
	if !given("disk.ledger_mib") {
		s.Disk.LedgerMiB = s.ledgerMiB()
	}
	if grows {
		s.Disk.SizeMiB = max(s.Disk.SizeMiB, 2*s.Disk.LedgerMiB)
	}
	if !given("limits.trial") {
		phases := s.Phases.WarmUpMax + s.Phases.Before + s.Limits.Migration + s.Phases.After
		for _, cell := range append([]Cell{{}}, cells...) {
			s.Limits.Trial = max(s.Limits.Trial, min(maxLimit, JobOf(cell, s.Disk, 0).Trial(phases)))
		}
	}
}

// longestMigration returns how long a migration may be so that a ledger of ledgerMiB MiB holds
// all that is written around it, in whole minutes.
func (s *Spec) longestMigration(ledgerMiB int) time.Duration {
	holds := time.Duration(ledgerMiB<<20/ledger.RecordBytes) * ledger.Interval
	return (holds - ledgerMargin - s.Phases.After).Truncate(time.Minute)
}
