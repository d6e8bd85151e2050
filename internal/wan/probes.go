package wan

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"heliotrope/internal/remote"
	"heliotrope/internal/wan/probe"
)

// Probe is the result for numbered UDP datagrams, in one direction.
type Probe struct {
	// Below was sent at 95 % of the rate, or at 20 Mbit/s when there is no rate.
	Below probe.Result `json:"below"`
	// Above was sent at 110 % of the rate; it is empty when there is no rate, or when
	// the rate is an average over an unknown time.
	Above probe.Result `json:"above,omitzero"`
}

const (
	belowShare, aboveShare = 0.95, 1.1
	// unlimitedProbeBits is the rate of a probe when the profile has none.
	unlimitedProbeBits = 20_000_000
	// belowTime and aboveTime limit the lengths of the two loads, which are sent in
	// both directions at once; belowMost and aboveMost limit their numbers of
	// datagrams when the rate is high.
	belowTime, aboveTime = 1500 * time.Millisecond, 500 * time.Millisecond
	belowMost, aboveMost = 2000, 1000
	// belowBurst and aboveBurst are how much of a delay a sender makes up for at once.
	// Below the rate, a longer burst would show in the spread; above it, the load is
	// meant to fill the queue.
	belowBurst, aboveBurst = time.Millisecond, aboveTime
	// probeLeast is the smallest number of datagrams of a load. When sending that many
	// would take longer than probeLongest, there is no probe.
	probeLeast   = 20
	probeLongest = 3 * time.Second
	// slackShare is the least share of the sent rate that must arrive. aboveEnough is
	// how much, relative to the rate, must really have been sent before arrival tells
	// whether the rate was enforced.
	slackShare, aboveEnough = 0.95, 1.05
	// reorderedShare is the largest share of datagrams that may be overtaken without
	// jitter: a host that is busy with other work reorders one of thousands, as was
	// seen on the emulated testbed. A path that reorders packets (RFC 4737) does it to
	// more.
	reorderedShare = 0.005
	// confidence is the probability with which a loss would have been seen.
	confidence = 0.95
)

// DetectableLossPercent is the smallest loss with which the probe would have lost at
// least one datagram with a probability of 95 %: 1 - 0.05^(1/n).
func (p Probe) DetectableLossPercent() float64 {
	if p.Below.Sent == 0 {
		return 100
	}
	return 100 * (1 - math.Pow(1-confidence, 1/float64(p.Below.Sent)))
}

// check compares a probe with the profile. spread is how much one-way delays may
// differ without jitter.
func (p Probe) check(profile Profile, spread time.Duration) error {
	b := p.Below
	if b.Received == 0 {
		return fmt.Errorf("none of %d datagrams arrived", b.Sent)
	}
	problems := []error{checkLoss("datagrams", b.Sent-b.Received, b.Sent, profile.LossPercent/100)}
	if copies := b.Copies + p.Above.Copies; copies > 0 {
		problems = append(problems, fmt.Errorf("%d datagrams came more than once", copies))
	}
	if float64(b.Reordered) > reorderedShare*float64(b.Received) && profile.Jitter == 0 {
		problems = append(problems, fmt.Errorf("%d of %d datagrams were overtaken by later ones, without jitter", b.Reordered, b.Received))
	}
	if most := 4*profile.Jitter + spread; b.Spread90 > most {
		problems = append(problems, fmt.Errorf("one way takes up to %.2f ms longer than the shortest for 90 %% of the datagrams: want at most %.2f ms",
			milli(b.Spread90), milli(most)))
	}
	return oneLine(append(problems, p.checkRates(float64(profile.RateBits), spread)))
}

// checkRates compares the rate of arrival with the rate of sending. The first or the
// last datagram may have been held up by as much as the spread and, when the tolerance
// allows for hosts that are later than others, by that much more.
func (p Probe) checkRates(rate float64, allowed time.Duration) error {
	b, a := p.Below, p.Above
	spread, late := b.Spread.Seconds(), max(0, allowed.Seconds()-DefaultSpreadMs/1e3)
	var problems []error
	if span := b.Span.Seconds(); rate > 0 && span > spread && b.ReceivedBits*span/(span-spread) < slackShare*b.SentBits {
		problems = append(problems, fmt.Errorf("datagrams sent at %s, below the rate %s, came at %s", megabits(b.SentBits), megabits(rate), megabits(b.ReceivedBits)))
	}
	if span := a.Span.Seconds(); a.SentBits > aboveEnough*rate && a.ReceivedBits*span/(span+spread+late) > maxThroughput*rate {
		problems = append(problems, fmt.Errorf("datagrams sent at %s came at %s, more than the rate %s", megabits(a.SentBits), megabits(a.ReceivedBits), megabits(rate)))
	}
	return oneLine(problems)
}

