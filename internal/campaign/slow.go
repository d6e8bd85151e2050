package campaign

import (
	"fmt"
	"strconv"
	"time"
)

// Slow is a cell whose migration cannot be over within limits.migration, however
// quiet its guest is: what must cross the WAN once takes longer.
type Slow struct {
	CellID     string
	MemoryMiB  int // that the first round sends; 0 when it is not known
	DiskMiB    int // of a private disk that is copied
	BitsPerS   int64
	Least      time.Duration // that it takes
	Limit      time.Duration // limits.migration
	SkipsZeros bool          // the hypervisor sends pages of zeros as some bytes, or may do so
}

// String is one line that says what is wrong and what to do.
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

// TooSlow lists the cells that cannot migrate within limits.migration. Where a
// cell does not say how much memory its guest has, it has the given MiB; 0 says
// that nobody knows, and its memory is left aside.
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

// firstRound is what a cell's migration sends at least once, and how long that
// takes at the WAN's rate, or at the limit of its bandwidth where that is less:
// 0 without either. Frames, acknowledgements and what is sent again are left
// aside, so it takes longer in truth.
func (s *Spec) firstRound(cell Cell, memoryMiB int) Slow {
	if cell.GuestMemoryMiB != 0 {
		memoryMiB = cell.GuestMemoryMiB
	}
	round := Slow{CellID: cell.ID(), MemoryMiB: memoryMiB, BitsPerS: mustProfile(cell.WAN).RateBits, Limit: s.Limits.Migration,
		SkipsZeros: cell.Hypervisor != Xen}
	if cell.MirrorCopy == FullCopy || cell.MirrorCopy == SynchronousCopy || cell.Storage == Local {
		round.DiskMiB = s.Disk.SizeMiB
	}
	if bits := int64(cell.BandwidthMiBPerS) << 23; bits != 0 && (round.BitsPerS == 0 || bits < round.BitsPerS) {
		round.BitsPerS = bits
	}
	round.Least = round.takes(round.MemoryMiB + round.DiskMiB)
	if s.Disk.Precondition == PreconditionFill && round.takes(round.DiskMiB) > round.Limit {
		round.SkipsZeros = false // a filled disk has none, and is enough
	}
	return round
}

// takes is how long some MiB take.
func (s Slow) takes(mib int) time.Duration {
	if s.BitsPerS == 0 {
		return 0
	}
	return time.Duration(float64(mib) * 8 * (1 << 20) / float64(s.BitsPerS) * float64(time.Second))
}
