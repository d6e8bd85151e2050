// Package vsphere drives ESXi hosts through their vCenter with the vSphere Web
// Services API (vim25, package govmomi): virtual machines that are cloned from a
// template, and vMotion.
//
// It was tried only on govmomi's simulator (v0.56.0), which implements vCenter's
// interface: on its own, and with real guests of the emulated testbed behind it. No
// ESXi host and no real vMotion was ever involved, and no conversation with a real
// vCenter was recorded. docs/vsphere.md lists what works there. vMotion between
// vCenters, which the simulator lacks, was tried on made-up vCenters only.
//
// The driver itself makes the disk under test, in a datastore and together with the
// virtual machine; all files of the machine are there. The disk is read through the
// datastore's file API while the machine is powered off.
//
// It promises that
//   - a machine that is not ours is never touched. A machine of ours has the testbed's
//     label in its name, in its notes and in a custom attribute, and the UUID that
//     follows from the name;
//   - a relocation that runs already, even one that an earlier process has started, is followed and never
//     started twice;
//   - while a vCenter is away, the driver waits, and it opens a session again when one has ended;
//   - what vCenter refuses, or cannot do, is an error of the
//     infrastructure: only a relocation's own task can say that a migration failed;
//   - no error contains a password.
//
// When the target has another vCenter, the source's vCenter is given an account
// there with its password (RelocateSpec.service).
//
// Dangerous: a vCenter that loses the connection to a host does not know what runs
// there. Such an answer is an error here (hypervisor.ErrUnknown), and never means
// that a machine is off. Others who may manage our folder can also act on our
// machines: DRS moves them unless it is told otherwise, which Check reports.
// MakeVMFS destroys what is on a LUN; it is called for the LUN that the inventory
// names in its mounts.
package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
)

// Name is the driver's name in inventories and campaign files.
const Name = "vsphere"

// Kind registers vSphere.
var Kind = hypervisor.Kind{
	Name: Name,
	New: func(setup hypervisor.Setup) (hypervisor.Driver, error) {
		host, err := New(setup)
		if err != nil {
			return nil, err
		}
		return host, nil
	},
	CopiesDisks: true,
	Datastores:  true,
	Guest:       guestDevices,
}

var guestDevices = hypervisor.Devices{Disk: "/dev/sdb", NIC: "eth0", Console: "ttyS0"}

var _ hypervisor.Driver = (*Host)(nil)

// Host is one ESXi host of a testbed.
type Host struct {
	label     string
	machine   inventory.Machine
	vcenter   *vcenter
	guestDisk string // the path of the disk under test in the guest

	mu    sync.Mutex
	known *site // as it was last found; nil when it must be found again
}

// New makes the driver of one host, which a vCenter must manage.
func New(setup hypervisor.Setup) (*Host, error) {
	if setup.VCenter == nil || setup.Machine.VCenter == nil {
		return nil, fault.New(fault.BadInput, "%s: no vCenter manages it: give its entry in the inventory a vcenter", setup.Machine.Name)
	}
	return &Host{label: setup.Label, machine: setup.Machine, vcenter: share(*setup.VCenter),
		guestDisk: cmp.Or(setup.GuestDisk, guestDevices.Disk)}, nil
}

// Host is the name of the host.
func (h *Host) Host() string { return h.machine.Name }

// Watcher is "": no program of ours runs on an ESXi host.
func (h *Host) Watcher() string { return "" }

// prefix is the beginning of our machines' names.
func (h *Host) prefix() string { return h.label + hypervisor.LabelSeparator }

// failed adds the host and what was tried to an error; nil stays nil. An error that
// has a class keeps it.
func (h *Host) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fault.As(classOf(err), fmt.Errorf("%s: %s: %w", h.Host(), what, err))
}

// with calls do with the host's objects, in a session with the vCenter.
func (h *Host) with(ctx context.Context, what string, do func(s *site) error) error {
	defer h.vcenter.use()()
	s, err := h.site(ctx)
	if err != nil {
		return err
	}
	err = do(s)
	h.learn(err)
	return h.failed(what, err)
}

// site returns the host's objects, in a session that is in use. They are looked for
// once, and again when vCenter no longer knows one of them.
func (h *Host) site(ctx context.Context) (*site, error) {
	client, err := h.vcenter.connect(ctx)
	if err != nil {
		return nil, h.failed("reach its vCenter", err)
	}
	h.mu.Lock()
	known := h.known
	h.mu.Unlock()
	if known != nil && known.client == client {
		return known, nil
	}
	s, err := h.locate(ctx, client)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known = s
	return s, err
}

// learn forgets the host's objects when an error says that one is not known: a host
// that was removed and added again has other objects.
func (h *Host) learn(err error) {
	if is[*types.ManagedObjectNotFound](err) {
		h.forget()
	}
}

