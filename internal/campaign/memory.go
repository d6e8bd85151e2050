package campaign

import (
	"fmt"

	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/spec"
)

// engineMiB is the memory of our own engine and its log, without the buffers of its I/Os.
const engineMiB = 16

// Crowded is a cell whose load would take more than half of its guest's memory.
type Crowded struct {
	CellID    string
	MemoryMiB int // of the guest
	LoadMiB   int // of the load
	IOPS      int // assumed for the size of fio's log; 0: our own engine, whose log does not depend on it
}

// String says in one line what is wrong and what to do.
func (c Crowded) String() string {
	if c.IOPS != 0 {
		return fmt.Sprintf("cell %s: fio and its log take %d MiB of memory at %d I/Os a second, which is assumed, more than half of the guest's %d MiB: "+
			"want guest_memory_mib: %d, shorter phases, or engine: %s", c.CellID, c.LoadMiB, c.IOPS, c.MemoryMiB, 2*c.LoadMiB, spec.EngineOwn)
	}
	return fmt.Sprintf("cell %s: its load takes %d MiB of memory, more than half of the guest's %d MiB: want guest_memory_mib: %d, or less in flight",
		c.CellID, c.LoadMiB, c.MemoryMiB, 2*c.LoadMiB)
}

// TooCrowded lists the cells whose guests are too small for their loads. A cell that does not say
// how much memory its guest has gets memoryMiB; 0 means that it is not known, and such cells are
// left out. The memory that fio needs depends on the number of I/Os: the one that is assumed for
// the testbed is used.
func (s *Spec) TooCrowded(memoryMiB int) []Crowded {
	var crowded []Crowded
	seen := map[string]bool{}
	for _, cell := range s.allCells() {
		if one, is := s.crowd(cell, memoryMiB, s.Testbed); is && !seen[one.CellID] {
			seen[one.CellID] = true
			crowded = append(crowded, one)
		}
	}
	return crowded
}

// crowd reports whether a cell's guest is too small for its load, on a testbed of the given kind.
func (s *Spec) crowd(cell Cell, memoryMiB int, testbed string) (Crowded, bool) {
	if cell.GuestMemoryMiB != 0 {
		memoryMiB = cell.GuestMemoryMiB
	}
	one := Crowded{CellID: cell.ID(), MemoryMiB: memoryMiB}
	bytes := engineMiB<<20 + cell.Access.BufferBytes()
	if cell.Access.Complete().Engine == spec.EngineFio {
		iops := assumedIOPS(testbed, cell.Access)
		one.IOPS, bytes = int(iops), fio.MemoryBytes(cell.Access, iops, s.loadTime(cell))
	}
	one.LoadMiB = int((bytes + 1<<20 - 1) >> 20)
	return one, memoryMiB != 0 && 2*one.LoadMiB > memoryMiB
}

// memoryHolds reports cells that give their guests' memory and give too little. The disk's speed
// is not known beforehand: the size of fio's log is computed for the slowest kind of testbed.
func (c checker) memoryHolds(cells []Cell) {
	seen := map[string]bool{}
	for _, cell := range cells {
		if one, is := c.spec.crowd(cell, 0, TestbedEmulated); is && !seen[one.CellID] {
			seen[one.CellID] = true
			c.Report("matrix.guest_memory_mib", "%s", one)
		}
	}
}
