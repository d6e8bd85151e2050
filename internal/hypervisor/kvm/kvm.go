// Package kvm drives KVM through libvirt: transient QEMU domains, and live migrations
// whose phases the controller runs itself, as virsh does. All calls use libvirt's own
// protocol over the SSH connection to the host. Nothing is installed on a host, and
// the two libvirts need no connection to each other.
//
// It promises that
//   - a domain that is not ours is never touched. A domain of ours has the testbed's
//     label in its name, the UUID that follows from the name, and the label in its
//     metadata;
//   - a log, of which only the name is known, is removed with the domain of ours
//     that has it, and by Teardown when it is named after the testbed's guest, but not
//     while libvirt has a domain of that name that is not ours;
//   - before a migrated domain runs at the target, the driver checks that QEMU has opened there the disk that
//     it should have, and no other.
//
// Dangerous: a controller that dies between the end of a migration's stream and its
// last phase leaves the domain paused at the source, and another end that waits at
// the target. Only Migrate and Destroy may handle such ends; nothing else may start
// them. The end that waits at the target may already have been told to start: Migrate
// gives it some seconds, looks once more, and only then takes it for an end that
// never ran. If it starts within that last round trip, the start and what the guest
// wrote would be lost. While the controller hands the domain over, its own path to
// the hosts is part of the downtime: one message from the source and one to the
// target.
package kvm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/kvm/watch"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
)

// Name is the driver's name in inventories and campaign files.
const Name = "kvm"

// Kind registers KVM.
var Kind = hypervisor.Kind{
	Name:       Name,
	New:        func(setup hypervisor.Setup) (hypervisor.Driver, error) { return New(setup), nil },
	OpensFiles: true, CopiesDisks: true,
	Guest: hypervisor.Devices{Disk: "/dev/vda", NIC: "eth0", Console: "ttyS0"},
}

var _ hypervisor.Driver = (*Host)(nil)

const (
	// callTimeout limits everything except a migration.
	callTimeout = 2 * time.Minute
	// goneEvery is the interval of checking whether QEMU has ended.
	goneEvery = 200 * time.Millisecond
)

// Host is one KVM host of a testbed.
type Host struct {
	label   string
	machine inventory.Machine
	remote  remote.Host
	// domainType and cpuMode are libvirt's words for KVM and the host's own
	// processor; tests on machines without KVM use others.
	domainType, cpuMode string
}

// New makes the driver of one host.
func New(setup hypervisor.Setup) *Host {
	return &Host{label: setup.Label, machine: setup.Machine, remote: setup.Remote,
		domainType: "kvm", cpuMode: "host-passthrough"}
}

// Host is the name of the host.
func (h *Host) Host() string { return h.machine.Name }

// Watcher is the name of the watcher of KVM's domains in the witness's program.
func (h *Host) Watcher() string { return watch.Name }

// prefix is the beginning of the names of our domains.
func (h *Host) prefix() string { return h.label + hypervisor.LabelSeparator }

// failed says, on one line, on which host what was tried and what came back.
func (h *Host) failed(what string, err error) error {
	return fault.As(fault.Infrastructure, fmt.Errorf("%s: %s: %w", h.Host(), what, inOneLine{err}))
}

// inOneLine is an error of libvirt's on one line. libvirt passes on what QEMU prints.
type inOneLine struct{ error }

func (e inOneLine) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }
func (e inOneLine) Unwrap() error { return e.error }

// with calls do with a connection of its own, within callTimeout.
func (h *Host) with(ctx context.Context, do func(ctx context.Context, c *client) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, fmt.Errorf("libvirt did not answer within %s", callTimeout))
	defer cancel()
	c, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	return do(ctx, c)
}

