package campaign

import (
	"cmp"
	"slices"
	"time"

	"heliotrope/internal/ledger"
	"heliotrope/internal/limits"
	"heliotrope/internal/wan"
)

// JobOf is what a trial of a cell has to do on a disk. Where the cell does not say how much memory its
// guest has, it has the given MiB; 0 says that nobody knows.
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

// copiesDisk says whether a cell's migration copies all of a private disk.
func (c Cell) copiesDisk() bool {
	return c.MirrorCopy == FullCopy || c.MirrorCopy == SynchronousCopy || c.Storage == Local
}

// readBytesPerS is what a load reads into its guest's memory in a second, where that is known
// beforehand: that of an open loop. Writes leave memory as it is.
func readBytesPerS(access AccessSpec) float64 {
	mean := 0.0
	for _, line := range access.Lines {
		mean += float64(line.SizeBytes) * float64(line.SharePercent) / 100 * float64(line.ReadPercent) / 100
	}
	return access.RateIOPS * mean
}

// completeLimits fills in the limits that follow from the cells, where the file gives none. Without cells,
// as in a file in which they are wrong, the least are taken.
func (s *Spec) completeLimits(given func(setting string) bool, cells []Cell) {
	// A disk that nobody gave a size has room for the ledger, unless a migration has to carry it.
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

// longestMigration is for how long a ledger of so many MiB holds what is written around a migration, in
// whole minutes.
func (s *Spec) longestMigration(ledgerMiB int) time.Duration {
	holds := time.Duration(ledgerMiB<<20/ledger.RecordBytes) * ledger.Interval
	return (holds - ledgerMargin - s.Phases.After).Truncate(time.Minute)
}