func (h *Host) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known = nil
}

// checkName refuses to touch a machine that is not the testbed's own.
func (h *Host) checkName(name string) error {
	if !strings.HasPrefix(name, h.prefix()) {
		return fault.New(fault.BadInput, "%s: machine %q: its name does not start with the testbed's %q", h.Host(), name, h.prefix())
	}
	return nil
}

// List lists the testbed's own machines on this host.
func (h *Host) List(ctx context.Context) (states []hypervisor.State, err error) {
	err = h.with(ctx, "list machines", func(s *site) error {
		states, err = h.list(ctx, s)
		return err
	})
	return states, err
}

func (h *Host) list(ctx context.Context, s *site) ([]hypervisor.State, error) {
	all, err := h.machines(ctx, s)
	if err != nil {
		return nil, err
	}
	var states []hypervisor.State
	for _, m := range all {
		if m.host != s.host || !h.isOurs(m) {
			continue
		}
		status, err := h.status(m)
		if err != nil {
			return nil, err
		}
		states = append(states, hypervisor.State{Name: m.name, Status: status, MemoryMiB: m.memoryMiB})
	}
	return states, nil
}

// Pause suspends a running machine: vSphere cannot stop only the processors, and
// writes the memory to the datastore.
func (h *Host) Pause(ctx context.Context, name string) error {
	return h.change(ctx, name, hypervisor.Running, "suspend", func(s *site, m machine) error {
		return s.suspend(ctx, m.ref)
	})
}

// Unpause resumes a suspended machine.
func (h *Host) Unpause(ctx context.Context, name string) error {
	return h.change(ctx, name, hypervisor.Paused, "resume", func(s *site, m machine) error {
		return s.powerOn(ctx, m.ref)
	})
}

// change takes a machine from one of the states running and paused to the other.
func (h *Host) change(ctx context.Context, name string, from hypervisor.Status, verb string, do func(*site, machine) error) error {
	if err := h.checkName(name); err != nil {
		return err
	}
	return h.with(ctx, verb+" "+name, func(s *site) error {
		m, err := h.ours(ctx, s, name)
		if err != nil {
			return err
		}
		status, err := h.status(m)
		switch {
		case err != nil:
			return err
		case m.host != s.host:
			return fmt.Errorf("it is on another host: %w", hypervisor.ErrNotFound)
		case status == from:
			return do(s, m)
		case status == hypervisor.Running, status == hypervisor.Paused:
			return nil
		}
		return fmt.Errorf("it is %s", status)
	})
}

// Destroy powers the machine off and deletes it with its disks. A machine on another
// host is left alone; for one that is being relocated, the relocation is cancelled
// first.
func (h *Host) Destroy(ctx context.Context, name string) error {
	if err := h.checkName(name); err != nil {
		return err
	}
	return h.with(ctx, "destroy "+name, func(s *site) error {
		m, err := h.lookUp(ctx, s, name)
		if errors.Is(err, hypervisor.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return h.destroy(ctx, s, m)
	})
}

// Teardown destroys all of the testbed's machines on this host, and the template
// that was made from the inventory's file. The custom attribute stays, because other
// testbeds of the vCenter may use it.
func (h *Host) Teardown(ctx context.Context) error {
	err := h.with(ctx, "tear down", func(s *site) error {
		all, err := h.machines(ctx, s)
		if err != nil {
			return err
		}
		var errs []error
		for _, m := range all {
			if h.isMadeByUs(m) {
				if err := h.destroy(ctx, s, m); err != nil {
					errs = append(errs, fmt.Errorf("destroy %s: %w", m.name, err))
				}
			}
		}
		return errors.Join(errs...)
	})
	if h.machine.VCenter.Import != nil {
		err = errors.Join(err, h.RemoveTemplate(ctx))
	}
	return err
}

// destroy deletes a machine that is ours, or half-made, when it is on this host.
func (h *Host) destroy(ctx context.Context, s *site, m machine) error {
	if m.host != s.host && m.host.Value != "" {
		return nil
	}
	if !h.isOurs(m) && m.power != types.VirtualMachinePowerStatePoweredOff {
		return h.foreign(m) // we never start a machine before it is labelled
	}
	called, err := s.callBack(ctx, m)
	if err != nil {
		return err
	}
	if called {
		m, err = h.ours(ctx, s, m.name)
		if errors.Is(err, hypervisor.ErrNotFound) || err == nil && m.host != s.host {
			return nil // it arrived before its relocation could be cancelled
		}
		if err != nil {
			return err
		}
	}
	if m.power == types.VirtualMachinePowerStatePoweredOn {
		if err := s.powerOff(ctx, m.ref); err != nil {
			return err
		}
	}
	return s.delete(ctx, m.ref)
}
