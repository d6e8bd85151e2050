// Package inventory describes one testbed: its machines, which of them are the
// two sites' hosts and the storage server, the WAN between the sites, and the
// measured guest. The emulated testbed writes such a file; for real hosts a user
// does.
//
// It promises that a file is decoded strictly and that every problem is
// reported at once, with its line. It holds no secret: keys are named by path.
package inventory

import (
	"cmp"
	"net/netip"
	"slices"
)

// Version of the file format.
const Version = 2

// Kind says what a testbed is; it marks every result.
type Kind string

// The kinds of testbeds.
const (
	Emulated Kind = "emulated" // QEMU nodes on one machine
	Hardware Kind = "hardware" // real hosts
	// VCenterSimulator is emulated nodes behind a simulator of vCenter: no ESXi
	// host is involved.
	VCenterSimulator Kind = "vcenter-simulator"
	// Simulated is a model; no inventory file is of this kind.
	Simulated Kind = "simulated"
	// Ingested is no testbed of ours: logs that somebody else wrote, of which nobody
	// watched how. No inventory file is of this kind.
	Ingested Kind = "ingested"
)

// FileKinds are the kinds of testbeds that an inventory file may describe.
var FileKinds = []Kind{Emulated, Hardware, VCenterSimulator}

// IsLab says that the testbed is one of `heliotrope lab`: it is started when it
// is down, and what died of it is started anew.
func (k Kind) IsLab() bool { return k == Emulated || k == VCenterSimulator }

// The modes of a testbed, or of one machine.
const (
	Workers   = "workers"   // a small worker is installed on the machine
	Agentless = "agentless" // nothing is installed: the controller drives it over SSH
)

// Capability is something that a machine can do for a trial.
type Capability string

// The capabilities. An ESXi host has none of them, the host that bridges the
// sites has all.
const (
	Shell    Capability = "shell"    // commands and files over SSH: the others need it
	Worker   Capability = "worker"   // a worker of ours may be installed and run
	Witness  Capability = "witness"  // the witness's program may run through a trial
	Clock    Capability = "clock"    // its clock can be read
	Beats    Capability = "beats"    // the guest's heartbeats arrive, and the guest can be asked for its time
	Counters Capability = "counters" // it has counters of disks and network interfaces
)

// Capabilities are all of them: what a machine can when its entry says nothing.
var Capabilities = CapabilityList{Shell, Worker, Witness, Clock, Beats, Counters}

// CapabilityList is what a machine can. Nil stands for all Capabilities in an
// inventory that is to be saved; a loaded one has no nil list.
type CapabilityList []Capability

// IsZero says whether a file leaves the list out. An empty one is written: it
// says that the machine can nothing.
func (l CapabilityList) IsZero() bool { return l == nil }

// String is the capabilities as one reads them in a sentence.
func (l CapabilityList) String() string { return join(l) }

// Inventory is one testbed.
type Inventory struct {
	Version int    `yaml:"version"`
	Name    string `yaml:"name"` // the label of everything we make on the hosts: [a-z0-9-], at most 16 characters
	Kind    Kind   `yaml:"kind"`
	Mode    string `yaml:"mode,omitempty"` // of machines and a guest that do not say their own: Workers by default
	// Hypervisor of both sites: a driver's name.
	Hypervisor string `yaml:"hypervisor"`
	// Behind is the driver of the hypervisor that carries out what a simulator of
	// vCenter is told, and whose bytes are on the WAN then: of VCenterSimulator only.
	Behind    string    `yaml:"behind,omitempty"`
	Sites     Sites     `yaml:"sites"`
	StoreName string    `yaml:"store"` // the machine that is the storage server, at site A
	WAN       WAN       `yaml:"wan"`
	Machines  []Machine `yaml:"machines"`
	Bastions  []Bastion `yaml:"bastions,omitempty"` // by which machines are reached
	// SSHConfig is a file in the format of ssh_config(5), which has the machines'
	// aliases. A relative path starts at the inventory's folder.
	SSHConfig string    `yaml:"ssh_config,omitempty"`
	VCenters  []VCenter `yaml:"vcenters,omitempty"` // that manage machines
	// Mounts are what datastores are made of for a trial, by the storage systems, in
	// a campaign's words, that each of them is for.
	Mounts map[string]Mount `yaml:"mounts,omitempty"`
	Guest  Guest            `yaml:"guest"`
}

// Sites name the machines that run the guest, one at each end of the WAN.
type Sites struct {
	A string `yaml:"a"`
	B string `yaml:"b"`
}

