package beat

import (
	"encoding/binary"
	"time"
)

// Every datagram has datagramBytes. Its numbers are unsigned and big-endian. Its times are in ns
// since 1970 UTC on the sender's clock unless stated otherwise.
//
//	offset  bytes  heartbeat             ask              answer
//	     0      4  "HTB2", of this version of the format
//	     4      1  kind: 1               2                3
//	     5      3  0
//	     8      8  token of the attempt
//	    16      8  number, from 1        number, from 1   number of the ask
//	    24      8  0                     bit 0: the       sent of the ask (t1, the asker's clock)
//	                                     guest's domain
//	                                     runs here
//	    32      8  0                     0                when the ask arrived (t2)
//	    40      8  sent                  sent (t1)        sent (t3)
//	    48      8  newest record of      0                0
//	               the ledger that the
//	               disk acknowledged
//	    56      8  submission of the     0                CLOCK_MONOTONIC_RAW at sent, ns since
//	               oldest I/O in flight;                  the guest's boot
//	               0: none is, -1: no
//	               load is known
//	    64      8  I/Os of the load that 0                0
//	               have completed
//
// The times t1, t2 and t3 are those of NTP: origin, receive and transmit timestamp (RFC 5905,
// 7.3).
const (
	magic         = "HTB2"
	datagramBytes = 72
)

type kind byte

const (
	heartbeat kind = 1
	ask       kind = 2
	answer    kind = 3
)

// datagram is the content of a datagram; times are Unix times in ns.
type datagram struct {
	kind                  kind
	token, number         uint64
	asked, received, sent int64
	acked                 uint64
	near                  bool   // in an ask
	oldest                int64  // in a heartbeat, as is completed
	completed             uint64 //
	raw                   int64  // in an answer
}

// nearBit is the bit of an ask that says the guest's domain runs here.
const nearBit = 1

// put writes a datagram into buffer, which has datagramBytes.
func (d datagram) put(buffer []byte) {
	clear(buffer)
	copy(buffer, magic)
	buffer[4] = byte(d.kind)
	words := [...]uint64{d.token, d.number, uint64(d.asked), uint64(d.received), uint64(d.sent), d.acked, uint64(d.oldest), d.completed} //nolint:gosec // read back the same way
	switch {
	case d.kind == ask && d.near:
		words[2] = nearBit
	case d.kind == answer:
		words[6] = uint64(d.raw) //nolint:gosec // read back the same way
	}
	for i, value := range words {
		binary.BigEndian.PutUint64(buffer[8+8*i:], value)
	}
}

// parse reads a datagram. ours is false for another length or format.
func parse(buffer []byte) (d datagram, ours bool) {
	if len(buffer) != datagramBytes || string(buffer[:4]) != magic {
		return datagram{}, false
	}
	word := func(at int) uint64 { return binary.BigEndian.Uint64(buffer[at:]) }
	d = datagram{
		kind: kind(buffer[4]), token: word(8), number: word(16),
		received: int64(word(32)), sent: int64(word(40)), //nolint:gosec // written the same way
		acked: word(48), completed: word(64),
	}
	switch at24, at56 := word(24), int64(word(56)); d.kind { //nolint:gosec // written the same way
	case ask:
		d.near = at24&nearBit != 0
	case answer:
		d.asked, d.raw = int64(at24), at56 //nolint:gosec // written the same way
	default:
		d.oldest = at56
	}
	return d, true
}

func now() int64 { return time.Now().UnixNano() }
