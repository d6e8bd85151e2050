// Package probe measures a path in one direction with numbered UDP datagrams: which
// rate gets through, how evenly, and how many datagrams are lost, duplicated or
// reordered. It is part of the small program that is put on the hosts, so it imports
// little.
//
// It promises that a Result is the receiver's account, with the kernel's time stamps
// of the arrivals; and that a sender that is held up makes up for no more of the delay
// than the plan allows: the rate at which it really sent is in the Result too.
//
// Dangerous: it fills the path, and when it is told to, sends more than the path
// carries, so nothing else may be measured meanwhile. A busy receiver whose kernel
// grants it no large buffer loses datagrams by itself; only root gets a buffer that is
// large enough.
package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"heliotrope/internal/testnet"
)

// The format of a datagram: PayloadBytes long, with unsigned big-endian numbers:
//
//	offset  bytes  what
//	     0      8  "HELIPROB"
//	     8      8  token of the probe
//	    16      4  number of the load, from 0; of the end: how many loads there were
//	    20      4  number of the datagram in its load, from 0
//	    24      8  when it was sent, in ns since 1970 UTC on the sender's clock
//	    32   rest  0
const (
	magic = "HELIPROB"

	tokenAt  = 8
	loadAt   = 16
	numberAt = 20
	sentAt   = 24

	// WireBytes is the length of a datagram with its headers, as netem counts it. It is the
	// same over IPv4 and IPv6, so that the same plan takes the same rate on the wire.
	WireBytes = 1242

	etherBytes, udpBytes = 14, 8 // lengths of headers
)

// PayloadBytes is the length of a datagram's payload, which depends on the family of the
// addresses: 1200 bytes over IPv4, 1180 over IPv6.
func PayloadBytes(family testnet.Family) int {
	return WireBytes - etherBytes - family.HeaderBytes() - udpBytes
}

// Load is a number of datagrams to send at a rate.
type Load struct {
	Datagrams int   `json:"datagrams"`
	RateBits  int64 `json:"rate_bits"` // on the wire, bit/s
	// Burst is how much of a delay the sender makes up for at once: a longer burst
	// fills the path's queue, and shows in the spread.
	Burst time.Duration `json:"burst_ns"`
}

// Length is how long the load takes.
func (l Load) Length() time.Duration {
	return time.Duration(float64(l.Datagrams) * WireBytes * 8 / float64(l.RateBits) * float64(time.Second))
}

// Plan is what a sender sends and its receiver expects: the loads one after the other,
// each after the one before has left the path.
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

// Result is the result of one load.
type Result struct {
	Sent      int `json:"sent"`
	Received  int `json:"received"`  // without duplicates
	Copies    int `json:"copies"`    // duplicates
	Reordered int `json:"reordered"` // datagrams that arrived after a later one
	// SentBits is the rate at which the datagrams that arrived were sent, and
	// ReceivedBits the rate at which they arrived, both on the wire in bit/s. Span is
	// the time from the first arrival to the last. They are 0 when fewer than two
	// arrived.
	SentBits     float64       `json:"sent_bits"`
	ReceivedBits float64       `json:"received_bits"`
	Span         time.Duration `json:"span_ns"`
	// Spread is the difference between the one-way delay that 99.9 % of the datagrams
	// did not exceed and the shortest one. Spread90 is the same for 90 %, which hides
	// occasional delays on a host.
	Spread   time.Duration `json:"spread_ns"`
	Spread90 time.Duration `json:"spread_90_ns"`
}

var errForeign = errors.New("not a datagram of this probe")

// put writes a datagram into the buffer.
func put(buffer []byte, token uint64, load, number int, sent int64) {
	copy(buffer, magic)
	binary.BigEndian.PutUint64(buffer[tokenAt:], token)
	binary.BigEndian.PutUint32(buffer[loadAt:], uint32(load))     //nolint:gosec // some
	binary.BigEndian.PutUint32(buffer[numberAt:], uint32(number)) //nolint:gosec // some thousands
	binary.BigEndian.PutUint64(buffer[sentAt:], uint64(sent))     //nolint:gosec // read back the same way
}

// account is the receiver's account of all loads.
type account struct {
	plan         Plan
	payloadBytes int // of each datagram
	loads        []arrivals
}

// arrivals is the account of one load.
type arrivals struct {
	seen              []bool
	last              int // the highest number that arrived
	ways              []int64
	copies, reordered int
	firstSent         int64
	lastSent          int64
	first, latest     int64 // times of arrival
}

func newAccount(plan Plan, family testnet.Family) *account {
	a := &account{plan: plan, payloadBytes: PayloadBytes(family), loads: make([]arrivals, len(plan.Loads))}
	for i, load := range plan.Loads {
		a.loads[i] = arrivals{seen: make([]bool, load.Datagrams), last: -1}
	}
	return a
}

// take records a datagram that arrived; ended says that the sender has sent
// everything.
func (a *account) take(datagram []byte, arrived int64) (ended bool, err error) {
	if len(datagram) != a.payloadBytes || string(datagram[:len(magic)]) != magic || binary.BigEndian.Uint64(datagram[tokenAt:]) != a.plan.Token {
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

// results are the results of all loads.
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
