package campaign

import (
	"fmt"

	"heliotrope/internal/load/spec"
)

// engineMiB is what our own engine and its log take beside the buffers of its
// I/Os.
const engineMiB = 16

// Crowded is a cell whose load would take more than half of its guest's memory.
type Crowded struct {
	CellID    string
	MemoryMiB int // the guest's
	LoadMiB   int // its load's
}

// String is one line that says what is wrong and what to do.
func (c Crowded) String() string {
	return fmt.Sprintf("cell %s: its load takes %d MiB of memory, more than half of the guest's %d MiB: want guest_memory_mib: %d, or less in flight",
		c.CellID, c.LoadMiB, c.MemoryMiB, 2*c.LoadMiB)
}

// TooCrowded lists the cells whose guests are too small for their loads. Where a
// cell does not say how much memory its guest has, it has the given MiB; 0 says
// that nobody knows, and such cells are left out. What fio takes depends on how
// many I/Os there will be: its cells are left out, too.
func (s *Spec) TooCrowded(memoryMiB int) []Crowded {
	cells := s.Cells()
	if sentinel, ok := s.SentinelCell(); ok {
		cells = append(cells, sentinel)
	}
	var crowded []Crowded
	seen := map[string]bool{}
	for _, cell := range cells {
		if one, is := crowd(cell, memoryMiB); is && !seen[one.CellID] {
			seen[one.CellID] = true
			crowded = append(crowded, one)
		}
	}
	return crowded
}

// crowd says whether a cell's guest is too small for its load.
func crowd(cell Cell, memoryMiB int) (Crowded, bool) {
	if cell.GuestMemoryMiB != 0 {
		memoryMiB = cell.GuestMemoryMiB
	}
	one := Crowded{CellID: cell.ID(), MemoryMiB: memoryMiB, LoadMiB: engineMiB + int((cell.Access.BufferBytes()+1<<20-1)>>20)}
	return one, memoryMiB != 0 && cell.Access.Complete().Engine == spec.EngineOwn && 2*one.LoadMiB > memoryMiB
}

// memoryHolds reports cells that say how much memory their guests have, and
// have too little.
func (c checker) memoryHolds(cells []Cell) {
	seen := map[string]bool{}
	for _, cell := range cells {
		if one, is := crowd(cell, 0); is && !seen[one.CellID] {
			seen[one.CellID] = true
			c.Report("matrix.guest_memory_mib", "%s", one)
		}
	}
}