// probePlan is what is sent in each direction; ok is false when the line is too slow
// for a probe.
func (p Profile) probePlan(averaged bool) (plan probe.Plan, ok bool) {
	load := func(rate float64, longest time.Duration, most int, burst time.Duration) probe.Load {
		datagrams := int(rate * longest.Seconds() / (probe.WireBytes * 8))
		return probe.Load{Datagrams: max(probeLeast, min(most, datagrams)), RateBits: int64(rate), Burst: burst}
	}
	if p.RateBits == 0 {
		plan.Loads = []probe.Load{load(unlimitedProbeBits, belowTime, belowMost, belowBurst)}
	} else {
		plan.Loads = []probe.Load{load(belowShare*float64(p.RateBits), belowTime, belowMost, belowBurst)}
		if !averaged {
			plan.Loads = append(plan.Loads, load(aboveShare*float64(p.RateBits), aboveTime, aboveMost, aboveBurst))
		}
	}
	// Everything that was sent must have left the path before the next load.
	plan.Pause = min(time.Second, p.RTT/2+p.Jitter+50*time.Millisecond)
	plan.Token = newToken()
	return plan, plan.Loads[0].Length() <= probeLongest
}

// newToken makes a token that no other probe has.
func newToken() uint64 {
	var bytes [8]byte
	_, _ = rand.Read(bytes[:]) // it never fails
	return binary.BigEndian.Uint64(bytes[:]) | 1
}

// probe sends numbered datagrams in both directions at once.
func (c *Certificate) probe(ctx context.Context, request CertifyRequest, averaged bool) error {
	plan, ok := request.Profile.probePlan(averaged)
	if !ok {
		return nil
	}
	var errA, errB error
	var both sync.WaitGroup
	both.Go(func() { c.AToB.Probe, errA = probed(ctx, request.A, request.B, plan) })
	both.Go(func() { c.BToA.Probe, errB = probed(ctx, request.B, request.A, plan) })
	both.Wait()
	if errA != nil {
		errA = fmt.Errorf("probe to site B: %w", errA)
	}
	if errB != nil {
		errB = fmt.Errorf("probe to site A: %w", errB)
	}
	return oneLine([]error{errA, errB})
}

// probed is one direction of a probe.
func probed(ctx context.Context, from, to Site, plan probe.Plan) (*Probe, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	address := netip.AddrPortFrom(to.Address, CertifyPort).String()
	receiver := receiver{listening: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := to.Host.Run(ctx, remote.Command{
			Args: []string{to.Witness, "probe-receive", address, string(text)}, Stdout: &receiver, Timeout: leastTimeout,
		})
		ended <- err
	}()
	select {
	case <-receiver.listening:
	case err := <-ended:
		return nil, fmt.Errorf("%s: %s ended before it listened (said %.200q): %w", to.Host.Name(), to.Witness, receiver.said.Bytes(),
			cmp.Or(err, errEnded))
	}
	_, err = from.Host.Run(ctx, remote.Command{Args: []string{from.Witness, "probe-send", address, string(text)}, Timeout: leastTimeout})
	if err != nil {
		cancel()
		return nil, oneLine([]error{err, unlessCancelled(<-ended)})
	}
	if err := <-ended; err != nil {
		return nil, err
	}
	var results []probe.Result
	_, told, _ := strings.Cut(receiver.said.String(), "\n")
	if err := json.Unmarshal([]byte(told), &results); err != nil || len(results) != len(plan.Loads) {
		return nil, fmt.Errorf("%s: what the receiver says, %.200q: %d results, %w", to.Host.Name(), told, len(results), cmp.Or(err, errEnded))
	}
	found := Probe{Below: results[0]}
	if len(results) > 1 {
		found.Above = results[1]
	}
	return &found, nil
}
