// Package probe measures a path with numbered UDP datagrams, one way: what rate
// gets through, how evenly, and what is lost, doubled or overtaken. It is part of the
// small program that is put on the hosts, so it imports little.
//
// It promises that a Result is the receiver's account, with the kernel's stamps of
// when datagrams arrived, and that a sender that is held up makes up for no more of it
// than it is told to: what it could really send is in the Result too.
//
// Dangerous: it fills the path, with more than the path carries when it is told to,
// so nothing else may be measured meanwhile. A receiver that the kernel grants no
// large buffer loses datagrams by itself when it is busy: only root's is large
// enough.
package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A datagram has PayloadBytes, its numbers are unsigned and big-endian:
//
//	offset  bytes  what
//	     0      8  "HELIPROB"
//	     8      8  token of the probe
//	    16      4  number of the load, from 0; of the end: how many loads there were
//	    20      4  number of the datagram in its load, from 0
//	    24      8  when it was sent, in ns since 1970 UTC on the sender's clock
//	    32   1168  0
const (
	magic = "HELIPROB"

	tokenAt  = 8
	loadAt   = 16
	numberAt = 20
	sentAt   = 24

	// PayloadBytes is the length of a datagram, and WireBytes the same with the
	// headers of UDP (8), IPv4 (20) and Ethernet (14), as netem counts it.
	PayloadBytes = 1200
	WireBytes    = PayloadBytes + 8 + 20 + 14
)

// Load is so many datagrams at a rate on the wire.
type Load struct {
	Datagrams int   `json:"datagrams"`
	RateBits  int64 `json:"rate_bits"` // a second
	// Burst is how much of a delay the sender makes up for at once: a longer one
	// fills the path's queue, and shows in the spread.
	Burst time.Duration `json:"burst_ns"`
}

// Length is how long the load takes.
func (l Load) Length() time.Duration {
	return time.Duration(float64(l.Datagrams) * WireBytes * 8 / float64(l.RateBits) * float64(time.Second))
}

// Plan is what a sender sends, and its receiver waits for: the loads one after the
// other, each when the one before must have left the path.
type Plan struct {
	Token uint64        `json:"token,string"`
	Loads []Load        `json:"loads"`
	Pause time.Duration `json:"pause_ns"` // between two loads, and before the end
}

const (
	maxLoads     = 4
	maxDatagrams = 20_000
	maxPause     = 10 * time.Second
	maxLength    = time.Minute // of a load
)

// Check says what is wrong with a plan.
func (p Plan) Check() error {
	if p.Token == 0 || len(p.Loads) == 0 || len(p.Loads) > maxLoads || p.Pause < 0 || p.Pause > maxPause {
		return fmt.Errorf("a probe of %d loads with a pause of %s: want a token, 1 to %d loads and a pause of 0 to %s", len(p.Loads), p.Pause, maxLoads, maxPause)
	}
	for i, load := range p.Loads {
		if load.Datagrams < 2 || load.Datagrams > maxDatagrams || load.RateBits <= 0 || load.Length() > maxLength || load.Burst < 0 {
			return fmt.Errorf("load %d of %d datagrams at %d bit/s with bursts of %s: want 2 to %d, within %s",
				i, load.Datagrams, load.RateBits, load.Burst, maxDatagrams, maxLength)
		}
	}
	return nil
}

// Result is what came of a load.
type Result struct {
	Sent      int `json:"sent"`
	Received  int `json:"received"`  // different ones
	Copies    int `json:"copies"`    // that came again
	Reordered int `json:"reordered"` // that came after a later one
	// SentBits is the rate at which those that came were sent, and ReceivedBits that
	// at which they came, on the wire and a second; over Span, from the first
	// arrival to the last. 0 when fewer than two came.
	SentBits     float64       `json:"sent_bits"`
	ReceivedBits float64       `json:"received_bits"`
	Span         time.Duration `json:"span_ns"`
	// Spread is how much longer than the shortest way a datagram took: 99.9 % of
	// them no more than this. Spread90 is the same of 90 %, in which nothing shows
	// that holds a host up now and then.
	Spread   time.Duration `json:"spread_ns"`
	Spread90 time.Duration `json:"spread_90_ns"`
}

