package beat

import (
	"encoding/hex"
	"slices"
	"testing"
	"time"

	"heliotrope/internal/witness"
)

// TestDatagramLayout holds the format against its table, read by hand.
func TestDatagramLayout(t *testing.T) {
	d := datagram{kind: answer, token: 1, number: 2, asked: 3, received: 4, sent: -5, acked: 1<<64 - 1}
	buffer := make([]byte, datagramBytes)
	d.put(buffer)
	want := "48544231" + "03" + "000000" + "0000000000000001" + "0000000000000002" + "0000000000000003" +
		"0000000000000004" + "fffffffffffffffb" + "ffffffffffffffff"
	if got := hex.EncodeToString(buffer); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, ours := parse(buffer); !ours || got != d {
		t.Errorf("read back as %+v, %t", got, ours)
	}
	for name, other := range map[string][]byte{
		"nothing": nil, "too short": buffer[:55], "too long": append(slices.Clone(buffer), 0), "another version": []byte("HTB2" + string(buffer[4:])),
	} {
		if _, ours := parse(other); ours {
			t.Errorf("%s was taken", name)
		}
	}
}

// reply is what a guest says to an ask; times in ns.
func reply(d datagram, received, sent int64) datagram {
	return datagram{kind: answer, number: d.number, asked: d.sent, received: received, sent: sent}
}

func exchange(at, ahead, uncertainty int64) witness.Exchange {
	return witness.Exchange{At: time.Unix(0, at), Ahead: time.Duration(ahead), Uncertainty: time.Duration(uncertainty)}
}

// TestBestOfABurst: three asks at 1000, 2000 and 3000, and what becomes of them.
func TestBestOfABurst(t *testing.T) {
	type times struct{ received, sent, arrived int64 }
	for name, test := range map[string]struct {
		answers [burstAsks]times
		want    []witness.Exchange
	}{
		// Ahead by ((5100-1000)+(5120-1240))/2 = 3990, off by (240-20)/2.
		"the first":              {[burstAsks]times{{5100, 5120, 1240}, {0, 0, 9000}, {0, 0, 9000}}, []witness.Exchange{exchange(1120, 3990, 110)}},
		"the shortest":           {[burstAsks]times{{5100, 5120, 1240}, {6010, 6010, 2021}, {7100, 7100, 3200}}, []witness.Exchange{exchange(2010, 3999, 11)}},
		"the guest is behind":    {[burstAsks]times{{100, 100, 1200}, {1100, 1100, 2201}, {2100, 2100, 3201}}, []witness.Exchange{exchange(1100, -1000, 100)}},
		"it stood still for 800": {[burstAsks]times{{5100, 5900, 2000}, {6100, 6100, 2300}, {7200, 7200, 3400}}, []witness.Exchange{exchange(2150, 3950, 150)}},
		// The clock was set ahead by 195 between the two times.
		"its clock jumped":        {[burstAsks]times{{5100, 5295, 1400}, {6150, 6150, 2300}, {7200, 7200, 3400}}, []witness.Exchange{exchange(2150, 4000, 150)}},
		"its clock went back":     {[burstAsks]times{{5100, 5099, 1200}, {6100, 6099, 2200}, {7100, 7099, 3200}}, nil},
		"our clock went back":     {[burstAsks]times{{5100, 5100, 999}, {6100, 6100, 1999}, {7100, 7100, 2999}}, nil},
		"longer there than away":  {[burstAsks]times{{5100, 5400, 1200}, {6100, 6400, 2200}, {7100, 7400, 3200}}, nil},
		"any whole trip is whole": {[burstAsks]times{{5100, 5300, 1200}, {6100, 6400, 2200}, {7100, 7400, 3200}}, []witness.Exchange{exchange(1100, 4100, 0)}},
	} {
		t.Run(name, func(t *testing.T) {
			var e exchanges
			if settled := e.begin(); settled != nil {
				t.Fatalf("a new burst settles %v", settled)
			}
			var asks [burstAsks]datagram
			for i := range asks {
				asks[i] = e.ask(int64(i+1) * 1000)
			}
			for i, at := range test.answers {
				settled, waited := e.answer(reply(asks[i], at.received, at.sent), at.arrived)
				if !waited {
					t.Errorf("nobody waited for answer %d", i)
				}
				if _, waited := e.answer(reply(asks[i], at.received, at.sent), at.arrived); waited {
					t.Errorf("answer %d counts twice", i)
				}
				if i < burstAsks-1 && settled != nil {
					t.Errorf("settled after %d answers", i+1)
				}
				if i == burstAsks-1 && !slices.Equal(settled, test.want) {
					t.Errorf("got %v, want %v", settled, test.want)
				}
			}
		})
	}
}

// TestLateAnswers: bursts are settled in their order, and nobody waits for ever.
func TestLateAnswers(t *testing.T) {
	var e exchanges
	var asks []datagram
	begin := func() []witness.Exchange {
		settled := e.begin()
		for range burstAsks {
			asks = append(asks, e.ask(int64(len(asks)+1)*1000))
		}
		return settled
	}
	give := func(i int) ([]witness.Exchange, bool) {
		return e.answer(reply(asks[i], asks[i].sent+50, asks[i].sent+50), asks[i].sent+100)
	}
	at := func(i int) witness.Exchange { return exchange(asks[i].sent+50, 0, 50) }
	for range openBursts {
		if settled := begin(); settled != nil {
			t.Fatalf("settled %v before any answer", settled)
		}
	}
	for i := 3; i < 6; i++ { // the second burst waits for the first
		if settled, waited := give(i); settled != nil || !waited {
			t.Errorf("answer %d settles %v, %t", i, settled, waited)
		}
	}
	give(1)
	if settled := begin(); !slices.Equal(settled, []witness.Exchange{at(1), at(3)}) {
		t.Errorf("the fifth burst settles %v", settled)
	}
	if _, waited := give(0); waited {
		t.Error("somebody waits for the first burst still")
	}
	if _, waited := e.answer(datagram{kind: answer, number: 99}, 5); waited {
		t.Error("somebody waits for what was never asked")
	}
	if wrong := reply(asks[8], 1, 1); true {
		wrong.asked++
		if _, waited := e.answer(wrong, asks[8].sent+100); waited {
			t.Error("an answer with another time of the ask was taken")
		}
	}
	give(8)
	if settled := e.settle(0); !slices.Equal(settled, []witness.Exchange{at(8)}) {
		t.Errorf("in the end settles %v", settled)
	}
}
