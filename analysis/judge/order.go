package judge

import (
	"cmp"
	"slices"
)

// mostLate is how many rows a completion may come too late by in table io: the
// load's log has those of several workers.
const mostLate = 1 << 16

// completion of an I/O on both clocks.
type completion struct{ ts, guest int64 }

func (c completion) compare(other completion) int {
	return cmp.Or(cmp.Compare(c.ts, other.ts), cmp.Compare(c.guest, other.guest))
}

// order gives completions in the order of their times. One that comes more than
// mostLate rows too late is counted, and left out.
type order struct {
	give    func(completion)
	waiting []completion // twice mostLate at most
	last    completion   // that was given
	tooLate int64
}

func (o *order) add(c completion) {
	o.waiting = append(o.waiting, c)
	if len(o.waiting) == 2*mostLate {
		o.flush(mostLate)
	}
}

// end gives what is left.
func (o *order) end() { o.flush(0) }

// flush gives all but the latest so many.
func (o *order) flush(keep int) {
	if !slices.IsSortedFunc(o.waiting, completion.compare) {
		slices.SortFunc(o.waiting, completion.compare)
	}
	ready := o.waiting[:len(o.waiting)-keep]
	for _, c := range ready {
		if c.compare(o.last) < 0 {
			o.tooLate++
			continue
		}
		o.last = c
		o.give(c)
	}
	o.waiting = o.waiting[:copy(o.waiting, o.waiting[len(ready):])]
}
