package beat

import (
	"fmt"
	"time"

	"heliotrope/internal/witness"
)

// openAsks is how many asks may wait for their answers at once. With one ask each
// witness.ExchangeInterval, an answer may take four seconds.
const openAsks = 4

// exchanges are the asks that wait for their answers.
type exchanges struct {
	asked uint64          // number of the newest ask
	sent  [openAsks]int64 // time of sending, by the number modulo openAsks; 0: not waiting any more
}

// ask makes the next ask.
func (e *exchanges) ask(sent int64, near bool) datagram {
	e.asked++
	e.sent[e.asked%openAsks] = sent
	return datagram{kind: ask, number: e.asked, sent: sent, near: near}
}

// answer matches an answer to the ask that waits for it, and returns the reading. waited is false
// for an answer that no ask waits for: it is a duplicate, it took too long, or a later ask was
// answered before it. Readings are therefore in the order of their asks.
//
// The time that the guest itself took is subtracted from the round trip, however long it was. If
// the guest stood still in between or its clock was set, the uncertainty includes that. With the
// four times of NTP the guest's clock is ahead by ((t2-t1)+(t3-t4))/2, with an error of at most
// ((t4-t1)-(t3-t2))/2: RFC 5905, section 8.
func (e *exchanges) answer(d datagram, arrived int64) (reading *witness.Exchange, waited bool) {
	at := d.number % openAsks
	if d.number == 0 || d.number > e.asked || e.asked-d.number >= openAsks || e.sent[at] == 0 || e.sent[at] != d.asked {
		return nil, false
	}
	for number := e.asked - min(e.asked, openAsks) + 1; number <= d.number; number++ {
		e.sent[number%openAsks] = 0
	}
	trip, there := arrived-d.asked, d.sent-d.received
	if trip <= 0 || there < 0 || there > trip {
		return nil, true
	}
	return &witness.Exchange{
		At:          time.Unix(0, d.asked+trip/2),
		Ahead:       time.Duration(((d.received - d.asked) + (d.sent - arrived)) / 2),
		Uncertainty: time.Duration((trip - there + 1) / 2),
	}, true
}

func appendHeartbeat(line []byte, d datagram, arrived int64) []byte {
	return fmt.Appendf(line, "%d %d %d %d %d %d\n", arrived, d.number, d.sent, d.acked, d.oldest, d.completed)
}

func appendExchange(line []byte, e witness.Exchange) []byte {
	return fmt.Appendf(line, "%d %d %d\n", e.At.UnixNano(), int64(e.Ahead), int64(e.Uncertainty))
}
