package probe

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/freeport"
	"heliotrope/internal/testnet"
)

// plan has two loads, with 5 ms and 1 ms between datagrams.
var plan = Plan{Token: 77, Loads: []Load{{Datagrams: 4, RateBits: WireBytes * 8 * 200}, {Datagrams: 3, RateBits: WireBytes * 8 * 1000}}}

// TestAccount: everything that a path may do to datagrams is counted once; the
// expected values were worked out by hand.
func TestAccount(t *testing.T) {
	a := newAccount(plan, testnet.IPv4)
	datagram := func(load, number int, sent, arrived time.Duration) bool {
		buffer := make([]byte, a.payloadBytes)
		put(buffer, plan.Token, load, number, int64(sent))
		ended, err := a.take(buffer, int64(arrived))
		require.NoError(t, err)
		return ended
	}
	const ms = time.Millisecond
	datagram(0, 0, 0, 100*ms)
	datagram(0, 2, 10*ms, 111*ms)
	datagram(0, 1, 5*ms, 112*ms) // overtaken, 7 ms late
	datagram(0, 2, 10*ms, 113*ms)
	datagram(0, 2, 10*ms, 114*ms)
	datagram(1, 1, 21*ms, 121*ms)
	require.True(t, datagram(2, 0, 30*ms, 130*ms))
	datagram(0, 3, 15*ms, 131*ms) // after the end: late, but there

	results := a.results()
	first := results[0]
	assert.Equal(t, Result{Sent: 4, Received: 4, Copies: 2, Reordered: 1, SentBits: first.SentBits, ReceivedBits: first.ReceivedBits,
		Span: 31 * ms, Spread: 16 * ms, Spread90: 16 * ms}, first)
	assert.InEpsilon(t, 200*WireBytes*8, first.SentBits, 1e-9)
	assert.InEpsilon(t, 3.0/0.031*WireBytes*8, first.ReceivedBits, 1e-9)
	assert.Equal(t, Result{Sent: 3, Received: 1}, results[1])

	for name, spoil := range map[string]func([]byte) []byte{
		"short":         func(b []byte) []byte { return b[:a.payloadBytes-1] },
		"long":          func(b []byte) []byte { return append(b, 0) },
		"another probe": func(b []byte) []byte { b[tokenAt] = 1; return b },
		"no such load":  func(b []byte) []byte { b[loadAt+3] = 9; return b },
		"no such one":   func(b []byte) []byte { b[numberAt+3] = 9; return b },
		"another magic": func(b []byte) []byte { b[0] = 'h'; return b },
	} {
		buffer := make([]byte, a.payloadBytes)
		put(buffer, plan.Token, 0, 0, 1)
		_, err := a.take(spoil(buffer), 1)
		assert.ErrorIs(t, err, errForeign, name)
	}
	assert.Equal(t, results, a.results())
}

// TestPercentiles: of 2,000 datagrams, two may exceed the spread, and a tenth may
// exceed Spread90.
func TestPercentiles(t *testing.T) {
	r := arrivals{seen: make([]bool, 2000), last: -1}
	for i := range 2000 {
		r.take(i, int64(i)*1000, int64(i)*1000+int64(i))
	}
	result := r.result(2000)
	assert.Equal(t, time.Duration(1997), result.Spread)
	assert.Equal(t, time.Duration(1799), result.Spread90)
}

func TestPlanIsChecked(t *testing.T) {
	require.NoError(t, plan.Check())
	for _, bad := range []Plan{{}, {Token: 1}, {Token: 1, Loads: []Load{{Datagrams: 1, RateBits: 1e6}}}, {Token: 1, Loads: []Load{{Datagrams: 30_000, RateBits: 1e9}}},
		{Token: 1, Loads: []Load{{Datagrams: 20}}}, {Token: 1, Loads: []Load{{Datagrams: 2000, RateBits: 1000}}}, {Token: 1, Loads: []Load{{2000, 1e6, -1}}}, {Token: 1, Loads: make([]Load, 5)},
		{Token: 1, Loads: plan.Loads, Pause: time.Hour}, {Loads: plan.Loads}} {
		require.Error(t, bad.Check(), "%+v", bad)
		_, err := Receive(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), bad, func() {})
		require.Error(t, err)
		require.Error(t, Send(t.Context(), netip.MustParseAddrPort("127.0.0.1:1"), bad))
	}
}

type outcome struct {
	results []Result
	err     error
}

