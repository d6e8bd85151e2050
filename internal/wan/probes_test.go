package wan

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/wan/probe"
)

// goodProbe is of a path that carries 100 Mbit/s.
func goodProbe() *Probe {
	return &Probe{
		Below: probe.Result{Sent: 2000, Received: 2000, SentBits: 94.9e6, ReceivedBits: 94.1e6, Span: 210 * time.Millisecond,
			Spread: 6 * time.Millisecond, Spread90: 900 * time.Microsecond},
		Above: probe.Result{Sent: 1000, Received: 1000, SentBits: 109.6e6, ReceivedBits: 100.2e6, Span: 99 * time.Millisecond},
	}
}

// TestProbeIsJudged: everything on a path that the profile does not have is reported.
func TestProbeIsJudged(t *testing.T) {
	for want, change := range map[string]func(*Probe){
		"":                               func(*Probe) {},
		"none of 2000 datagrams arrived": func(p *Probe) { p.Below.Received = 0 },
		"1 of 2000 datagrams lost, 0.05 %: the profile's 0 % does not explain it":                              func(p *Probe) { p.Below.Received-- },
		"3 datagrams came more than once":                                                                      func(p *Probe) { p.Below.Copies, p.Above.Copies = 1, 2 },
		"11 of 2000 datagrams were overtaken by later ones, without jitter":                                    func(p *Probe) { p.Below.Reordered = 11 },
		"one way takes up to 9.00 ms longer than the shortest for 90 % of the datagrams: want at most 4.00 ms": func(p *Probe) { p.Below.Spread90 = 9 * time.Millisecond },
		"datagrams sent at 94.90 Mbit/s, below the rate 100.00 Mbit/s, came at 80.00 Mbit/s":                   func(p *Probe) { p.Below.ReceivedBits = 80e6 },
		"datagrams sent at 114.00 Mbit/s came at 113.00 Mbit/s, more than the rate 100.00 Mbit/s":              func(p *Probe) { p.Above.SentBits, p.Above.ReceivedBits = 114e6, 113e6 },
	} {
		certificate := measuredCertificate()
		certificate.AToB.Probe = goodProbe()
		change(certificate.AToB.Probe)
		tolerance := testTolerance
		tolerance.SpreadMs = 4
		err := certificate.CheckAToB(testProfile, tolerance)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.EqualError(t, err, want)
		require.NoError(t, certificate.CheckBToA(testProfile, testTolerance))
	}
}

// TestProbeByLateHosts: an emulated host received the first datagrams late, so that the
// others seemed to arrive faster than they were sent.
func TestProbeByLateHosts(t *testing.T) {
	certificate := measuredCertificate()
	certificate.AToB.Probe = goodProbe()
	certificate.AToB.Probe.Above.SentBits, certificate.AToB.Probe.Above.ReceivedBits = 107.67e6, 136.61e6
	tolerance := testTolerance
	require.ErrorContains(t, certificate.CheckAToB(testProfile, tolerance), "more than the rate")
	tolerance.SpreadMs = 500
	require.NoError(t, certificate.CheckAToB(testProfile, tolerance))
}

// TestProbeAllowsWhatTheProfileSays: the loss and jitter of the profile, a sender that
// could not send faster than the rate, and a receiver that was held up are allowed.
func TestProbeAllowsWhatTheProfileSays(t *testing.T) {
	profile := Profile{RTT: 60 * time.Millisecond, Jitter: 4 * time.Millisecond, LossPercent: 1, RateBits: 100e6}
	p := goodProbe()
	p.Below.Received, p.Below.Reordered, p.Below.Spread90, p.Below.Spread = 1980, 5, 15*time.Millisecond, 20*time.Millisecond
	p.Above.Received, p.Above.SentBits, p.Above.ReceivedBits = 990, 104e6, 115e6
	require.NoError(t, p.check(profile, 2*time.Millisecond))
	p.Above.SentBits = 110e6 // 115 in 99 ms are 95.7 in 119
	require.NoError(t, p.check(profile, 2*time.Millisecond))
	p.Below.Received = 1900
	require.ErrorContains(t, p.check(profile, 2*time.Millisecond), "100 of 2000 datagrams lost")
}

// TestDetectableLoss: by the rule of three, 2,000 datagrams show a loss of 0.15 %.
func TestDetectableLoss(t *testing.T) {
	assert.InDelta(t, 0.1497, goodProbe().DetectableLossPercent(), 1e-4)
	assert.InDelta(t, 100, Probe{}.DetectableLossPercent(), 0)
}

// TestProbePlan: both loads together take 3 s at most, and no line is filled for longer.
func TestProbePlan(t *testing.T) {
	for rate, want := range map[int64][]int{0: {2000}, 10_000_000_000: {2000, 1000}, 50e6: {2000, 1000}, 10e6: {1434, 553}, 1e6: {143, 55}, 70e3: {20, 20}} {
		plan, ok := Profile{RateBits: rate}.probePlan(false)
		require.True(t, ok, rate)
		require.NoError(t, plan.Check())
		var got []int
		length := time.Duration(0)
		for _, load := range plan.Loads {
			got = append(got, load.Datagrams)
			length += load.Length()
		}
		assert.Equal(t, want, got, rate)
		if rate != 70e3 {
			assert.Less(t, length, 3*time.Second, rate)
		}
	}
	_, ok := Profile{RateBits: 10e3}.probePlan(false)
	require.False(t, ok, "20 datagrams take 21 s")
	plan, _ := Profile{RateBits: 10e6}.probePlan(true)
	require.Len(t, plan.Loads, 1, "an average says nothing of half a second")
}

// TestPingThatCameTwice: a path that duplicates packets loses none, but matches no
// profile.
func TestPingThatCameTwice(t *testing.T) {
	ping, err := parsePing([]byte("PING 198.18.0.2 (198.18.0.2) 56(84) bytes of data.\n" +
		"64 bytes from 198.18.0.2: icmp_seq=1 ttl=64 time=60.1 ms\n64 bytes from 198.18.0.2: icmp_seq=1 ttl=64 time=61.3 ms (DUP!)\n" +
		"64 bytes from 198.18.0.2: icmp_seq=2 ttl=64 time=60.3 ms\n\n--- 198.18.0.2 ping statistics ---\n" +
		"2 packets transmitted, 2 received, +1 duplicates, 0% packet loss, time 10ms\nrtt min/avg/max/mdev = 60.1/60.5/61.3/0.5 ms\n"))
	require.NoError(t, err)
	require.Equal(t, 1, ping.Copies)
	require.Equal(t, 60200*time.Microsecond, ping.Median)
	busybox, err := parsePing([]byte("64 bytes from 198.18.0.2: seq=0 ttl=64 time=60.1 ms\n" +
		"2 packets transmitted, 1 packets received, 3 duplicates, 50% packet loss\nround-trip min/avg/max = 60.1/60.1/60.1 ms\n"))
	require.NoError(t, err)
	require.Equal(t, 3, busybox.Copies)
	certificate := measuredCertificate()
	certificate.AToB.Ping.Copies = ping.Copies
	require.ErrorContains(t, certificate.Check(testProfile, testTolerance), "1 of 50 pings were answered more than once")
}
