package wan

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"time"

	"heliotrope/internal/remote"
	"heliotrope/internal/testnet"
)

// Ping is a series of measured round trips.
type Ping struct {
	Sent     int `json:"sent"`
	Received int `json:"received"`
	// Copies is how many replies arrived more than once.
	Copies int           `json:"copies,omitempty"`
	Min    time.Duration `json:"min_ns"` // 0, like the other times, when nothing was received
	Mean   time.Duration `json:"mean_ns"`
	Median time.Duration `json:"median_ns"`
	Max    time.Duration `json:"max_ns"`
}

// LossPercent is the share of round trips that did not come back.
func (p Ping) LossPercent() float64 {
	if p.Sent == 0 {
		return 0
	}
	return 100 * float64(p.Sent-p.Received) / float64(p.Sent)
}

const (
	maxPings        = 10_000
	minPingInterval = 2 * time.Millisecond
	pingLastReply   = 5 * time.Second
	pingStartMargin = 30 * time.Second
)

const (
	// pingFrameBytes is the length of a ping with its Ethernet header, as netem
	// counts it. It is the same over IPv4 and IPv6, whose pings have less data.
	pingFrameBytes = 98
	etherBytes     = 14
	// echoBytes is the length of an echo request before its data (RFC 792; RFC 4443, section 4.1).
	echoBytes = 8
)

// Measure sends count pings from a host to an address, one each interval;
// intervals below 200 ms need root. Lost pings are a result, not an error.
func Measure(ctx context.Context, from remote.Runner, to netip.Addr, count int, interval time.Duration) (Ping, error) {
	if count < 1 || count > maxPings || !to.IsValid() || interval < minPingInterval {
		return Ping{}, fmt.Errorf("%s: %d pings to %s every %s: want 1 to %d, to a valid address, not closer than %s",
			from.Name(), count, to, interval, maxPings, minPingInterval)
	}
	data := pingFrameBytes - etherBytes - testnet.FamilyOf(to).HeaderBytes() - echoBytes
	result, err := from.Run(ctx, remote.Command{
		// /bin/ping by its path, because busybox's ping can do less.
		Args: []string{"/bin/ping", "-c", strconv.Itoa(count), "-i", seconds(interval),
			"-W", seconds(pingLastReply), "-s", strconv.Itoa(data), "-n", to.String()},
		Env:     []string{"LC_ALL=C"},
		Timeout: time.Duration(count)*interval + pingLastReply + pingStartMargin,
	})
	// It exits with 1 when no reply came.
	if code, ended := remote.ExitCode(err); !ended || code > 1 {
		return Ping{}, fmt.Errorf("ping %s: %w", to, err)
	}
	ping, parseErr := parsePing(result.Stdout)
	switch {
	case parseErr != nil && err != nil:
		return Ping{}, fmt.Errorf("ping %s: %w", to, err)
	case parseErr != nil:
		return Ping{}, fmt.Errorf("%s: ping %s: %w", from.Name(), to, parseErr)
	}
	return ping, nil
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

var (
	pingReply   = regexp.MustCompile(`(?m)^\d+ bytes from .* time=([0-9.]+) ms$`) // does not match a duplicate, whose line ends in (DUP!)
	pingCounts  = regexp.MustCompile(`(?m)^(\d+) packets transmitted, (\d+)(?: packets)? received`)
	pingCopies  = regexp.MustCompile(`(?m)^\d+ packets transmitted,.* \+?(\d+) duplicates`)
	pingSummary = regexp.MustCompile(`(?m)^(?:rtt|round-trip) min/avg/max(?:/mdev)? = ([0-9.]+)/([0-9.]+)/([0-9.]+)(?:/[0-9.]+)? ms`)
)

// parsePing reads the output of iputils' or busybox's ping.
func parsePing(output []byte) (Ping, error) {
	counts := pingCounts.FindSubmatch(output)
	if counts == nil {
		return Ping{}, fmt.Errorf("no summary in its output %.200q", output)
	}
	var ping Ping
	var sentErr, receivedErr, copiesErr error
	ping.Sent, sentErr = strconv.Atoi(string(counts[1]))
	ping.Received, receivedErr = strconv.Atoi(string(counts[2]))
	if copies := pingCopies.FindSubmatch(output); copies != nil {
		ping.Copies, copiesErr = strconv.Atoi(string(copies[1]))
	}
	if cmp.Or(sentErr, receivedErr, copiesErr) != nil || ping.Received > ping.Sent {
		return Ping{}, fmt.Errorf("numbers that cannot be in its output %.200q", output)
	}
	if ping.Received == 0 {
		return ping, nil
	}
	summary := pingSummary.FindSubmatch(output)
	var replies []time.Duration
	for _, reply := range pingReply.FindAllSubmatch(output, -1) {
		trip, err := milliseconds(reply[1])
		if err != nil {
			return Ping{}, err
		}
		replies = append(replies, trip)
	}
	if summary == nil || len(replies) == 0 {
		return Ping{}, fmt.Errorf("no round trips in its output %.200q", output)
	}
	for i, trip := range []*time.Duration{&ping.Min, &ping.Mean, &ping.Max} {
		var err error
		if *trip, err = milliseconds(summary[1+i]); err != nil {
			return Ping{}, err
		}
	}
	if ping.Min > ping.Mean || ping.Mean > ping.Max {
		return Ping{}, fmt.Errorf("numbers that cannot be in its summary %.200q", summary[0])
	}
	slices.Sort(replies)
	ping.Median = (replies[(len(replies)-1)/2] + replies[len(replies)/2]) / 2
	return ping, nil
}

// longestTrip is more than any ping waits.
const longestTrip = 24 * time.Hour

// milliseconds reads a round trip.
func milliseconds(text []byte) (time.Duration, error) {
	value, err := strconv.ParseFloat(string(text), 64)
	if err != nil || value > float64(longestTrip/time.Millisecond) {
		return 0, fmt.Errorf("%.40q is no round trip in ms", text)
	}
	return time.Duration(math.Round(value * float64(time.Millisecond))), nil
}
