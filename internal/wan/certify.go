package wan

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"heliotrope/internal/alive"
	"heliotrope/internal/remote"
	"heliotrope/internal/wan/throughput"
)

// Site is one end of the path that is certified.
type Site struct {
	Host    remote.Runner // must act as root: other users may not ping as often
	Address netip.Addr    // on the test network
	Witness string        // path of heliotrope-witness on the host
}

// CertifyRequest says what to certify.
type CertifyRequest struct {
	A, B   Site
	Bridge netip.Addr  // the bridging host's address on the test network; invalid when it has none
	Shaper interface { // usually a Path
		State(ctx context.Context) (State, error)
	}
	Profile Profile // the profile that was shaped
}

// CertifyPort is the TCP and UDP port, on the test network, on which each site receives the traffic
// of a certificate.
const CertifyPort = 17191

const (
	// sendLeast is the shortest time for which a connection sends, and sendRoundTrips is for how
	// many round trips longer it sends: it starts slowly, and each round trip doubles the data in
	// flight (RFC 5681, section 3.1).
	sendLeast      = time.Second
	sendRoundTrips = 10
	// leastTimeout is how long a program of a certificate may take on the hosts, in addition to the
	// time for its work.
	leastTimeout = 2 * time.Minute
	// unlimitedBytes is how much a connection sends when there is no rate. leastBytes and mostBytes
	// bound what it sends when there is one: a receiver takes at most 64 GiB.
	unlimitedBytes = 256 << 20
	leastBytes     = 4 << 10
	mostBytes      = 32 << 30

	certifyPings        = 100
	certifyPingsMax     = 400
	certifyPingInterval = 10 * time.Millisecond
	bridgePings         = 25
	// expectedLosses is how many pings should get lost, if that does not need too many pings.
	expectedLosses = 8
	// pingShare is the largest share of the line's capacity that pings may take.
	pingShare = 0.1
)

// Certify measures the path between the sites: the round trips from both sites; then the throughput
// of one TCP connection in each direction, one after the other; then numbered datagrams in both
// directions at once; and what netem dropped meanwhile. Nothing else may use the path. Without loss
// it takes 7 to 12 s at 100 Mbit/s, see Profile.CertifyTime. After each part it reports progress
// (alive.Tell). A fault of the WAN is no error here: see Check.
func Certify(ctx context.Context, request CertifyRequest) (Certificate, error) {
	certificate, err := certify(ctx, request)
	if err != nil {
		return Certificate{}, fmt.Errorf("certify the WAN as %s: %w", request.Profile, err)
	}
	return certificate, nil
}

func certify(ctx context.Context, request CertifyRequest) (Certificate, error) {
	a, b, profile := request.A, request.B, request.Profile
	certificate := Certificate{Profile: profile.String()}
	before, err := request.Shaper.State(ctx)
	if err != nil {
		return Certificate{}, err
	}
	if request.Bridge.IsValid() {
		if certificate.Bridge, err = Measure(ctx, a.Host, request.Bridge, bridgePings, certifyPingInterval); err != nil {
			return Certificate{}, err
		}
	}
	if err := certificate.ping(ctx, request); err != nil {
		return Certificate{}, err
	}
	alive.Tell(ctx)
	if certificate.AToB.ThroughputBits, err = carry(ctx, a, b, profile); err != nil {
		return Certificate{}, fmt.Errorf("throughput to site B: %w", err)
	}
	alive.Tell(ctx)
	if certificate.BToA.ThroughputBits, err = carry(ctx, b, a, profile); err != nil {
		return Certificate{}, fmt.Errorf("throughput to site A: %w", err)
	}
	alive.Tell(ctx)
	averaged := before.ToB != nil && before.ToB.RateOnly
	if err := certificate.probe(ctx, request, averaged); err != nil {
		return Certificate{}, err
	}
	after, err := request.Shaper.State(ctx)
	if err != nil {
		return Certificate{}, err
	}
	certificate.AToB.count(before.ToB, after.ToB)
	certificate.BToA.count(before.ToA, after.ToA)
	if profile.IsShaping() && (after.ToB == nil || !after.ToB.RateOnly) {
		certificate.AToB.WantLimitPackets, certificate.BToA.WantLimitPackets = profile.QueueLimit(), profile.QueueLimit()
	}
	if err := after.Check(profile); err != nil {
		certificate.Shaping = err.Error()
	}
	certificate.At = time.Now()
	return certificate, nil
}

