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
	// Its protocols that make a difference: a write is done in the socket's
	// buffer, or on the peer's disk.
	protocolA, protocolC = "A", "C"
)

// The constants of I/Os; see docs/simulated.md for where they come from.
const (
	pathRTT = time.Millisecond // between the sites, with nothing shaped

	iscsiService    = 5500 * time.Microsecond // medians, without the WAN
	nfsService      = 6500 * time.Microsecond
	drbdService     = 4500 * time.Microsecond
	drbdPeerService = 3 * time.Millisecond // of protocol C: the peer's disk
	spread          = 0.25                 // of the logarithm of the service time

	diskPause        = time.Millisecond // the disk begins no more than 1,000 I/Os a second
	diskBytesPerS    = 100e6
	thinkTime        = 50 * time.Microsecond // in the guest, between a completion and the next I/O
	precopySlowdown  = 1.3                   // of the service, at the source, during pre-copy
	retransmission   = 200 * time.Millisecond
	diskBytes        = 8 << 20 // the part of the disk that the load uses: the smallest one less a ledger of the default size
	sectorBytes      = 512
	drbdBufferBytes  = 1 << 20 // of a write with protocol A: the socket's buffer
	migratingWANPart = 0.5     // of the WAN's rate is left to I/Os beside the migration's stream
)

// model is one attempt: what is known of it from its reference.
type model struct {
	ref      trial.Ref
	access   campaign.AccessSpec
	load     engine.Config
	profile  wan.Profile
	rtt      time.Duration // of the model: the profile's and the path's own
	kind     string        // of the storage
	protocol string        // of DRBD
	schedule schedule
	guest    guestClock
	faults   Faults
}

// modelOf reads a reference. The error says what it lacks.
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

// conditions are what an I/O meets where and when it is made.
type conditions struct {
	site      storage.Site
	migrating bool // pre-copy runs
	protocol  string
}

// service is the median time of an I/O without the WAN.
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

// crosses says whether an I/O's data goes over the WAN, and whether the I/O
// waits for its round trip.
func (m *model) crosses(read bool, c conditions) (data, waits bool) {
	if m.kind == replicated {
		// Reads are local, wherever the guest is.
		return !read, !read && c.protocol != protocolA
	}
	remote := c.site == storage.SiteB // the store is at site A
	return remote, remote
}

// wanBytesPerS is what the WAN leaves to I/Os; infinite when it has no rate.
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

// meanLatency is what the I/Os take on average while none waits for another:
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

// slots are how many I/Os may be in flight.
func (m *model) slots() int { return m.access.Outstanding * m.access.Workers * m.access.Targets }

// iops is what the closed loop reaches: outstanding ÷ mean latency, and no more
// than the disk begins.
func (m *model) iops(c conditions) float64 {
	return min(float64(m.slots())/(m.meanLatency(c)+thinkTime).Seconds(), 1/diskPause.Seconds())
}

func fromSeconds(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }
