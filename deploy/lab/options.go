package lab

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"heliotrope/deploy/lab/image"
)

// Options are the options of a testbed. They are stored with it.
type Options struct {
	Name string `json:"name"`
	// Hypervisor is the hypervisor of the sites' hosts, one of Hypervisors. It determines what
	// the testbed is, so it never changes.
	Hypervisor string `json:"hypervisor"`
	// Mirror is the package archive for the image; empty is mmdebstrap's default.
	Mirror    string `json:"mirror,omitempty"`
	MemoryMiB int    `json:"memory_mib"` // of each node
	CPUs      int    `json:"cpus"`       // of each node
	MTU       int    `json:"mtu"`        // of the test network, bytes
	DataMiB   int    `json:"data_mib"`   // of each node's memory for disks under test
	GuestMiB  int    `json:"guest_mib"`  // default memory of the measured guest; 96 is too little for the guest's worker
	// Accel is "auto", "kvm" or "tcg"; what is stored is the decision.
	Accel Accel `json:"accel"`
	// FirstPort, when not zero, puts the nodes' ssh on FirstPort and the two ports after it, and
	// a vCenter on the fourth. Zero lets the system choose free ports.
	FirstPort int `json:"first_port"`
	// IPv6 gives the test network IPv6 addresses instead of IPv4 addresses.
	IPv6 bool `json:"ipv6,omitempty"`
}

// maxCPUs is far more than three nodes on one machine have any use for.
const maxCPUs = 64

// DefaultOptions returns the options of the testbed on which the numbers in docs/lab.md were
// measured.
func DefaultOptions() Options {
	return Options{Name: "default", Hypervisor: image.Xen, MemoryMiB: 1024, CPUs: 1, MTU: 1500, DataMiB: 160, GuestMiB: 128, Accel: AccelAuto}
}

var namePattern = regexp.MustCompile(`^[a-z][a-z0-9-]{0,15}$`)

// Check reports all problems of the options at once.
func (o Options) Check() error {
	var problems []error
	bad := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("%w: "+format, append([]any{ErrBadInput}, args...)...))
	}
	if !namePattern.MatchString(o.Name) {
		bad("testbed name %q: want a letter and then at most 15 of a-z, 0-9 and -", o.Name)
	}
	if !o.knownHypervisor() {
		bad("hypervisor %q: want %s", o.Hypervisor, anyOf(Hypervisors()))
	}
	if o.MemoryMiB < 768 {
		bad("node memory %d MiB: a host needs at least 768 MiB", o.MemoryMiB)
	}
	if o.CPUs < 1 || o.CPUs > maxCPUs {
		bad("%d processors of each node: want 1 to %d", o.CPUs, maxCPUs)
	}
	if o.MTU < 1280 || o.MTU > 9000 {
		bad("MTU %d: want 1280 to 9000 bytes", o.MTU)
	}
	if o.DataMiB < 16 || o.DataMiB > o.MemoryMiB/4 {
		bad("data memory %d MiB: want 16 MiB to a quarter of the node's memory (%d MiB)", o.DataMiB, o.MemoryMiB/4)
	}
	if o.GuestMiB < 80 || o.GuestMiB > o.MemoryMiB-dom0MiB-hypervisorMiB {
		bad("guest memory %d MiB: want 80 to %d MiB on nodes of %d MiB",
			o.GuestMiB, o.MemoryMiB-dom0MiB-hypervisorMiB, o.MemoryMiB)
	}
	if !slices.Contains([]Accel{AccelAuto, AccelKVM, AccelTCG}, o.Accel) {
		bad("acceleration %q: want auto, kvm or tcg", o.Accel)
	}
	if o.FirstPort != 0 && (o.FirstPort < 1024 || o.FirstPort > 65532) {
		bad("first port %d: want 1024 to 65532", o.FirstPort)
	}
	return errors.Join(problems...)
}
