// Package vsphere drives ESXi hosts through their vCenter, by the vSphere Web
// Services API (vim25, package govmomi): machines that are cloned from a
// template, and vMotion.
//
// What it does was tried on govmomi's simulator (v0.56.0) alone, which plays
// vCenter's interface: by itself, and with real guests of the emulated testbed
// behind it. No ESXi host and no real vMotion was ever involved, and no conversation
// with a real vCenter was recorded.
// docs/vsphere.md has the list of what works there. vMotion across vCenters, which
// the simulator lacks, was tried on made-up ones.
//
// The disk under test it makes itself, in a datastore, with the machine; all of the
// machine lies there. It is read by the datastore's file API, when the machine is
// switched off.
//
// It promises that a machine of another is never touched: ours have the testbed's
// label in their name, in their notes and in a custom attribute, and the UUID that
// follows from the name. A relocation that runs already, be it of a process before
// this one, is followed and never started twice. A vCenter that is away is waited
// for, and an ended session opened anew. What vCenter refuses, or cannot do, is the
// infrastructure's; only a relocation's own task can say that a migration failed.
// No password is in an error. Where the target has another vCenter, the source's
// vCenter is told the account there with its password (RelocateSpec.service).
//
// Dangerous: a vCenter that loses the line to a host does not know what runs
// there. Such an answer is an error here (hypervisor.ErrUnknown), and never that a
// machine is off. And whoever may manage our folder may also answer for our
// machines: DRS moves them where it is not told otherwise, which Check reports.
// MakeVMFS destroys what is on a LUN, and is called for the one that the inventory
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

// Name is the driver's, in inventories and campaign files.
const Name = "vsphere"

// Kind is vSphere for the registration.
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
	guestDisk string // where the guest finds the disk under test

	mu    sync.Mutex
	known *site // as it was found last; nil when it must be found anew
}

// New makes the driver of one host, which its vCenter must manage.
func New(setup hypervisor.Setup) (*Host, error) {
	if setup.VCenter == nil || setup.Machine.VCenter == nil {
		return nil, fault.New(fault.BadInput, "%s: no vCenter manages it: give its entry in the inventory a vcenter", setup.Machine.Name)
	}
	return &Host{label: setup.Label, machine: setup.Machine, vcenter: share(*setup.VCenter),
		guestDisk: cmp.Or(setup.GuestDisk, guestDevices.Disk)}, nil
}

// Host is the name of the host.
func (h *Host) Host() string { return h.machine.Name }

// Watcher is nobody: no program of ours runs on an ESXi host.
func (h *Host) Watcher() string { return "" }

// prefix is what our machines' names start with.
func (h *Host) prefix() string { return h.label + hypervisor.LabelSeparator }

// failed says which host, what was tried and what came back; nil stays nil. The
// class of an error that has one stands.
func (h *Host) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fault.As(classOf(err), fmt.Errorf("%s: %s: %w", h.Host(), what, err))
}

// with does something in a session with the vCenter, with the host's objects.
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

// site gives the host's objects in a session that is in use. They are found once,
// and again when vCenter does not know one of them any more.
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

// learn forgets the host's objects when an error says that one is not known: a
// host that was removed and added again is another one.
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

// checkName refuses to touch what is not the testbed's own.
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

// Pause suspends a running machine: vSphere knows no stop of the processors
// alone, and writes the memory to the datastore.
func (h *Host) Pause(ctx context.Context, name string) error {
	return h.change(ctx, name, hypervisor.Running, "suspend", func(s *site, m machine) error {
		return s.suspend(ctx, m.ref)
	})
}

// Unpause lets a suspended machine go on.
func (h *Host) Unpause(ctx context.Context, name string) error {
	return h.change(ctx, name, hypervisor.Paused, "resume", func(s *site, m machine) error {
		return s.powerOn(ctx, m.ref)
	})
}

// change takes a machine from a state to the other of running and paused.
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

// Destroy powers the machine off and deletes it with its disks. One that is on
// another host is left alone; one that is on its way is called back first.
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
// that was made of the inventory's file. The custom attribute stays, as other
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
		return h.foreign(m) // what we have not labelled we have not started
	}
	called, err := s.callBack(ctx, m)
	if err != nil {
		return err
	}
	if called {
		m, err = h.ours(ctx, s, m.name)
		if errors.Is(err, hypervisor.ErrNotFound) || err == nil && m.host != s.host {
			return nil // it arrived before it could be called back
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
