package campaign

import (
	"fmt"
	"strconv"
	"time"
)

// Slow is a cell whose migration cannot finish within limits.migration even if its guest is idle:
// the data that must cross the WAN at least once takes longer.
type Slow struct {
	CellID     string
	MemoryMiB  int // sent in the first round; 0 when it is not known
	DiskMiB    int // of a private disk that is copied
	BitsPerS   int64
	Least      time.Duration // least duration of the migration
	Limit      time.Duration // limits.migration
	SkipsZeros bool          // the hypervisor sends, or may send, pages of zeros as some bytes
}

// String says in one line what is wrong and what to do.
func (s Slow) String() string {
	what := fmt.Sprintf("%d MiB of memory", s.MemoryMiB)
	switch {
	case s.MemoryMiB == 0:
		what = fmt.Sprintf("a disk of %d MiB", s.DiskMiB)
	case s.DiskMiB > 0:
		what += fmt.Sprintf(" and a disk of %d MiB", s.DiskMiB)
	}
	text := fmt.Sprintf("cell %s: the first round alone, %s at %s Mbit/s, takes %.0f s, and limits.migration is %s: ",
		s.CellID, what, strconv.FormatFloat(float64(s.BitsPerS)/1e6, 'g', 4, 64), s.Least.Seconds(), s.Limit)
	if s.SkipsZeros {
		return text + "unless much of it is zeros, its trials end as too-slow"
	}
	return text + "its trials end as too-slow"
}

// TooSlow lists the cells that cannot migrate within limits.migration. A cell that does not say
// how much memory its guest has gets memoryMiB; 0 means that it is not known, and the memory is
// then left out.
func (s *Spec) TooSlow(memoryMiB int) []Slow {
	var slow []Slow
	seen := map[string]bool{}
	for _, cell := range s.allCells() {
		if one := s.firstRound(cell, memoryMiB); one.Least > one.Limit && cell.Migrates() && !seen[one.CellID] {
			seen[one.CellID] = true
			slow = append(slow, one)
		}
	}
	return slow
}

// firstRound returns what a cell's migration must send at least once, and how long that takes at
// the WAN's rate, or at the migration's bandwidth limit when that is less: 0 without either.
// Frame headers, acknowledgements and retransmissions are left out, so it really takes longer.
func (s *Spec) firstRound(cell Cell, memoryMiB int) Slow {
	job := JobOf(cell, s.Disk, memoryMiB)
	round := Slow{CellID: cell.ID(), MemoryMiB: int(job.MemoryBytes >> 20), DiskMiB: int(job.CopiedBytes >> 20), BitsPerS: job.Path.RateBits,
		Least: job.FirstRound(), Limit: s.Limits.Migration, SkipsZeros: cell.Hypervisor != Xen}
	if bits := job.StreamBits; bits != 0 && (round.BitsPerS == 0 || bits < round.BitsPerS) {
		round.BitsPerS = bits
	}
	job.MemoryBytes = 0
	if s.Disk.Precondition == PreconditionFill && job.FirstRound() > round.Limit {
		round.SkipsZeros = false // a filled disk has no zeros, and takes long enough by itself
	}
	return round
}

// Late is a cell whose attempts cannot finish within limits.trial, even without any problem.
type Late struct {
	CellID string
	Fill   time.Duration // of filling the disk
	Verify time.Duration // of verifying the disk, after the load
	Least  time.Duration // of a whole attempt
	Limit  time.Duration // limits.trial
}

// String says in one line what is wrong and what to do.
func (l Late) String() string {
	return fmt.Sprintf("cell %s: an attempt takes %.0f s at least, of which it fills the disk for %.0f s and verifies it for %.0f s, as expected, "+
		"and limits.trial is %s: its attempts end as time-out", l.CellID, l.Least.Seconds(), l.Fill.Seconds(), l.Verify.Seconds(), l.Limit)
}

// TooLate lists the cells whose attempts cannot finish within limits.trial. memoryMiB is as for
// TooSlow.
func (s *Spec) TooLate(memoryMiB int) []Late {
	var late []Late
	seen := map[string]bool{}
	for _, cell := range s.allCells() {
		job := JobOf(cell, s.Disk, memoryMiB)
		one := Late{CellID: cell.ID(), Fill: job.Fill(), Verify: job.Verify(), Limit: s.Limits.Trial}
		during := cell.Hold
		if cell.Migrates() {
			during = min(job.FirstRound(), s.Limits.Migration)
		}
		one.Least = s.Phases.WarmUp + s.Phases.Before + during + s.Phases.After + job.Beside()
		if one.Least > one.Limit && !seen[one.CellID] {
			seen[one.CellID] = true
			late = append(late, one)
		}
	}
	return late
}
