package judge

import (
	"cmp"
	"slices"
)

// mostLate is by how many rows a completion may come too late in table io: the load's log
// combines those of several workers.
const mostLate = 1 << 16

// completion is the completion of an I/O, on the controller's time base and on the guest's
// clock.
type completion struct{ ts, guest int64 }

func (c completion) compare(other completion) int {
	return cmp.Or(cmp.Compare(c.ts, other.ts), cmp.Compare(c.guest, other.guest))
}

// order puts completions into the order of their times. One that comes more than mostLate
// rows too late is counted and left out.
type order struct {
	give    func(completion)
	waiting []completion // at most twice mostLate
	last    completion   // the last one that was given
	tooLate int64
}

func (o *order) add(c completion) {
	o.waiting = append(o.waiting, c)
	if len(o.waiting) == 2*mostLate {
		o.flush(mostLate)
	}
}

// end gives the remaining completions.
func (o *order) end() { o.flush(0) }

// flush gives all waiting completions except the latest keep ones.
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