// receive runs Receive until a sender can begin.
func receive(ctx context.Context, t *testing.T, at netip.AddrPort, plan Plan) <-chan outcome {
	t.Helper()
	ready, ended := make(chan struct{}), make(chan outcome, 1)
	go func() {
		results, err := Receive(ctx, at, plan, func() { close(ready) })
		ended <- outcome{results, err}
	}()
	select {
	case <-ready:
	case end := <-ended:
		t.Fatalf("the receiver ended before it listened: %v", end.err)
	}
	return ended
}

// TestCleanPath: over a path that changes nothing, all datagrams arrive once and
// in order.
func TestCleanPath(t *testing.T) {
	for _, address := range []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
		t.Run(address.String(), func(t *testing.T) { crosses(t, netip.AddrPortFrom(address, freeport.Loopback(t).Port())) })
	}
}

// TestSameOnTheWire: the payload is what the headers of the family leave of WireBytes.
func TestSameOnTheWire(t *testing.T) {
	assert.Equal(t, 1200, PayloadBytes(testnet.IPv4)) // and 8 of UDP, 20 of IPv4, 14 of Ethernet
	assert.Equal(t, 1180, PayloadBytes(testnet.IPv6)) // and 8 of UDP, 40 of IPv6, 14 of Ethernet
}

func crosses(t *testing.T, at netip.AddrPort) {
	t.Helper()
	clean := Plan{Token: 5, Loads: []Load{{150, 40e6, time.Millisecond}, {50, 50e6, time.Second}}, Pause: time.Millisecond}
	ended := receive(t.Context(), t, at, clean)
	require.NoError(t, Send(t.Context(), at, clean))
	end := <-ended
	require.NoError(t, end.err)
	require.Len(t, end.results, 2)
	for i, result := range end.results {
		assert.Equal(t, clean.Loads[i].Datagrams, result.Sent)
		assert.Equal(t, result.Sent, result.Received)
		assert.Zero(t, result.Copies+result.Reordered)
		assert.Positive(t, result.ReceivedBits)
		assert.Positive(t, result.SentBits)
	}
}

// relay is a path that loses, doubles and holds back datagrams.
func relay(ctx context.Context, t *testing.T, to netip.AddrPort) netip.AddrPort {
	t.Helper()
	in, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	require.NoError(t, err)
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	require.NoError(t, err)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = in.Close() })
	t.Cleanup(func() {
		stop()
		_ = in.Close()
		<-stopped
		_ = out.Close()
	})
	go func() {
		defer close(stopped)
		buffer := make([]byte, WireBytes)
		var held []byte
		for count := 1; ; count++ {
			n, err := in.Read(buffer)
			if err != nil {
				return
			}
			times := 1
			switch count % 20 {
			case 5:
				times = 0
			case 10:
				times = 2
			case 15:
				held, times = slices.Clone(buffer[:n]), 0
			}
			for range times {
				_, _ = out.Write(buffer[:n])
			}
			if held != nil && times > 0 {
				_, _ = out.Write(held)
				held = nil
			}
		}
	}()
	return in.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestImpairedPath: what a path does to datagrams is counted.
func TestImpairedPath(t *testing.T) {
	at := freeport.Loopback(t)
	impaired := Plan{Token: 5, Loads: []Load{{80, 20e6, time.Millisecond}}}
	ended := receive(t.Context(), t, at, impaired)
	require.NoError(t, Send(t.Context(), relay(t.Context(), t, at), impaired))
	end := <-ended
	require.NoError(t, end.err)
	result := end.results[0]
	assert.Equal(t, 80, result.Sent)
	assert.Equal(t, 76, result.Received)
	assert.Equal(t, 4, result.Copies)
	assert.Equal(t, 4, result.Reordered)
}

// TestNobodyListens: sending to nobody is an error, and so is a cancelled probe.
func TestNobodyListens(t *testing.T) {
	require.ErrorContains(t, Send(t.Context(), freeport.Loopback(t), Plan{Token: 5, Loads: []Load{{200, 20e6, 0}}}), "refused")
	ctx, cancel := context.WithCancel(t.Context())
	ended := receive(ctx, t, freeport.Loopback(t), plan)
	cancel()
	require.ErrorIs(t, (<-ended).err, context.Canceled)
	require.ErrorIs(t, Send(ctx, freeport.Loopback(t), plan), context.Canceled)
}
