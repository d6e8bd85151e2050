package judge

import (
	"fmt"
	"slices"
	"time"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/wan"
	"heliotrope/internal/wan/probe"
)

// Moments and directions in table certificates.
const (
	MomentBefore  = "before"
	MomentAfter   = "after"
	directionAToB = "a-to-b"
	directionBToA = "b-to-a"
)

// CertificateRows are the two rows of table certificates for a certificate, one for each
// direction, judged by the tolerance. Moment is MomentBefore or MomentAfter.
func CertificateRows(trialKey, moment string, certificate wan.Certificate, profile wan.Profile, tolerance wan.Tolerance) []dataset.Certificate {
	row := func(direction string, d wan.Direction, problem error) dataset.Certificate {
		r := dataset.Certificate{
			Trial: trialKey, Moment: moment, Direction: direction, TsNs: certificate.At.UnixNano(), Profile: profile.String(),
			WantRTTMs: profile.RTT.Seconds() * 1e3, Pings: int32(d.Ping.Sent), Received: int32(d.Ping.Received), //nolint:gosec // at most some thousands
			LossPercent: d.Ping.LossPercent(), WantLossPercent: profile.RoundTripLossPercent(),
			ThroughputMbit: d.ThroughputBits / 1e6, WantRateMbit: float64(profile.RateBits) / 1e6,
			Packets: d.Packets, Drops: d.Drops, LimitPackets: int32(d.LimitPackets), WantLimitPackets: int32(d.WantLimitPackets), //nolint:gosec // 32 bits in netem
			Shaping: certificate.Shaping, Problem: textOf(problem), PingCopies: count(d.Ping.Copies), Probe: probeRow(d.Probe),
		}
		if d.Ping.Received > 0 {
			r.RTTMinMs, r.RTTMedianMs, r.RTTMaxMs = durationMs(d.Ping.Min), durationMs(d.Ping.Median), durationMs(d.Ping.Max)
		}
		if certificate.Bridge.Received > 0 {
			r.BridgeRTTMs = durationMs(certificate.BridgeRTT(profile))
		}
		return r
	}
	return []dataset.Certificate{
		row(directionAToB, certificate.AToB, certificate.CheckAToB(profile, tolerance)),
		row(directionBToA, certificate.BToA, certificate.CheckBToA(profile, tolerance)),
	}
}

func durationMs(d time.Duration) *float64 { return milliseconds(float64(d.Nanoseconds())) }

// probeRow converts a probe to the columns of a row.
func probeRow(p *wan.Probe) dataset.Probe {
	if p == nil {
		return dataset.Probe{}
	}
	b, a := p.Below, p.Above
	row := dataset.Probe{Sent: count(b.Sent), Received: count(b.Received), Copies: count(b.Copies + a.Copies), Reordered: count(b.Reordered),
		SentMbit: pointer(b.SentBits / 1e6), ReceivedMbit: pointer(b.ReceivedBits / 1e6), Seconds: pointer(b.Span.Seconds()),
		SpreadMs: durationMs(b.Spread), Spread90Ms: durationMs(b.Spread90), DetectableLoss: pointer(p.DetectableLossPercent())}
	if a.Sent > 0 {
		row.AboveSentMbit, row.AboveReceivedMbit, row.AboveSeconds = pointer(a.SentBits/1e6), pointer(a.ReceivedBits/1e6), pointer(a.Span.Seconds())
	}
	return row
}

// probeOf is the probe that a row describes; nil when none was sent.
func probeOf(row *dataset.Probe) *wan.Probe {
	if row.Sent == nil {
		return nil
	}
	in := func(value *float64, unit float64) float64 {
		if value == nil {
			return 0
		}
		return *value * unit
	}
	number := func(value *int32) int {
		if value == nil {
			return 0
		}
		return int(*value)
	}
	p := &wan.Probe{Below: probe.Result{Sent: number(row.Sent), Received: number(row.Received), Copies: number(row.Copies), Reordered: number(row.Reordered),
		SentBits: in(row.SentMbit, 1e6), ReceivedBits: in(row.ReceivedMbit, 1e6), Span: time.Duration(in(row.Seconds, 1e9)),
		Spread: time.Duration(in(row.SpreadMs, 1e6)), Spread90: time.Duration(in(row.Spread90Ms, 1e6))}}
	p.Above.SentBits, p.Above.ReceivedBits = in(row.AboveSentMbit, 1e6), in(row.AboveReceivedMbit, 1e6)
	p.Above.Span = time.Duration(in(row.AboveSeconds, 1e9))
	return p
}

func count(n int) *int32 { return pointer(int32(n)) } //nolint:gosec // some thousands

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// certificateOf is a certificate with the one direction that a row describes.
func certificateOf(row *dataset.Certificate) (wan.Certificate, error) {
	duration := func(ms *float64) time.Duration {
		if ms == nil {
			return 0
		}
		return time.Duration(*ms * float64(time.Millisecond))
	}
	direction := wan.Direction{
		Ping: wan.Ping{Sent: int(row.Pings), Received: int(row.Received),
			Min: duration(row.RTTMinMs), Median: duration(row.RTTMedianMs), Max: duration(row.RTTMaxMs)},
		ThroughputBits: row.ThroughputMbit * 1e6, Packets: row.Packets, Drops: row.Drops,
		LimitPackets: int(row.LimitPackets), WantLimitPackets: int(row.WantLimitPackets), Probe: probeOf(&row.Probe),
	}
	if row.PingCopies != nil {
		direction.Ping.Copies = int(*row.PingCopies)
	}
	certificate := wan.Certificate{At: time.Unix(0, row.TsNs).UTC(), Profile: row.Profile, Shaping: row.Shaping,
		Bridge: wan.Ping{Min: duration(row.BridgeRTTMs), Median: duration(row.BridgeRTTMs)}}
	switch row.Direction {
	case directionAToB:
		certificate.AToB = direction
	case directionBToA:
		certificate.BToA = direction
	default:
		return wan.Certificate{}, fmt.Errorf("a certificate of trial %s is of direction %q", row.Trial, row.Direction)
	}
	return certificate, nil
}

// certify judges the certificates' rows again, by the tolerance of the limits.
func (s *scene) certify(rows []dataset.Certificate) []dataset.Certificate {
	rows = slices.Clone(rows)
	for i := range rows {
		row := &rows[i]
		certificate, err := certificateOf(row)
		profile, profileErr := wan.ParseProfile(s.row.WAN)
		switch {
		case err != nil:
			row.Problem = err.Error()
		case profileErr != nil:
			row.Problem = profileErr.Error()
		case row.Direction == directionAToB:
			row.Problem = textOf(certificate.CheckAToB(profile, s.limits.tolerance()))
		default:
			row.Problem = textOf(certificate.CheckBToA(profile, s.limits.tolerance()))
		}
		if row.Problem != "" {
			s.problem(cause.WANOutOfTolerance, "the WAN's certificate from %s the migration, %s: %s", row.Moment, row.Direction, row.Problem)
		}
	}
	return rows
}
