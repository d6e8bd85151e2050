package witness

import (
	"net/netip"
	"time"

	"heliotrope/internal/ledger"
)

// Program is the name of the small program that watches on hosts and reports from the guest. It
// is put on a machine for the duration of a campaign, even on machines where no worker may be
// installed.
const Program = "heliotrope-witness"

// Port is the UDP port on which the witnesses on the sites' hosts and in the guest communicate,
// on the test network.
const Port = 17190

const (
	// Interval is how often a host's counters are sampled.
	Interval = time.Second
	// DiskInterval is how often the counters of the guest's disk are sampled.
	DiskInterval = 100 * time.Millisecond
	// DomainInterval is how often the hypervisor is asked for its domains' states while one of
	// them is not running. While all are running, it is asked a twentieth as often. Only changes
	// are written.
	DomainInterval = 5 * time.Millisecond
	// HeartbeatInterval is how often the guest sends a heartbeat to site A, unless the testbed's
	// inventory sets another interval.
	HeartbeatInterval = 10 * time.Millisecond
	// ExchangeInterval is how often a site's host asks the guest for its time.
	ExchangeInterval = time.Second
)

// HostConfig is what a host's witness watches, all in one process. It is passed to the program as
// a JSON argument.
type HostConfig struct {
	// Sources are what is counted. A source that does not exist is left out of a sample.
	Sources []Source `json:"sources,omitempty"`
	// Watcher is the name of a driver's watcher of the hypervisor's domains; "": nothing watches.
	// Domain is the UUID of the only domain that is watched: other domains belong to others.
	Watcher string `json:"watcher,omitempty"`
	Domain  string `json:"domain,omitempty"`
	// Listen is the address on which heartbeats arrive and from which the guest is asked for its
	// time; Guest is the address on which the guest answers. Zero: neither is done.
	Listen netip.AddrPort `json:"listen,omitzero"`
	Guest  netip.AddrPort `json:"guest,omitzero"`
	Token  uint64         `json:"token,string,omitempty"` // of the attempt: datagrams of another one are dropped
	// LogListen is the address to which the guest sends blocks of its load's log when it runs at
	// this site. Zero: none are taken.
	LogListen netip.AddrPort `json:"log_listen,omitzero"`
	// Classes are counted on the WAN's device in both directions. A packet counts for the first
	// class that it matches, or for "other".
	Classes []Class `json:"classes,omitempty"`
}

// Source is a part of a machine whose counters are sampled.
type Source struct {
	// Role is the part's role in the measurement, the same on every testbed, such as GuestDisk.
	// It is the device in the table counters.
	Role string `json:"role"`
	// Reader is the reader that can read the source: BlockReader, InterfaceReader, or one of a
	// driver.
	Reader string `json:"reader"`
	// Device is the source's name for the reader: the path of a block device, or the name of a
	// network interface.
	Device string `json:"device"`
}

// Readers that every witness has.
const (
	BlockReader     = "block"     // a block device, by its path
	InterfaceReader = "interface" // a network interface, by its name
)

// Class is a kind of traffic on the WAN. A packet matches when it has the protocol, one of the
// ports on either side, and both its addresses in Between; ports and addresses that are not given
// match any packet. Classes with the same name are counted together.
type Class struct {
	Name     string `json:"name"`     // [a-z][a-z-]*, not OtherClass
	Protocol string `json:"protocol"` // tcp or udp; icmp, icmpv6 and arp without ports
	// FirstPort to LastPort are the ports. Without LastPort it is FirstPort alone; without
	// FirstPort any port matches.
	FirstPort uint16 `json:"first_port,omitempty"`
	LastPort  uint16 `json:"last_port,omitempty"`
	// Between are addresses of one address family.
	Between []netip.Addr `json:"between,omitempty"`
}

// GuestConfig is what the guest's witness does: it sends heartbeats, answers with its time, and
// writes the ledger. It is passed to the program as a JSON argument.
type GuestConfig struct {
	Listen netip.AddrPort `json:"listen"`
	SiteA  netip.AddrPort `json:"site_a"` // destination of the heartbeats: the WAN's end at site A
	Token  uint64         `json:"token,string"`
	Device string         `json:"device"` // of the ledger; "": no ledger
	Region ledger.Region  `json:"region"`
	// Load is the path of package inflight's page, when our own engine runs the load; "": there
	// is no page.
	Load string `json:"load,omitempty"`
	// IntervalMs is the time between two heartbeats in ms; 0 means HeartbeatInterval.
	IntervalMs int `json:"interval_ms,omitempty"`
}

// HeartbeatInterval returns how often the guest sends a heartbeat.
func (c GuestConfig) HeartbeatInterval() time.Duration {
	if c.IntervalMs == 0 {
		return HeartbeatInterval
	}
	return time.Duration(c.IntervalMs) * time.Millisecond
}
