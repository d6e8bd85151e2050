// Package inventory describes one testbed: its machines, which of them are the two
// sites' hosts and the storage server, the WAN between the sites, and the measured
// guest. The emulated testbed writes such a file itself; for real hosts the user
// writes it.
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

// Kind says what a testbed is. Every result carries it.
type Kind string

// The kinds of testbeds.
const (
	Emulated Kind = "emulated" // QEMU nodes on one machine
	Hardware Kind = "hardware" // real hosts
	// VCenterSimulator is a testbed of emulated nodes behind a simulator of vCenter:
	// no ESXi host is involved.
	VCenterSimulator Kind = "vcenter-simulator"
	// Simulated is a model; no inventory file is of this kind.
	Simulated Kind = "simulated"
	// Ingested is no testbed of ours: somebody else wrote the logs, and nobody
	// watched the measurement. No inventory file is of this kind.
	Ingested Kind = "ingested"
)

// FileKinds are the kinds of testbeds that an inventory file may describe.
var FileKinds = []Kind{Emulated, Hardware, VCenterSimulator}

// IsLab says that the testbed is one of `heliotrope lab`: it is started when it is
// down, and parts of it that have died are started again.
func (k Kind) IsLab() bool { return k == Emulated || k == VCenterSimulator }

// The modes of a testbed, or of one machine.
const (
	Workers   = "workers"   // a small worker is installed on the machine
	Agentless = "agentless" // nothing is installed: the controller drives it over SSH
)

// Capability is something that a machine can do for a trial.
type Capability string

// The capabilities. An ESXi host has none of them; the host that bridges the sites
// has all.
const (
	Shell    Capability = "shell"    // commands and files over SSH; the other capabilities need it
	Worker   Capability = "worker"   // a worker of ours may be installed and run
	Witness  Capability = "witness"  // the witness's program may run during a trial
	Clock    Capability = "clock"    // its clock can be read
	Beats    Capability = "beats"    // the guest's heartbeats arrive there, and it can ask the guest for its time
	Counters Capability = "counters" // it has counters of disks and network interfaces
)

// Capabilities are all capabilities: those of a machine whose entry says nothing.
var Capabilities = CapabilityList{Shell, Worker, Witness, Clock, Beats, Counters}

// CapabilityList is what a machine can do. Nil stands for all Capabilities in an
// inventory that is to be saved; a loaded inventory has no nil list.
type CapabilityList []Capability

// IsZero says whether a file leaves the list out. An empty list is written: it says
// that the machine has no capability.
func (l CapabilityList) IsZero() bool { return l == nil }

// String lists the capabilities for use in a sentence.
func (l CapabilityList) String() string { return join(l) }

// Inventory is one testbed.
type Inventory struct {
	Version int    `yaml:"version"`
	Name    string `yaml:"name"` // the label of everything we make on the hosts: [a-z0-9-], at most 16 characters
	Kind    Kind   `yaml:"kind"`
	Mode    string `yaml:"mode,omitempty"` // the mode of machines and a guest that do not set their own; Workers by default
	// Hypervisor is the driver's name of the hypervisor of both sites.
	Hypervisor string `yaml:"hypervisor"`
	// Behind is the driver's name of the hypervisor that carries out the commands
	// given to a simulator of vCenter, and whose bytes are then on the WAN: for
	// VCenterSimulator only.
	Behind    string    `yaml:"behind,omitempty"`
	Sites     Sites     `yaml:"sites"`
	StoreName string    `yaml:"store"` // the machine that is the storage server, at site A
	WAN       WAN       `yaml:"wan"`
	Machines  []Machine `yaml:"machines"`
	Bastions  []Bastion `yaml:"bastions,omitempty"` // jump hosts through which machines are reached
	// SSHConfig is a file in the format of ssh_config(5) that defines the machines'
	// aliases. A relative path starts at the inventory's folder.
	SSHConfig string    `yaml:"ssh_config,omitempty"`
	VCenters  []VCenter `yaml:"vcenters,omitempty"` // the vCenters that manage machines
	// Mounts describe what datastores are made from for a trial. The key is the
	// storage system that the datastore is for, by its name in campaign files.
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
	// Can is what the machine can do. Load fills in all Capabilities when it is left
	// out; an empty list means none.
	Can CapabilityList `yaml:"can,omitempty"`
	// Mode is the mode of this machine. Load fills in the testbed's when it is left
	// out.
	Mode string `yaml:"mode,omitempty"`
	// SSH and DataDir are not needed for a machine without a shell.
	SSH SSH `yaml:"ssh,omitempty"`
	// Address is on the test network, which storage and migrations use. All addresses there are
	// of one family (package testnet).
	Address netip.Addr `yaml:"address"`
	// Bridge is the host's bridge on the test network (for the sites' hosts only).
	Bridge string `yaml:"bridge,omitempty"`
	// DataDir is a folder for the disks under test and for our own state.
	DataDir string `yaml:"data_dir,omitempty"`
	// Transport is the transport of outgoing migrations, for hypervisors that offer a
	// choice: "tcp" (unencrypted, fast) or "ssh" (with the hosts' own keys). For the
	// sites' hosts only.
	Transport string `yaml:"transport,omitempty"`
	// VCenter says how a vCenter knows the machine; nil when no vCenter manages it.
	VCenter *Managed `yaml:"vcenter,omitempty"`
}

