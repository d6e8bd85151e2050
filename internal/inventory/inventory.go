// Package inventory describes one testbed: two hosts, a storage server, the
// WAN between them, and the measured guest. The emulated testbed writes such a
// file; for real hosts a user does.
//
// It promises that a file is decoded strictly and that every problem is
// reported at once, with its line. It holds no secret: keys are named by path.
package inventory

import (
	"net/netip"
)

// Version of the file format.
const Version = 1

// Kind says what a testbed is; it marks every result.
type Kind string

// The kinds of testbeds.
const (
	Emulated Kind = "emulated" // QEMU nodes on one machine
	Hardware Kind = "hardware" // real hosts
	// Simulated is a model; no inventory file is of this kind.
	Simulated Kind = "simulated"
)

// The modes of a testbed.
const (
	Workers   = "workers"   // a small worker is installed on the hosts and in the guest
	Agentless = "agentless" // nothing is installed: the controller drives all over SSH
)

// Inventory is one testbed.
type Inventory struct {
	Version int    `yaml:"version"`
	Name    string `yaml:"name"` // the label of everything we make on the hosts: [a-z0-9-], at most 16 characters
	Kind    Kind   `yaml:"kind"`
	Mode    string `yaml:"mode,omitempty"` // Workers by default
	SiteA   Host   `yaml:"site_a"`
	SiteB   Host   `yaml:"site_b"`
	Store   Host   `yaml:"store"` // the storage server, at site A
	WAN     WAN    `yaml:"wan"`
	Guest   Guest  `yaml:"guest"`
}

// Host is one machine of the testbed.
type Host struct {
	Name string `yaml:"name"`
	SSH  SSH    `yaml:"ssh"`
	// Address on the test network, which storage and migrations use.
	Address netip.Addr `yaml:"address"`
	// Bridge is the host's bridge on the test network (hypervisors only).
	Bridge string `yaml:"bridge,omitempty"`
	// DataDir is a folder for the disks under test and for our own state.
	DataDir string `yaml:"data_dir"`
	// Hypervisor is "xen" (hypervisors only).
	Hypervisor string `yaml:"hypervisor,omitempty"`
	// Transport of outgoing migrations: "tcp" (unencrypted, fast) or "ssh"
	// (the hosts' own keys). Hypervisors only.
	Transport string `yaml:"transport,omitempty"`
}

// SSH is how the controller reaches a host.
type SSH struct {
	Address  string   `yaml:"address"`   // host:port
	User     string   `yaml:"user"`      // must be root, or able to do what root can
	KeyFile  string   `yaml:"key_file"`  // private key; relative paths start at the inventory's folder
	HostKeys []string `yaml:"host_keys"` // accepted fingerprints, as ssh-keygen -l prints them: SHA256:...
}

// WAN is where the path between the sites is shaped.
type WAN struct {
	Host   string `yaml:"host"`   // name of the host that bridges the sites
	Device string `yaml:"device"` // its network interface that leads to site B
}

// Guest is the measured guest.
type Guest struct {
	Kernel    string       `yaml:"kernel"`     // path on both hypervisors
	Ramdisk   string       `yaml:"ramdisk"`    // path on both hypervisors
	MemoryMiB int          `yaml:"memory_mib"` // default size
	Address   netip.Prefix `yaml:"address"`    // on the test network
	MTU       int          `yaml:"mtu"`
	// NativeTSC gives the guest the processor's own time stamp counter: only
	// where the hosts' counters run at the same speed.
	NativeTSC bool `yaml:"native_tsc,omitempty"`
	// HeartbeatMs is between two of the witness's heartbeats; 0, when it is not
	// given, is the witness's own 10. It is more where the guest shares a slow
	// processor with its host, as each of them takes from the I/O that is
	// measured.
	HeartbeatMs int      `yaml:"heartbeat_ms,omitempty"`
	SSH         GuestSSH `yaml:"ssh"`
}

// GuestSSH is how the controller reaches the guest, through the storage server.
type GuestSSH struct {
	User     string   `yaml:"user"`
	KeyFile  string   `yaml:"key_file"`
	HostKeys []string `yaml:"host_keys"`
}

// Hosts lists the testbed's machines: site A, site B, storage server.
func (i *Inventory) Hosts() []*Host { return []*Host{&i.SiteA, &i.SiteB, &i.Store} }

// Host finds a machine by name, or nil.
func (i *Inventory) Host(name string) *Host {
	for _, host := range i.Hosts() {
		if host.Name == name {
			return host
		}
	}
	return nil
}
