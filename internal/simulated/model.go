package simulated

import (
	"fmt"
	"math"
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
	"heliotrope/internal/wan"
)

// The storage systems, by their kind.
const (
	iscsi      = "iscsi"
	nfs        = "nfs"
	replicated = "drbd"
	// DRBD's protocols that behave differently: a write is complete when it is in the socket's
	// buffer (A), or on the peer's disk (C).
	protocolA, protocolC = "A", "C"
)

// Constants of I/Os; docs/simulated.md says where they come from.
const (
	pathRTT = time.Millisecond // round-trip time between the sites, without shaping

	iscsiService    = 5500 * time.Microsecond // medians, without the WAN
	nfsService      = 6500 * time.Microsecond
	drbdService     = 4500 * time.Microsecond
	drbdPeerService = 3 * time.Millisecond // with protocol C: the peer's disk
	spread          = 0.25                 // standard deviation of the logarithm of the service time

	diskPause        = time.Millisecond // the disk begins no more than 1,000 I/Os a second
	diskBytesPerS    = 100e6
	thinkTime        = 50 * time.Microsecond // in the guest, between a completion and the next I/O
	precopySlowdown  = 1.3                   // factor of the service time, at the source, during pre-copy
	retransmission   = 200 * time.Millisecond
	diskBytes        = 8 << 20 // the part of the disk that the load uses: the smallest one less a ledger of the default size
	sectorBytes      = 512
	drbdBufferBytes  = 1 << 20 // size of the socket's buffer, which takes writes with protocol A
	migratingWANPart = 0.5     // share of the WAN's rate that the migration's stream leaves to I/Os
)

// model is one attempt, as far as its reference describes it.
type model struct {
	ref      trial.Ref
	access   campaign.AccessSpec
	load     engine.Config
	profile  wan.Profile
	rtt      time.Duration // the profile's round-trip time plus the path's own
	kind     string        // of the storage system
	protocol string        // of DRBD
	schedule schedule
	guest    guestClock
	faults   Faults
}

// modelOf makes the model of a reference. The error says what the reference lacks.
func modelOf(ref trial.Ref, faults Faults) (*model, error) {
	cell := ref.Trial.Cell
	profile, err := wan.ParseProfile(cell.WAN)
	if err != nil {
		return nil, err
	}
	m := &model{ref: ref, access: cell.Access.Complete(), profile: profile, rtt: profile.RTT + pathRTT,
		kind: cell.Storage, protocol: cell.DRBDProtocol, faults: faults}
	if m.kind != iscsi && m.kind != nfs && m.kind != replicated {
		return nil, fmt.Errorf("no storage system %q", m.kind)
	}
	if m.protocol == "" {
		m.protocol = protocolC
	}
	if m.load, err = loadConfig(ref); err != nil {
		return nil, err
	}
	if _, err := spec.NewSequence(m.access, m.load.Targets, 0, m.load.Seed); err != nil {
		return nil, fmt.Errorf("on the %d bytes that the model uses: %w", diskBytes, err)
	}
	m.schedule = m.plan()
	m.guest = m.guestClock()
	return m, nil
}

// conditions are the circumstances of an I/O, by where and when it is made.
type conditions struct {
	site      storage.Site
	migrating bool // pre-copy is running
	protocol  string
}

// service returns the median time of an I/O without the WAN.
func (m *model) service(read bool, c conditions) time.Duration {
	service := drbdService
	switch {
	case m.kind == iscsi:
		service = iscsiService
	case m.kind == nfs:
		service = nfsService
	case !read && c.protocol == protocolC:
		service += drbdPeerService
	}
	if c.migrating {
		service = time.Duration(float64(service) * precopySlowdown)
	}
	return service
}

// crosses reports whether an I/O's data crosses the WAN, and whether the I/O waits for the WAN's
// round trip.
func (m *model) crosses(read bool, c conditions) (data, waits bool) {
	if m.kind == replicated {
		// Reads are local, wherever the guest is.
		return !read, !read && c.protocol != protocolA
	}
	remote := c.site == storage.SiteB // the store is at site A
	return remote, remote
}

// wanBytesPerS returns the WAN's rate that is left to I/Os; infinite when the WAN has no rate
// limit.
func (m *model) wanBytesPerS(c conditions) float64 {
	if m.profile.RateBits == 0 {
		return math.Inf(1)
	}
	rate := float64(m.profile.RateBits) / 8
	if c.migrating {
		rate *= migratingWANPart
	}
	return rate
}

// meanLatency returns the I/Os' mean latency while none waits for another:
//
//	Σ share × (service × e^(spread²/2) + size ÷ disk rate + (RTT + size ÷ WAN rate where it crosses))
func (m *model) meanLatency(c conditions) time.Duration {
	total := 0.0
	for _, line := range m.access.Lines {
		for _, read := range []bool{true, false} {
			share := float64(line.SharePercent) / 100 * float64(line.ReadPercent) / 100
			if !read {
				share = float64(line.SharePercent) / 100 * float64(100-line.ReadPercent) / 100
			}
			latency := m.service(read, c).Seconds()*math.Exp(spread*spread/2) + float64(line.SizeBytes)/diskBytesPerS
			if _, waits := m.crosses(read, c); waits {
				latency += m.rtt.Seconds() + float64(line.SizeBytes)/m.wanBytesPerS(c)
			}
			total += share * latency
		}
	}
	return fromSeconds(total)
}

// slots returns how many I/Os may be in flight.
func (m *model) slots() int { return m.access.Outstanding * m.access.Workers * m.access.Targets }

// iops returns the IOPS of the closed loop: outstanding ÷ mean latency, limited by how many I/Os
// the disk begins.
func (m *model) iops(c conditions) float64 {
	return min(float64(m.slots())/(m.meanLatency(c)+thinkTime).Seconds(), 1/diskPause.Seconds())
}

func fromSeconds(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
