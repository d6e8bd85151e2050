package simulated

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
)

var _ testbed.WAN = path{}

// path is the model of the WAN.
type path struct{ bed *Bed }

func (p path) Shape(ctx context.Context, _ string, profile wan.Profile, _ time.Duration) error {
	if err := profile.Validate(); err != nil {
		return fmt.Errorf("shape the WAN: %s: %w", profile, err)
	}
	if err := p.bed.spend(ctx, shapeTime); err != nil {
		return err
	}
	return p.bed.put(p.bed.siteHost(storage.SiteA), madeShaping)
}

func (p path) Renew(ctx context.Context, _ string, _ wan.Profile, _ time.Duration) error {
	return p.bed.spend(ctx, commandTime)
}

// Now returns the Bed's time, and Wait lets it pass.
func (p path) Now() time.Time { return p.bed.Now() }

func (p path) Wait(ctx context.Context, length time.Duration) error { return p.bed.Wait(ctx, length) }

func (p path) Clear(ctx context.Context, _ string) error { return p.bed.spend(ctx, commandTime) }

const (
	// certifyPings are sent in each direction, bridgePings to the storage server, with pingEvery
	// between two pings.
	certifyPings = 50
	bridgePings  = 25
	// pingSpread is how much longer than the least round-trip time a ping takes, on average.
	pingSpread = 300 * time.Microsecond
	// throughputSpread is the standard deviation of the logarithm of a measured throughput.
	throughputSpread = 0.01
)

// Certify returns the certificate of the model's path: the profile, the round-trip time of the
// unshaped path, and a little noise. Packets are dropped as the profile says.
func (b *Bed) Certify(ctx context.Context, ref trial.Ref) (wan.Certificate, error) {
	profile, err := wan.ParseProfile(ref.Trial.Cell.WAN)
	if err != nil {
		return wan.Certificate{}, fmt.Errorf("certify the path between the sites: %w", err)
	}
	if err := b.spend(ctx, 2*(certifyPings*pingEvery+profile.SendFor())+bridgePings*pingEvery); err != nil {
		return wan.Certificate{}, err
	}
	certificate := wan.Certificate{At: b.Now(), Profile: profile.String()}
	random := source(ref, "certificate "+strconv.FormatInt(certificate.At.UnixNano(), 10))
	rtt := profile.RTT + pathRTT
	if b.faults.rttOutside(ref) {
		rtt += rttOutsideBy
	}
	certificate.Bridge = ping(random, pathRTT/2, wan.Profile{}, bridgePings)
	for _, direction := range []*wan.Direction{&certificate.AToB, &certificate.BToA} {
		direction.Ping = ping(random, rtt, profile, certifyPings)
		direction.ThroughputBits = throughput(random, profile)
		if profile.IsShaping() {
			sent := direction.ThroughputBits / 8 / segmentBytes * profile.SendFor().Seconds()
			direction.Drops = drops(random, sent, profile.LossPercent/100)
			direction.Packets = int64(sent) - direction.Drops
			direction.LimitPackets = profile.QueueLimit()
			direction.WantLimitPackets = direction.LimitPackets
		}
	}
	return certificate, nil
}

// throughput returns slightly less than the profile's rate, or than what the hosts can send.
func throughput(random *rand.Rand, profile wan.Profile) float64 {
	rate := hostStreamBytesPerS * 8
	if profile.RateBits != 0 {
		rate = float64(profile.RateBits)
	}
	return min(rate, rate*wanEfficiency*math.Exp(throughputSpread*random.NormFloat64()))
}

// drops draws how many of the packets are lost, each with the given probability, by the normal
// approximation of the binomial distribution.
func drops(random *rand.Rand, packets, probability float64) int64 {
	mean := packets * probability
	return int64(min(packets, max(0, math.Round(mean+math.Sqrt(mean*(1-probability))*random.NormFloat64()))))
}

// ping draws round-trip times: at least rtt − jitter, spread uniformly over half of the jitter in
// each direction, with an exponential tail.
func ping(random *rand.Rand, rtt time.Duration, profile wan.Profile, count int) wan.Ping {
	trips := make([]time.Duration, 0, count)
	total := time.Duration(0)
	lost := lossOfRoundTrip(profile)
	for range count {
		if random.Float64() < lost {
			continue
		}
		trip := rtt + evenly(random, profile.Jitter/2) + evenly(random, profile.Jitter/2) + time.Duration(random.ExpFloat64()*float64(pingSpread))
		trips = append(trips, trip)
		total += trip
	}
	result := wan.Ping{Sent: count, Received: len(trips)}
	if len(trips) == 0 {
		return result
	}
	slices.Sort(trips)
	result.Min, result.Max = trips[0], trips[len(trips)-1]
	result.Mean = total / time.Duration(len(trips))
	result.Median = (trips[(len(trips)-1)/2] + trips[len(trips)/2]) / 2
	return result
}

// lossOfRoundTrip returns the probability, 0 to 1, that at least one of two packets is lost.
func lossOfRoundTrip(profile wan.Profile) float64 {
	kept := 1 - profile.LossPercent/100
	return 1 - kept*kept
}