var errForeign = errors.New("not a datagram of this probe")

// put makes a datagram.
func put(buffer []byte, token uint64, load, number int, sent int64) {
	copy(buffer, magic)
	binary.BigEndian.PutUint64(buffer[tokenAt:], token)
	binary.BigEndian.PutUint32(buffer[loadAt:], uint32(load))     //nolint:gosec // some
	binary.BigEndian.PutUint32(buffer[numberAt:], uint32(number)) //nolint:gosec // some thousands
	binary.BigEndian.PutUint64(buffer[sentAt:], uint64(sent))     //nolint:gosec // read back the same way
}

// account is the receiver's, of all loads.
type account struct {
	plan  Plan
	loads []arrivals
}

// arrivals are those of one load.
type arrivals struct {
	seen              []bool
	last              int // the highest number that came
	ways              []int64
	copies, reordered int
	firstSent         int64
	lastSent          int64
	first, latest     int64 // arrival
}

func newAccount(plan Plan) *account {
	a := &account{plan: plan, loads: make([]arrivals, len(plan.Loads))}
	for i, load := range plan.Loads {
		a.loads[i] = arrivals{seen: make([]bool, load.Datagrams), last: -1}
	}
	return a
}

// take takes a datagram that arrived; ended says that the sender has no more.
func (a *account) take(datagram []byte, arrived int64) (ended bool, err error) {
	if len(datagram) != PayloadBytes || string(datagram[:len(magic)]) != magic || binary.BigEndian.Uint64(datagram[tokenAt:]) != a.plan.Token {
		return false, errForeign
	}
	load, number := binary.BigEndian.Uint32(datagram[loadAt:]), binary.BigEndian.Uint32(datagram[numberAt:])
	if int(load) == len(a.loads) {
		return true, nil
	}
	if int(load) > len(a.loads) || int(number) >= len(a.loads[load].seen) {
		return false, errForeign
	}
	a.loads[load].take(int(number), int64(binary.BigEndian.Uint64(datagram[sentAt:])), arrived) //nolint:gosec // written the same way
	return false, nil
}

func (r *arrivals) take(number int, sent, arrived int64) {
	if r.seen[number] {
		r.copies++
		return
	}
	r.seen[number] = true
	if len(r.ways) == 0 {
		r.firstSent, r.lastSent, r.first, r.latest = sent, sent, arrived, arrived
	}
	if number < r.last {
		r.reordered++
	}
	r.last = max(r.last, number)
	r.firstSent, r.lastSent = min(r.firstSent, sent), max(r.lastSent, sent)
	r.first, r.latest = min(r.first, arrived), max(r.latest, arrived)
	r.ways = append(r.ways, arrived-sent)
}

// results are those of all loads.
func (a *account) results() []Result {
	results := make([]Result, len(a.loads))
	for i, load := range a.loads {
		results[i] = load.result(a.plan.Loads[i].Datagrams)
	}
	return results
}

func (r *arrivals) result(sent int) Result {
	result := Result{Sent: sent, Received: len(r.ways), Copies: r.copies, Reordered: r.reordered}
	if len(r.ways) == 0 {
		return result
	}
	slices.Sort(r.ways)
	above := func(share float64) time.Duration {
		i := int(share*float64(len(r.ways))+0.999999) - 1
		return time.Duration(r.ways[max(0, min(i, len(r.ways)-1))] - r.ways[0])
	}
	result.Spread, result.Spread90 = above(0.999), above(0.9)
	bits := float64(len(r.ways)-1) * WireBytes * 8 * float64(time.Second)
	result.Span = time.Duration(r.latest - r.first)
	if r.latest > r.first {
		result.ReceivedBits = bits / float64(r.latest-r.first)
	}
	if r.lastSent > r.firstSent {
		result.SentBits = bits / float64(r.lastSent-r.firstSent)
	}
	return result
}
