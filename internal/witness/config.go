package witness

import (
	"net/netip"
	"time"

	"heliotrope/internal/ledger"
)

// Program is the name of the small program that watches on hosts and reports
// from the guest. It is put on a machine for the length of a campaign, also
// where no worker may be installed.
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
	// Sources are what is counted. One that is not there is left out of a
	// sample.
	Sources []Source `json:"sources,omitempty"`
	// Watcher is who watches the hypervisor's domains, a driver's name for it;
	// "": nobody does. Domain is the UUID of the one that is watched: a
	// stranger's is nobody's business.
	Watcher string `json:"watcher,omitempty"`
	Domain  string `json:"domain,omitempty"`
	// Listen is where heartbeats arrive and the guest is asked for its time,
	// and Guest where it answers. Zero: neither is done.
	Listen netip.AddrPort `json:"listen,omitzero"`
	Guest  netip.AddrPort `json:"guest,omitzero"`
	Token  uint64         `json:"token,string,omitempty"` // of the attempt: datagrams of another one are dropped
	// LogListen is where the guest sends blocks of its load's log when it runs at
	// this site. Zero: none are taken.
	LogListen netip.AddrPort `json:"log_listen,omitzero"`
	// Classes are counted on the WAN's device, in both directions; the first
	// that matches counts, and what matches none is "other".
	Classes []Class `json:"classes,omitempty"`
}

// Source is something on a machine whose counters are sampled.
type Source struct {
	// Role is what it is in the measurement, the same on every testbed: the
	// device in table counters, such as GuestDisk.
	Role string `json:"role"`
	// Reader is who knows how to read it: BlockReader, InterfaceReader, or that
	// of a driver.
	Reader string `json:"reader"`
	// Device is its name for the reader: the path of a block device, the name
	// of a network interface.
	Device string `json:"device"`
}

// Readers that are part of every witness.
const (
	BlockReader     = "block"     // a block device, by its path
	InterfaceReader = "interface" // a network interface, by its name
)

// Class is a kind of traffic on the WAN. A packet matches when it has the
// protocol, one of the ports on either side, and, where they are given, both
// its addresses are among Between. Several of one name are counted together.
type Class struct {
	Name     string `json:"name"`     // [a-z][a-z-]*, not OtherClass
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
	SiteA  netip.AddrPort `json:"site_a"` // where heartbeats go: the WAN's end at site A
	Token  uint64         `json:"token,string"`
	Device string         `json:"device"` // of the ledger; "" for none
	Region ledger.Region  `json:"region"`
	// Load is the path of package inflight's page, of a load that our own engine
	// runs; "": there is none.
	Load string `json:"load,omitempty"`
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