// Has says whether the machine has a capability. An agentless machine has no Worker,
// whatever Can says.
func (m *Machine) Has(capability Capability) bool {
	if capability == Worker && m.Mode == Agentless {
		return false
	}
	return slices.Contains(m.Can, capability)
}

// WAN says where the path between the sites is shaped.
type WAN struct {
	Host   string `yaml:"host,omitempty"`   // name of the host that bridges the sites
	Device string `yaml:"device,omitempty"` // its network interface that leads to site B
	// Portgroup shapes the path, its rate only, when no host bridges the sites.
	Portgroup *Portgroup `yaml:"portgroup,omitempty"`
	// Ends name the machine at each site between which the path is certified. The
	// guest's heartbeats arrive at A's machine, and both machines ask the guest for
	// its time. When Ends is left out, they are the sites' hosts.
	Ends Sites `yaml:"ends,omitempty"`
}

// Portgroup is a distributed port group whose ports lead to site B.
type Portgroup struct {
	VCenter string `yaml:"vcenter"` // the name of the vCenter
	Path    string `yaml:"path"`    // its inventory path
}

// Guest is the measured guest.
type Guest struct {
	Mode string `yaml:"mode,omitempty"` // Load fills in the testbed's when it is left out
	// Kernel and Ramdisk are paths on both hypervisors; "" when the guest is a clone
	// of a template (see StartsTemplates).
	Kernel  string `yaml:"kernel,omitempty"`
	Ramdisk string `yaml:"ramdisk,omitempty"`
	// Disk, NIC and Console are the guest's names of the disk under test, of the
	// network interface and of the console. When one is left out, the hypervisor's
	// own name is used.
	Disk      string       `yaml:"disk,omitempty"`
	NIC       string       `yaml:"nic,omitempty"`
	Console   string       `yaml:"console,omitempty"`
	MemoryMiB int          `yaml:"memory_mib"` // default size
	Address   netip.Prefix `yaml:"address"`    // on the test network
	MTU       int          `yaml:"mtu"`
	// NativeTSC gives the guest the processor's own time stamp counter. Use it only
	// when the hosts' counters run at the same speed.
	NativeTSC bool `yaml:"native_tsc,omitempty"`
	// HeartbeatMs is the interval between two of the witness's heartbeats. 0, when it
	// is not given, means the witness's default of 10. Make it longer when the guest
	// shares a slow processor with its host, because every heartbeat takes time from
	// the I/O that is measured.
	HeartbeatMs int      `yaml:"heartbeat_ms,omitempty"`
	SSH         GuestSSH `yaml:"ssh,omitempty"`
	// Operations, when given, says how commands are run in the guest where SSH into
	// it is not allowed.
	Operations *Operations `yaml:"operations,omitempty"`
}

// Operations are the guest operations of a vCenter, with an account in the guest.
type Operations struct {
	User string `yaml:"user"` // root, or a user with the rights of root
	// PasswordFrom says where the password is, in the form of VCenter.PasswordFrom.
	PasswordFrom string `yaml:"password_from"`
}

// GuestSSH says how the controller reaches the guest, through the storage server.
type GuestSSH struct {
	Login `yaml:",inline"`
	Root  `yaml:",inline"`
}

// SiteA is the machine that runs the guest at site A; nil when there is none.
func (i *Inventory) SiteA() *Machine { return i.Machine(i.Sites.A) }

// SiteB is the machine that runs the guest at site B; nil when there is none.
func (i *Inventory) SiteB() *Machine { return i.Machine(i.Sites.B) }

// Store is the storage server; nil when there is none.
func (i *Inventory) Store() *Machine { return i.Machine(i.StoreName) }

// IsSite says whether a machine runs the guest at one of the sites.
func (i *Inventory) IsSite(name string) bool { return name == i.Sites.A || name == i.Sites.B }

// EndA is the end of the WAN at site A, at which the guest's heartbeats arrive; nil
// when there is none.
func (i *Inventory) EndA() *Machine { return i.Machine(cmp.Or(i.WAN.Ends.A, i.Sites.A)) }

// EndB is the end of the WAN at site B; nil when there is none.
func (i *Inventory) EndB() *Machine { return i.Machine(cmp.Or(i.WAN.Ends.B, i.Sites.B)) }

// IsEnd says whether a machine is an end of the WAN.
func (i *Inventory) IsEnd(name string) bool {
	return name == cmp.Or(i.WAN.Ends.A, i.Sites.A) || name == cmp.Or(i.WAN.Ends.B, i.Sites.B)
}

// Machine finds a machine by its name; nil when there is none.
func (i *Inventory) Machine(name string) *Machine {
	for n := range i.Machines {
		if i.Machines[n].Name == name {
			return &i.Machines[n]
		}
	}
	return nil
}
