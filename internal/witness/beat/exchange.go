package beat

import (
	"fmt"
	"time"

	"heliotrope/internal/witness"
)

const (
	// burstAsks are asked one after the other, of which the best is kept: what
	// was queued on its way says less.
	burstAsks = 3
	// askSpacing is between them.
	askSpacing = 5 * time.Millisecond
	// openBursts may wait for answers at a time: with one of them each
	// witness.ExchangeInterval, an answer may take two seconds.
	openBursts = 4
)

// exchanges are the asks that wait for their answers, in bursts. A burst is
// settled when all its asks are answered, or when openBursts newer ones have
// begun: then its best exchange is given, if there is any. Bursts are settled
// in the order in which they were asked.
type exchanges struct {
	asked uint64 // number of the newest ask
	open  []burst
}

type burst struct {
	first    uint64 // number of its first ask
	sent     [burstAsks]int64
	answered [burstAsks]bool
	tripNs   int64 // round trip of the best; 0: there is none yet
	best     witness.Exchange
}

// begin opens a burst, and gives what it settles.
func (e *exchanges) begin() []witness.Exchange {
	e.open = append(e.open, burst{first: e.asked + 1})
	return e.settle(openBursts)
}

// ask makes the next ask of the newest burst, of burstAsks.
func (e *exchanges) ask(sent int64) datagram {
	newest := &e.open[len(e.open)-1]
	e.asked++
	newest.sent[e.asked-newest.first] = sent
	return datagram{kind: ask, number: e.asked, sent: sent}
}

// answer takes an answer that arrived, and gives what is settled by it. One
// that nobody waits for, or that is there twice, is false.
func (e *exchanges) answer(d datagram, arrived int64) ([]witness.Exchange, bool) {
	for i := range e.open {
		b := &e.open[i]
		if at := d.number - b.first; at < burstAsks && b.sent[at] == d.asked && d.asked != 0 && !b.answered[at] {
			b.answered[at] = true
			b.keep(d, arrived)
			return e.settle(openBursts), true
		}
	}
	return nil, false
}

// keep keeps an exchange when its round trip is the shortest of the burst. That
// is with the guest's own time in it, so that one during which the guest stood
// still, or its clock was set, is not taken for a good one.
//
// With the four times of NTP the guest's clock is ahead by ((t2-t1)+(t3-t4))/2,
// and off from that by ((t4-t1)-(t3-t2))/2 at most: RFC 5905, section 8.
func (b *burst) keep(d datagram, arrived int64) {
	trip, there := arrived-d.asked, d.sent-d.received
	if trip <= 0 || there < 0 || there > trip || b.tripNs != 0 && trip >= b.tripNs {
		return
	}
	b.tripNs = trip
	b.best = witness.Exchange{
		At:          time.Unix(0, d.asked+trip/2),
		Ahead:       time.Duration(((d.received - d.asked) + (d.sent - arrived)) / 2),
		Uncertainty: time.Duration((trip - there + 1) / 2),
	}
}

// settle settles all bursts that are complete, and all but so many.
func (e *exchanges) settle(open int) (settled []witness.Exchange) {
	for len(e.open) > 0 && (len(e.open) > open || e.open[0].answered == [burstAsks]bool{true, true, true}) {
		if e.open[0].tripNs != 0 {
			settled = append(settled, e.open[0].best)
		}
		e.open = e.open[1:]
	}
	return settled
}

func appendHeartbeat(line []byte, d datagram, arrived int64) []byte {
	return fmt.Appendf(line, "%d %d %d %d\n", arrived, d.number, d.sent, d.acked)
}

func appendExchange(line []byte, e witness.Exchange) []byte {
	return fmt.Appendf(line, "%d %d %d\n", e.At.UnixNano(), int64(e.Ahead), int64(e.Uncertainty))
}
