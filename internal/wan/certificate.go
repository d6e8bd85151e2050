package wan

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"
)

// Certificate is what a WAN was measured to be, at one time and with no other
// traffic on it. A is the site with the storage server.
type Certificate struct {
	At      time.Time `json:"at"` // the end of the measurement, on the asking machine's clock
	Profile string    `json:"profile"`
	// AToB is what site A measured towards site B, and BToA the opposite
	// direction.
	AToB Direction `json:"a_to_b"`
	BToA Direction `json:"b_to_a"`
	// Bridge is the round trip from site A to the host that bridges the sites,
	// which does not cross the WAN. Nothing was sent when that host has no
	// address of its own.
	Bridge Ping `json:"bridge"`
	// Shaping is what State.Check found wrong on that host; "" when nothing was
	// wrong.
	Shaping string `json:"shaping,omitempty"`
}

// Direction is one direction of a certificate.
type Direction struct {
	// Ping is the round trip as measured by this direction's sender.
	Ping Ping `json:"ping"`
	// ThroughputBits is the rate that one TCP connection carried, in bit/s of
	// payload, as the receiver counted it, including the connection's slow start.
	ThroughputBits float64 `json:"throughput_bits"`
	// Probe is the result for numbered UDP datagrams; nil when none were sent.
	Probe *Probe `json:"probe,omitempty"`
	// Packets is how many packets netem let through while the certificate was
	// measured, and Drops is how many it dropped. LimitPackets is the limit of
	// netem's queue. All three are 0 when nothing is shaped.
	Packets      int64 `json:"packets"`
	Drops        int64 `json:"drops"`
	LimitPackets int   `json:"limit_packets"`
	// WantLimitPackets is the queue limit with which netem drops no packet
	// because its queue is full.
	WantLimitPackets int `json:"want_limit_packets"`
}

// Tolerance is how far a certificate may differ from its profile.
type Tolerance struct {
	RTTMs                float64 `json:"rtt_ms"`      // either this,
	RTTPercent           float64 `json:"rtt_percent"` // or this share of the profile's RTT, whichever is more
	MinThroughputPercent float64 `json:"min_throughput_percent"`
	// SpreadMs is how much longer than the shortest one-way delay the delay of 90
	// % of the datagrams may be, beyond what the profile's jitter explains; 0
	// means DefaultSpreadMs.
	SpreadMs float64 `json:"spread_ms,omitempty"`
}

// DefaultSpreadMs is wide, because it includes delays on busy hosts.
const DefaultSpreadMs = 20

const (
	// maxThroughput is how much a connection may carry, relative to the rate. A
	// receiver that is woken late finds bytes waiting, and measures too short a
	// time for them.
	maxThroughput = 1.05
	// maxUnshapedRTT is the longest round trip allowed for the sites' own
	// networks: a certificate must not pass because the machine is busy.
	maxUnshapedRTT = 5 * time.Millisecond
)

// RoundTripLossPercent is the share of round trips that lose a packet in either
// direction: with loss p in each direction, 1 - (1 - p)².
func (p Profile) RoundTripLossPercent() float64 {
	kept := 1 - p.LossPercent/100
	return 100 * (1 - kept*kept)
}

// Check lists everything in which the certificate differs from the profile:
//   - the round trip from either site. The shortest round trip is compared, because it is what the
//     WAN adds; the median, which is recorded too, includes delays on busy
//     hosts. With jitter the median is compared, because the shortest is luck. The round trip may
//     be longer by what the sites' own networks add, for which twice the round trip
//     from site A to the bridging host is taken, at most 5 ms: site B's
//     network is assumed to be like site A's, because nothing can measure it without
//     crossing the WAN. When nothing is shaped there is only an upper bound,
//     of at least 5 ms, plus the same allowance;
//   - loss, of pings and in netem's own count, that is too high or too low to be
//     chance;
//   - pings and datagrams that arrived twice, which nothing explains;
//   - for datagrams sent one way at 95 % of the rate: loss that chance does not
//     explain, a lower rate of arrival, datagrams overtaken by later ones although
//     there is no jitter, and a spread wider than four times the jitter
//     plus the tolerance. The spread of 90 % of the datagrams is compared, because a host that is held up for a
//     moment is not the WAN;
//   - for datagrams sent at 110 % of the rate: arrival at more than 105 % of the rate;
//   - a TCP connection that carried more than 105 % of the rate, or less than
//     the tolerance requires; the latter only without loss, which slows TCP down by itself;
//   - a queue limit with which netem may drop packets because its queue is full;
//   - what State.Check found.
func (c Certificate) Check(profile Profile, tolerance Tolerance) error {
	var problems []error
	for _, direction := range []struct {
		name string
		Direction
	}{{"site A to B", c.AToB}, {"site B to A", c.BToA}} {
		if err := direction.check(profile, tolerance, c.path(profile)); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", direction.name, err))
		}
	}
	if err := oneLine(append(problems, c.shaping())); err != nil {
		return fmt.Errorf("the WAN is not as the profile %s says: %w", profile, err)
	}
	return nil
}

// CheckAToB is Check for one direction; its error names neither the direction nor
// the profile.
func (c Certificate) CheckAToB(profile Profile, tolerance Tolerance) error {
	return oneLine([]error{c.AToB.check(profile, tolerance, c.path(profile)), c.shaping()})
}

// CheckBToA is the same for the other direction.
func (c Certificate) CheckBToA(profile Profile, tolerance Tolerance) error {
	return oneLine([]error{c.BToA.check(profile, tolerance, c.path(profile)), c.shaping()})
}