// Machine is one machine of the testbed.
type Machine struct {
	Name string `yaml:"name"`
	// Can is what the machine can. Load fills in all Capabilities where it is
	// left out; an empty list means none.
	Can CapabilityList `yaml:"can,omitempty"`
	// Mode of this machine. Load fills in the testbed's where it is left out.
	Mode string `yaml:"mode,omitempty"`
	// SSH, and DataDir, are not needed of a machine without a shell.
	SSH SSH `yaml:"ssh,omitempty"`
	// Address on the test network, which storage and migrations use.
	Address netip.Addr `yaml:"address"`
	// Bridge is the host's bridge on the test network (the sites' hosts only).
	Bridge string `yaml:"bridge,omitempty"`
	// DataDir is a folder for the disks under test and for our own state.
	DataDir string `yaml:"data_dir,omitempty"`
	// Transport of outgoing migrations, for hypervisors that leave the choice:
	// "tcp" (unencrypted, fast) or "ssh" (the hosts' own keys). The sites'
	// hosts only.
	Transport string `yaml:"transport,omitempty"`
	// VCenter is how a vCenter knows the machine; nil when none manages it.
	VCenter *Managed `yaml:"vcenter,omitempty"`
}

// Has says whether the machine can do something. An agentless one has no
// worker, whatever it can.
func (m *Machine) Has(capability Capability) bool {
	if capability == Worker && m.Mode == Agentless {
		return false
	}
	return slices.Contains(m.Can, capability)
}

// WAN is where the path between the sites is shaped.
type WAN struct {
	Host   string `yaml:"host,omitempty"`   // name of the host that bridges the sites
	Device string `yaml:"device,omitempty"` // its network interface that leads to site B
	// Portgroup shapes the path where no host bridges the sites: a rate only.
	Portgroup *Portgroup `yaml:"portgroup,omitempty"`
	// Ends name the machines at the sites between which the path is certified.
	// The guest's heartbeats arrive at A's, and both ask the guest for its time.
	// Left out, they are the sites' hosts.
	Ends Sites `yaml:"ends,omitempty"`
}

// Portgroup is a distributed port group whose ports lead to site B.
type Portgroup struct {
	VCenter string `yaml:"vcenter"` // the name of the vCenter
	Path    string `yaml:"path"`    // its inventory path
}

// Guest is the measured guest.
type Guest struct {
	Mode string `yaml:"mode,omitempty"` // Load fills in the testbed's where it is left out
	// Kernel and Ramdisk are paths on both hypervisors; "" where the guest is a
	// clone of a template (see StartsTemplates).
	Kernel  string `yaml:"kernel,omitempty"`
	Ramdisk string `yaml:"ramdisk,omitempty"`
	// Disk, NIC and Console are the names of the disk under test, of the network
	// interface and of the console in the guest; the hypervisor's own when they
	// are left out.
	Disk      string       `yaml:"disk,omitempty"`
	NIC       string       `yaml:"nic,omitempty"`
	Console   string       `yaml:"console,omitempty"`
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
	SSH         GuestSSH `yaml:"ssh,omitempty"`
	// Operations, when they are given, are how commands are run in the guest where
	// SSH into it is not allowed.
	Operations *Operations `yaml:"operations,omitempty"`
}

// Operations are the guest operations of a vCenter: an account of the guest's own.
type Operations struct {
	User string `yaml:"user"` // root, or one who may do what root may
	// PasswordFrom says where the password is, as a vCenter's.
	PasswordFrom string `yaml:"password_from"`
}

// GuestSSH is how the controller reaches the guest, through the storage server.
type GuestSSH struct {
	Login `yaml:",inline"`
	Root  `yaml:",inline"`
}

// SiteA is the machine that runs the guest at site A; nil when the inventory
// names none.
func (i *Inventory) SiteA() *Machine { return i.Machine(i.Sites.A) }

// SiteB is the machine that runs the guest at site B, or nil.
func (i *Inventory) SiteB() *Machine { return i.Machine(i.Sites.B) }

// Store is the storage server, or nil.
func (i *Inventory) Store() *Machine { return i.Machine(i.StoreName) }

// IsSite says whether a machine runs the guest at one of the sites.
func (i *Inventory) IsSite(name string) bool { return name == i.Sites.A || name == i.Sites.B }

// EndA is the end of the WAN at site A: the machine that the guest's heartbeats
// arrive at. It is nil when the inventory names none.
func (i *Inventory) EndA() *Machine { return i.Machine(cmp.Or(i.WAN.Ends.A, i.Sites.A)) }

// EndB is the end of the WAN at site B, or nil.
func (i *Inventory) EndB() *Machine { return i.Machine(cmp.Or(i.WAN.Ends.B, i.Sites.B)) }

// IsEnd says whether a machine is an end of the WAN.
func (i *Inventory) IsEnd(name string) bool {
	return name == cmp.Or(i.WAN.Ends.A, i.Sites.A) || name == cmp.Or(i.WAN.Ends.B, i.Sites.B)
}

// Machine finds a machine by name, or nil.
func (i *Inventory) Machine(name string) *Machine {
	for n := range i.Machines {
		if i.Machines[n].Name == name {
			return &i.Machines[n]
		}
	}
	return nil
}