// Create starts the domain.
func (h *Host) Create(ctx context.Context, domain hypervisor.Domain) error {
	text, err := h.render(domain)
	if err != nil {
		return err
	}
	return h.with(ctx, func(ctx context.Context, c *client) error {
		if err := c.refuseForeign(domain.Name); err != nil {
			return err
		}
		state, err := c.find(domain.Name)
		switch {
		case err == nil && (state.Status == hypervisor.Running || state.Status == hypervisor.Paused):
			return nil
		case err == nil: // half-made, or ended
			if err := c.destroy(ctx, domain.Name); err != nil {
				return err
			}
		case !errors.Is(err, hypervisor.ErrNotFound):
			return err
		}
		_, err = c.virt.DomainCreateXML(text, libvirt.DomainNone)
		return c.notStarted("start domain "+domain.Name, err)
	})
}

// List lists the testbed's own domains.
func (h *Host) List(ctx context.Context) (states []hypervisor.State, err error) {
	err = h.with(ctx, func(_ context.Context, c *client) error {
		states, err = c.list()
		return err
	})
	return states, err
}

// Pause stops a running domain.
func (h *Host) Pause(ctx context.Context, name string) error {
	return h.change(ctx, name, hypervisor.Running, "pause", func(c *client, domain libvirt.Domain) error {
		return c.virt.DomainSuspend(domain)
	})
}

// Unpause lets a paused domain go on. It refuses one end of an interrupted migration,
// because the other end may run.
func (h *Host) Unpause(ctx context.Context, name string) error {
	return h.change(ctx, name, hypervisor.Paused, "unpause", func(c *client, domain libvirt.Domain) error {
		return c.virt.DomainResume(domain)
	})
}

// change takes a domain from one of the states running and paused to the other.
func (h *Host) change(ctx context.Context, name string, from hypervisor.Status, verb string,
	do func(c *client, domain libvirt.Domain) error) error {
	if err := h.checkName(name); err != nil {
		return err
	}
	return h.with(ctx, func(_ context.Context, c *client) error {
		state, err := c.find(name)
		if err != nil {
			return c.failed(verb, err)
		}
		switch state.Status {
		case from:
			return c.failed(verb+" "+name, do(c, state.domain))
		case hypervisor.Running, hypervisor.Paused:
			return nil
		}
		return c.failed(verb+" "+name, fmt.Errorf("it is %s", state.Status))
	})
}

// Destroy ends the domain, waits until its QEMU has ended, and removes its logs.
func (h *Host) Destroy(ctx context.Context, name string) error {
	if err := h.checkName(name); err != nil {
		return err
	}
	return h.with(ctx, func(ctx context.Context, c *client) error {
		if err := c.destroy(ctx, name); err != nil {
			return err
		}
		return c.removeLogs(ctx, name)
	})
}

// Teardown destroys all of the testbed's domains, and removes their logs and those of
// the testbed's guest, which may have ended before.
func (h *Host) Teardown(ctx context.Context) error {
	return h.with(ctx, func(ctx context.Context, c *client) error {
		states, err := c.list()
		if err != nil {
			return err
		}
		names := []string{h.label + hypervisor.GuestEnd}
		var errs []error
		for _, state := range states {
			names = append(names, state.Name)
			errs = append(errs, c.destroy(ctx, state.Name))
		}
		return errors.Join(append(errs, c.removeLogs(ctx, names...))...)
	})
}

// checkName refuses to touch a domain that is not the testbed's own.
func (h *Host) checkName(name string) error {
	if !strings.HasPrefix(name, h.prefix()) {
		return fault.New(fault.BadInput, "%s: domain %q: its name does not start with the testbed's %q", h.Host(), name, h.prefix())
	}
	return nil
}

// script runs a constant text with sh(1), and returns what it prints.
func (h *Host) script(ctx context.Context, text string, args ...string) (string, error) {
	result, err := h.remote.Run(ctx, remote.Command{Args: append([]string{"sh", "-c", text, "sh"}, args...), Timeout: callTimeout})
	return string(result.Stdout), fault.As(fault.Infrastructure, err)
}