func (c Certificate) shaping() error {
	if c.Shaping == "" {
		return nil
	}
	return errors.New(c.Shaping)
}

// path is how much the sites' own networks are assumed to add to a round trip.
func (c Certificate) path(profile Profile) time.Duration {
	return min(2*c.Bridge.judged(profile), maxUnshapedRTT)
}

// judged is the round trip to compare with the profile's.
func (p Ping) judged(profile Profile) time.Duration {
	if profile.Jitter > 0 {
		return p.Median
	}
	return p.Min
}

func (d Direction) check(profile Profile, tolerance Tolerance, path time.Duration) error {
	problems := []error{
		d.Ping.check(profile, tolerance, path),
		checkLoss("pings", d.Ping.Sent-d.Ping.Received, d.Ping.Sent, profile.RoundTripLossPercent()/100),
		checkLoss("packets in netem", int(d.Drops), int(d.Packets+d.Drops), profile.LossPercent/100),
	}
	if d.Ping.Copies > 0 {
		problems = append(problems, fmt.Errorf("%d of %d pings were answered more than once", d.Ping.Copies, d.Ping.Sent))
	}
	if d.Probe != nil {
		problems = append(problems, d.Probe.check(profile, tolerance.spread()))
	}
	rate := float64(profile.RateBits)
	switch least := rate * tolerance.MinThroughputPercent / 100; {
	case rate == 0:
	case d.ThroughputBits > rate*maxThroughput:
		problems = append(problems, fmt.Errorf("a TCP connection carried %s, more than the rate %s",
			megabits(d.ThroughputBits), megabits(rate)))
	case d.ThroughputBits < least && profile.LossPercent == 0:
		problems = append(problems, fmt.Errorf("a TCP connection carried %s of the rate %s: want at least %s",
			megabits(d.ThroughputBits), megabits(rate), megabits(least)))
	}
	if d.LimitPackets < d.WantLimitPackets {
		problems = append(problems, fmt.Errorf("netem holds %d packets at most: want at least %d, or it drops by itself",
			d.LimitPackets, d.WantLimitPackets))
	}
	return oneLine(problems)
}

func megabits(bits float64) string { return fmt.Sprintf("%.2f Mbit/s", bits/1e6) }

// check compares the round trips with the profile's.
func (p Ping) check(profile Profile, tolerance Tolerance, path time.Duration) error {
	if p.Received == 0 {
		return fmt.Errorf("none of %d pings came back", p.Sent)
	}
	want := profile.RTT + profile.pingTransmission()
	allowed := tolerance.allowed(profile)
	measured := p.judged(profile)
	if off := measured - want; off < -allowed || off > allowed+path {
		return fmt.Errorf("round trip of %.2f ms: want %.2f ms to %.2f ms, %.2f ms of them for the sites' own networks",
			milli(measured), max(0, milli(want-allowed)), milli(want+allowed+path), milli(path))
	}
	return nil
}

// allowed is how far a round trip may differ from the profile's.
func (t Tolerance) allowed(profile Profile) time.Duration {
	allowed := time.Duration(max(t.RTTMs, t.RTTPercent/100*milli(profile.RTT)) * float64(time.Millisecond))
	if !profile.IsShaping() {
		allowed = max(allowed, maxUnshapedRTT)
	}
	return allowed
}

// spread is how much longer than the shortest one-way delay a delay may be
// without jitter.
func (t Tolerance) spread() time.Duration {
	return time.Duration(cmp.Or(t.SpreadMs, DefaultSpreadMs) * float64(time.Millisecond))
}

func milli(d time.Duration) float64 { return d.Seconds() * 1e3 }

// pingTransmission is how long the line is busy with sending a ping and its
// answer.
func (p Profile) pingTransmission() time.Duration {
	if p.RateBits == 0 {
		return 0
	}
	return time.Duration(2 * pingFrameBytes * 8 / float64(p.RateBits) * float64(time.Second))
}

// chance is the probability below which a loss is not put down to chance: each
// count of a certificate wrongly refuses one certificate in a million.
const chance = 1e-6

// checkLoss returns an error when too many or too few of all were lost for that
// to be chance, when each is lost with the probability p. By Chernoff's bound for
// the binomial distribution (W. Hoeffding, Probability inequalities for sums of
// bounded random variables, 1963, theorem 1), the probability of a share of at
// least q > p, or of at most q < p, is at most exp(-n·D(q‖p)), with
//
//	D(q‖p) = q·ln(q/p) + (1-q)·ln((1-q)/(1-p))
func checkLoss(what string, lost, all int, p float64) error {
	if all == 0 || lost == 0 && p == 0 {
		return nil
	}
	q := float64(lost) / float64(all)
	if p > 0 && float64(all)*(term(q, p)+term(1-q, 1-p)) <= -math.Log(chance) {
		return nil
	}
	return fmt.Errorf("%d of %d %s lost, %.3g %%: the profile's %.3g %% does not explain it", lost, all, what, q*100, p*100)
}

// term is q·ln(q/p), and its limit 0 for q = 0.
func term(q, p float64) float64 {
	if q == 0 {
		return 0
	}
	return q * math.Log(q/p)
}

// BridgeRTT is the round trip to the bridging host from which the allowance for
// the sites' own networks follows; 0 when it was not measured.
func (c Certificate) BridgeRTT(profile Profile) time.Duration { return c.Bridge.judged(profile) }
