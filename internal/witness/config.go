package witness

import (
	"net/netip"
	"time"

	"heliotrope/internal/ledger"
)

// Program is the name of the small program that watches on hosts and reports
// from the guest. It is put on a machine for the length of a trial, also where
// no worker may be installed, and leaves nothing.
const Program = "heliotrope-witness"

// Port is the UDP port on which the witnesses on the sites' hosts and in the
// guest talk to each other, on the test network.
const Port = 17190

const (
	// Interval is how often a host's counters are sampled.
	Interval = time.Second
	// DiskInterval is how often the counters of the guest's disk are sampled.
	DiskInterval = 100 * time.Millisecond
	// DomainInterval is how often the hypervisor is asked for its domains'
	// states while one of them does not run; while all do, it is a twentieth
	// as often. Only changes are written.
	DomainInterval = 5 * time.Millisecond
	// HeartbeatInterval is how often the guest sends a heartbeat to site A,
	// unless the testbed's inventory says else.
	HeartbeatInterval = 10 * time.Millisecond
	// ExchangeInterval is how often a site's host asks the guest for its time.
	ExchangeInterval = time.Second
)

// HostConfig is what a host's witness watches: all of it in one process. It is
// an argument of the program, as JSON.
type HostConfig struct {
	// Devices by role: the path of a block device for GuestDisk, the name of
	// a network interface for TestNet and WAN, the path of a DRBD device such
	// as /dev/drbd0 for DRBD; for Target NFSD, or the absolute path of a LUN's
	// folder in LIO's configfs, which ends in /tpgt_1/lun/lun_0. A role
	// without a device, and a device that is not there, is left out.
	Devices map[string]string `json:"devices,omitempty"`
	// Domains says that the hypervisor's domains are watched: only Xen's.
	Domains bool `json:"domains,omitempty"`
	// Listen is where heartbeats arrive and the guest is asked for its time,
	// and Guest where it answers. Zero: neither is done.
	Listen netip.AddrPort `json:"listen,omitzero"`
	Guest  netip.AddrPort `json:"guest,omitzero"`
	Token  uint64         `json:"token,string,omitempty"` // of the attempt: datagrams of another one are dropped
	// Classes are counted on the WAN's device, in both directions; the first
	// that matches counts, and what matches none is "other".
	Classes []Class `json:"classes,omitempty"`
}

// Class is a kind of traffic on the WAN. A packet matches when it has the
// protocol, one of the ports on either side, and, where they are given, both
// its addresses are among Between. Several of one name are counted together.
type Class struct {
	Name     string `json:"name"`     // one of TrafficClasses
	Protocol string `json:"protocol"` // tcp or udp; icmp and arp without ports
	// FirstPort to LastPort are the ports. Without a last one there is one
	// only, without a first one any will do.
	FirstPort uint16 `json:"first_port,omitempty"`
	LastPort  uint16 `json:"last_port,omitempty"`
	// Between are addresses of one family.
	Between []netip.Addr `json:"between,omitempty"`
}

// GuestConfig is what the guest's witness does: heartbeats, answers with its
// time, and the ledger. It is an argument of the program, as JSON.
type GuestConfig struct {
	Listen netip.AddrPort `json:"listen"`
	SiteA  netip.AddrPort `json:"site_a"` // where heartbeats go
	Token  uint64         `json:"token,string"`
	Device string         `json:"device"` // of the ledger; "" for none
	Region ledger.Region  `json:"region"`
	// IntervalMs is between two heartbeats; 0 is HeartbeatInterval.
	IntervalMs int `json:"interval_ms,omitempty"`
}

// HeartbeatInterval is how often the guest sends a heartbeat.
func (c GuestConfig) HeartbeatInterval() time.Duration {
	if c.IntervalMs == 0 {
		return HeartbeatInterval
	}
	return time.Duration(c.IntervalMs) * time.Millisecond
}
