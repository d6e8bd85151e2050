package campaign

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Plan lists the trials of a campaign from Parse, in the order in which they are to be started.
// The order, the directions and the seeds depend only on the file. A change of the code below
// gives the same file another plan. A campaign that has begun keeps the plan in its folder
// (dataset.Frozen), but not the blocks that are added to it later (Begun): those are planned by
// the code that adds them. A campaign that stops by precision may not run all of the trials.
func (s *Spec) Plan() []Trial {
	trials := s.blocks()
	if cell, ok := s.SentinelCell(); ok {
		trials = s.watched(trials, cell)
	}
	for i := range trials {
		trials[i].Sequence = i + 1
	}
	return trials
}

// blocks lists the trials without those of the sentinel, and without numbers.
func (s *Spec) blocks() []Trial { return s.repeated(s.Cells(), 1, s.Repetitions) }

// repeated returns the trials of some cells in some blocks, beginning with block first, in the
// order of the campaign and without numbers.
func (s *Spec) repeated(cells []Cell, first, repetitions int) []Trial {
	trials := make([]Trial, 0, len(cells)*repetitions)
	add := func(block int, cell Cell) {
		id := cell.ID()
		trials = append(trials, Trial{
			Block: block, CellID: id, Cell: cell, Seed: s.derive("trial", id, block), Direction: s.direction(id, block),
		})
	}
	end := first + repetitions
	if s.Order == OrderSequential {
		for _, cell := range cells {
			for block := first; block < end; block++ {
				add(block, cell)
			}
		}
		return trials
	}
	inTurn := s.inTurn()
	for block := first; block < end; block++ {
		random := splitMix64(s.derive("order", "", block))
		order := random.permutation(len(cells))
		if inTurn {
			order = s.grouped(block, cells, order)
		}
		for _, i := range order {
			add(block, cells[i])
		}
	}
	return trials
}

// inTurn reports whether the campaign's hypervisors are on testbeds of which only one can be up
// at a time: those that are emulated on one machine.
func (s *Spec) inTurn() bool { return s.Testbed == TestbedEmulated && len(s.Hypervisors()) > 1 }

// grouped reorders a block so that the cells of each hypervisor are together, and the block
// changes the testbed no more often than it must. The order of the hypervisors is drawn, and the
// cells of each stay shuffled: a split plot, with the hypervisor as the factor of the whole
// plots.
func (s *Spec) grouped(block int, cells []Cell, order []int) []int {
	hypervisors := s.Hypervisors()
	random := splitMix64(s.derive("hypervisors", "", block))
	together := make([]int, 0, len(order))
	for _, of := range random.permutation(len(hypervisors)) {
		for _, i := range order {
			if cells[i].Hypervisor == hypervisors[of] {
				together = append(together, i)
			}
		}
	}
	return together
}

// direction returns the direction of a cell's migration in a block. If directions are balanced,
// a cell goes both ways in blocks 1 and 2, in 3 and 4, and so on, and which way it goes first is
// drawn for each two blocks. Within these two blocks, chance alone decides which of two cells
// goes a way first, so that they can be compared.
func (s *Spec) direction(cellID string, block int) string {
	switch s.Directions {
	case Return:
		return Return
	case Balanced:
		if (s.derive("direction", cellID, (block-1)/2)+uint64(block))%2 == 0 { //nolint:gosec // blocks count from 1
			return Return
		}
	}
	return Outbound
}

// watched puts the sentinel before and after the trials, and between them. The sentinel always
// goes in the same direction, so that nothing but the testbed changes. If testbeds are up in
// turn, it watches the testbed of its own hypervisor: only the trials on that testbed are
// counted, and it is run among them.
func (s *Spec) watched(trials []Trial, cell Cell) []Trial {
	id, direction := cell.ID(), Outbound
	if s.Directions == Return {
		direction = Return
	}
	inTurn := s.inTurn()
	beside := func(trial Trial) bool { return !inTurn || trial.Cell.Hypervisor == cell.Hypervisor }
	last := len(trials) - 1
	for !beside(trials[last]) {
		last--
	}
	all := make([]Trial, 0, len(trials)+sentinels(len(trials), s.Sentinel.Every))
	number, others := 0, 0
	add := func(block int) {
		number++
		all = append(all, Trial{
			Block: block, CellID: id, Cell: cell, Seed: s.derive("sentinel", id, number), Direction: direction, Sentinel: true,
		})
	}
	for i, trial := range trials {
		if !beside(trial) {
			all = append(all, trial)
			continue
		}
		if others == 0 {
			add(trial.Block)
		}
		all = append(all, trial)
		if others++; others%s.Sentinel.Every == 0 || i == last {
			add(trial.Block)
		}
	}
	return all
}

// sentinels returns how many trials the sentinel has among `others` other trials: one before and
// one after each group of at most `every`, and at least one.
func sentinels(others, every int) int { return 1 + (others+every-1)/every }

// derive makes a seed for one purpose from the campaign's: the first 8 bytes, big endian, of the
// SHA-256 of a text with everything that the seed depends on. So a trial keeps its seed when
// other cells are added or removed.
func (s *Spec) derive(purpose, cellID string, block int) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "heliotrope plan %d\nseed %d\n%s %s\nblock %d\n", Version, s.Seed, purpose, cellID, block))
	return binary.BigEndian.Uint64(sum[:8])
}

// splitMix64 is the generator of Steele, Lea and Flood, "Fast splittable pseudorandom number
// generators", OOPSLA 2014, with the constants of Vigna's https://prng.di.unimi.it/splitmix64.c.
// It is implemented here because no release of Go promises that math/rand gives the same numbers
// for ever.
type splitMix64 uint64

func (r *splitMix64) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below draws each of 0 … n-1 with the same probability: numbers beyond the last whole multiple
// of n are rejected.
func (r *splitMix64) below(n uint64) uint64 {
	surplus := -n % n // 2^64 mod n
	for {
		if x := r.next(); x >= surplus {
			return x % n
		}
	}
}

// permutation shuffles 0 … n-1 by the method of Fisher and Yates, from the end (Knuth, The Art of
// Computer Programming, volume 2, algorithm 3.4.2P).
func (r *splitMix64) permutation(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := int(r.below(uint64(i) + 1)) //nolint:gosec // at most i
		order[i], order[j] = order[j], order[i]
	}
	return order
}
