package beat

import (
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"heliotrope/internal/witness"
)

// TestDatagramLayout compares the format with its table, read by hand.
func TestDatagramLayout(t *testing.T) {
	const none, ones = "0000000000000000", "ffffffffffffffff"
	const named = "000000" + "0000000000000001" + "0000000000000002"
	buffer := make([]byte, datagramBytes)
	for _, c := range []struct {
		d    datagram
		want string
	}{
		{datagram{kind: answer, token: 1, number: 2, asked: 3, received: 4, sent: -5, acked: 1<<64 - 1, raw: 6},
			"03" + named + "0000000000000003" + "0000000000000004" + "fffffffffffffffb" + ones + "0000000000000006" + none},
		{datagram{kind: ask, token: 1, number: 2, sent: 3}, "02" + named + none + none + "0000000000000003" + none + none + none},
		{datagram{kind: ask, token: 1, number: 2, sent: 3, near: true}, "02" + named + "0000000000000001" + none + "0000000000000003" + none + none + none},
		{datagram{kind: heartbeat, token: 1, number: 2, sent: 3, acked: 4, oldest: witness.NotTold, completed: 5},
			"01" + named + none + none + "0000000000000003" + "0000000000000004" + ones + "0000000000000005"},
	} {
		c.d.put(buffer)
		if got, want := hex.EncodeToString(buffer), "48544232"+c.want; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if got, ours := parse(buffer); !ours || got != c.d {
			t.Errorf("read back as %+v, %t", got, ours)
		}
	}
	for name, other := range map[string][]byte{
		"nothing": nil, "too short": buffer[:71], "too long": append(slices.Clone(buffer), 0), "another version": []byte("HTB1" + string(buffer[4:])),
		"what was sent before": []byte("HTB1" + string(buffer[4:56])),
	} {
		if _, ours := parse(other); ours {
			t.Errorf("%s was taken", name)
		}
	}
}

// reply returns a guest's reply to an ask; times are in ns.
func reply(d datagram, received, sent int64) datagram {
	return datagram{kind: answer, number: d.number, asked: d.sent, received: received, sent: sent}
}

func exchange(at, ahead, uncertainty int64) *witness.Exchange {
	return &witness.Exchange{At: time.Unix(0, at), Ahead: time.Duration(ahead), Uncertainty: time.Duration(uncertainty)}
}

// TestReading: an ask that was sent at 1000, with different replies.
func TestReading(t *testing.T) {
	for name, test := range map[string]struct {
		received, sent, arrived int64
		want                    *witness.Exchange
	}{
		// Ahead by ((5100-1000)+(5120-1240))/2 = 3990, off by (240-20)/2.
		"as usual":               {5100, 5120, 1240, exchange(1120, 3990, 110)},
		"the guest is behind":    {100, 100, 1201, exchange(1100, -1000, 101)},
		"it answered later":      {5100, 15100, 11200, exchange(6100, 4000, 100)},
		"it stood still for 800": {5100, 5100, 2000, exchange(1500, 3600, 500)},
		// The clock was set ahead by 195 between the two times.
		"its clock jumped":        {5100, 5295, 1400, exchange(1200, 3998-1, 103)},
		"its clock went back":     {5100, 5099, 1200, nil},
		"our clock went back":     {5100, 5100, 999, nil},
		"longer there than away":  {5100, 5400, 1200, nil},
		"any whole trip is whole": {5100, 5300, 1200, exchange(1100, 4100, 0)},
	} {
		t.Run(name, func(t *testing.T) {
			var e exchanges
			d := reply(e.ask(1000, false), test.received, test.sent)
			got, waited := e.answer(d, test.arrived)
			if !waited || (got == nil) != (test.want == nil) || got != nil && *got != *test.want {
				t.Errorf("got %v, %t, want %v", got, waited, test.want)
			}
			if _, waited := e.answer(d, test.arrived); waited {
				t.Error("the answer counts twice")
			}
		})
	}
}

// TestAnswersNobodyWaitsFor: readings are in the order of their asks, and no ask waits for ever.
func TestAnswersNobodyWaitsFor(t *testing.T) {
	var e exchanges
	var asks []datagram
	give := func(number int) bool {
		sent := asks[number-1].sent
		_, waited := e.answer(reply(asks[number-1], sent+50, sent+50), sent+100)
		return waited
	}
	askMore := func() { asks = append(asks, e.ask(int64(len(asks)+1)*1000, false)) }
	for range openAsks + 1 {
		askMore()
	}
	if give(1) {
		t.Error("somebody waits for the first ask still")
	}
	if !give(3) || give(2) || !give(4) || give(3) {
		t.Error("the third was answered, then the second, the fourth, and the third again: want the third and the fourth taken")
	}
	askMore()
	wrong := reply(asks[5], 1, 1)
	wrong.asked++
	for name, d := range map[string]datagram{
		"another time of the ask": wrong, "what was never asked": {number: 99, asked: 1}, "no number": {},
	} {
		if _, waited := e.answer(d, asks[5].sent+100); waited {
			t.Errorf("%s: the answer was taken", name)
		}
	}
	if !give(6) {
		t.Error("the sixth was not taken")
	}
}