// ping measures the round trips from both sites, at the same time.
func (c *Certificate) ping(ctx context.Context, request CertifyRequest) error {
	count, interval := request.Profile.pings()
	var errA, errB error
	var both sync.WaitGroup
	both.Go(func() { c.AToB.Ping, errA = Measure(ctx, request.A.Host, request.B.Address, count, interval) })
	both.Go(func() { c.BToA.Ping, errB = Measure(ctx, request.B.Host, request.A.Address, count, interval) })
	both.Wait()
	return oneLine([]error{errA, errB})
}

// pings is how many pings are sent, and at which interval: more pings when some get lost, fewer when
// they would fill the line.
func (p Profile) pings() (count int, interval time.Duration) {
	count = certifyPings
	if share := p.RoundTripLossPercent() / 100; share > 0 {
		count = int(max(certifyPings, min(certifyPingsMax, math.Ceil(expectedLosses/share))))
	}
	return count, max(certifyPingInterval, time.Duration(float64(p.pingTransmission()/2)/pingShare))
}

// count stores what netem counted between two states.
func (d *Direction) count(before, after *Queue) {
	if after == nil {
		return
	}
	d.LimitPackets = after.LimitPackets
	if before != nil {
		d.Packets = grown(before.SentPackets, after.SentPackets)
		d.Drops = grown(before.DroppedPackets, after.DroppedPackets)
	}
}

// grown is the growth of a counter that wraps at 2³².
func grown(before, after int64) int64 {
	if after < before {
		return after - before + 1<<32
	}
	return after - before
}

// carry measures the rate of one TCP connection, in bit/s of payload.
func carry(ctx context.Context, from, to Site, profile Profile) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	address := netip.AddrPortFrom(to.Address, CertifyPort).String()
	receiver := receiver{listening: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := to.Host.Run(ctx, remote.Command{
			Args: []string{to.Witness, "receive", address}, Stdout: &receiver, Timeout: profile.connectionLimit(),
		})
		ended <- err
	}()
	select {
	case <-receiver.listening:
	case err := <-ended:
		return 0, fmt.Errorf("%s: %s ended before it listened (said %.200q): %w", to.Host.Name(), to.Witness, receiver.said.Bytes(),
			cmp.Or(err, errEnded))
	}
	sent, err := from.Host.Run(ctx, remote.Command{
		Args:    []string{from.Witness, "send", address, seconds(profile.SendFor()), strconv.FormatInt(profile.limitBytes(), 10)},
		Timeout: profile.connectionLimit(),
	})
	if err != nil {
		cancel()
		return 0, oneLine([]error{err, unlessCancelled(<-ended)})
	}
	if err := <-ended; err != nil {
		return 0, err
	}
	var result throughput.Result
	if err := json.Unmarshal(sent.Stdout, &result); err != nil {
		return 0, fmt.Errorf("%s: what the sender says, %.200q: %w", from.Host.Name(), sent.Stdout, err)
	}
	if result.BitsPerSecond() == 0 {
		return 0, fmt.Errorf("%s: too little arrived from %s to be timed: %+v", to.Host.Name(), from.Host.Name(), result)
	}
	return result.BitsPerSecond(), nil
}

// SendFor is how long a certificate's TCP connection sends over a path with this profile.
func (p Profile) SendFor() time.Duration { return sendLeast + sendRoundTrips*p.RTT }

// connectionLimit is how long one connection, or one direction of the probe, may take: data that was
// sent may still have to cross the line, and TCP may have to wait for lost segments.
func (p Profile) connectionLimit() time.Duration { return leastTimeout + 4*p.SendFor() }

// CertifyTime is how long a certificate is expected to take, with a margin for loss.
func (p Profile) CertifyTime() time.Duration {
	count, interval := p.pings()
	pings := time.Duration(count)*interval + bridgePings*certifyPingInterval + 2*pingLastReply
	return pings + 2*2*p.SendFor() + 2*probeLongest
}

// limitBytes is how much a connection sends at most: what the line carries while it sends. With
// more, emptying the queue would take as long again.
func (p Profile) limitBytes() int64 {
	if p.RateBits == 0 {
		return unlimitedBytes
	}
	return min(mostBytes, max(leastBytes, int64(float64(p.RateBits)/8*p.SendFor().Seconds())))
}

// unlessCancelled drops the error that our own cancelling causes, and keeps any other.
func unlessCancelled(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

var errEnded = errors.New("without an error")

// receiver waits for the first line of the receiving program, which says that
// it listens.
type receiver struct {
	said      bytes.Buffer
	once      sync.Once
	listening chan struct{}
}

func (r *receiver) Write(output []byte) (int, error) {
	r.said.Write(output)
	if bytes.IndexByte(r.said.Bytes(), '\n') >= 0 {
		r.once.Do(func() { close(r.listening) })
	}
	return len(output), nil
}
