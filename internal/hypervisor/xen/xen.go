// Package xen drives Xen through its xl toolstack. Guests are PVH domains,
// because a Xen without shadow paging (Debian's) refuses to migrate PV guests.
//
// It promises that a domain's disk is opened only if it is the device that the
// driver has recorded for the domain on that host, by name, number and the
// kernel's sequence number of disks. A migration to a host where that path is
// another device is refused before the domain runs there, and the domain goes on
// at the source.
//
// It also promises that a domain that is not ours is never touched. A domain of ours
// has the testbed's label in its name, and the UUID that follows from the name. A
// domain that has the label and another UUID is reported by Check, and refused where it
// has a name of ours. A log of the toolstack, of which only the name is known, is removed with the
// domain of ours that has it, and by Teardown when it is named after the testbed's
// guest, but not while the host has a domain of that name that is not ours.
//
// Dangerous: the files in the driver's folder on a host must stay as long as the domain
// exists: the toolstack calls the script among them when the domain ends, also at the
// source of a migration.
package xen

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/hypervisor/xen/watch"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
)

// Kind registers Xen.
var Kind = hypervisor.Kind{
	Name: "xen",
	New:  func(setup hypervisor.Setup) (hypervisor.Driver, error) { return newHost(setup), nil },
	// The names are those of Linux' front ends: xen-blkfront, xen-netfront and
	// hvc_xen.
	Guest: hypervisor.Devices{Disk: "/dev/" + guestDisk, NIC: "eth0", Console: "hvc0"},
}

var _ hypervisor.Driver = (*Host)(nil)

// commandTimeout limits every call of xl except a migration.
const commandTimeout = 2 * time.Minute

// Host is one Xen host of a testbed.
type Host struct {
	label   string // the testbed's: the names of our domains start with it and a separator
	machine inventory.Machine
	remote  remote.Host

	// goneLimit is how long a destroyed domain may take to go away, and goneEvery
	// is the interval of checking whether it has gone.
	goneLimit, goneEvery time.Duration
}

func newHost(setup hypervisor.Setup) *Host {
	return &Host{label: setup.Label, machine: setup.Machine, remote: setup.Remote, goneLimit: time.Minute, goneEvery: time.Second}
}

// Host is the name of the host.
func (h *Host) Host() string { return h.machine.Name }

// Watcher is the name of the watcher of Xen's domains in the witness's program.
func (h *Host) Watcher() string { return watch.Name }

// ownFolder is the testbed's folder on this host, which is marked as ours (package
// folder).
func (h *Host) ownFolder() string { return path.Join(h.machine.DataDir, h.label) }

// folder is the folder on this host for the files from which our domains are
// made. They are written before the domain is made, so that what was made can
// always be found.
func (h *Host) folder() string { return path.Join(h.ownFolder(), "xen") }

// configEnd is the suffix that follows the domain's name in the name of its
// configuration.
const configEnd = ".cfg"

func (h *Host) file(name, end string) string { return path.Join(h.folder(), name+end) }

func (h *Host) xl(ctx context.Context, args ...string) (remote.Result, error) {
	return h.remote.Run(ctx, remote.Command{Args: append([]string{"xl"}, args...), Timeout: commandTimeout})
}

// shell runs a constant script with arguments.
func (h *Host) shell(ctx context.Context, script string, args ...string) (string, error) {
	result, err := h.remote.Run(ctx, remote.Command{Args: append([]string{"sh", "-c", script, "sh"}, args...), Timeout: commandTimeout})
	return strings.TrimSpace(string(result.Stdout)), err
}

// isLabelled says that a name carries the testbed's label.
func (h *Host) isLabelled(name string) bool {
	return strings.HasPrefix(name, h.label+hypervisor.LabelSeparator)
}

// checkName refuses to touch a domain that is not the testbed's own.
func (h *Host) checkName(name string) error {
	if !h.isLabelled(name) {
		return fmt.Errorf("domain %q on %s: its name does not start with the testbed's label %q", name, h.Host(), h.label+hypervisor.LabelSeparator)
	}
	return nil
}

// Create starts the domain with `xl create`.
func (h *Host) Create(ctx context.Context, domain hypervisor.Domain) error {
	if err := h.checkName(domain.Name); err != nil {
		return err
	}
	text, err := h.domainConfig(domain)
	if err != nil {
		return err
	}
	found, err := h.find(ctx, domain.Name)
	switch {
	case err == nil && isWhole(found):
		return nil
	case err == nil:
		if err := h.Destroy(ctx, domain.Name); err != nil {
			return err
		}
	case !errors.Is(err, hypervisor.ErrNotFound):
		return err
	}
	if err := h.prepareDisk(ctx, domain); err != nil {
		return fmt.Errorf("start domain %s: %w", domain.Name, err)
	}
	config := h.file(domain.Name, configEnd)
	if err := h.write(ctx, config, text, 0o644); err != nil {
		return err
	}
	if _, err := h.xl(ctx, "create", "-q", config); err != nil {
		return fmt.Errorf("start domain %s: %w", domain.Name, err)
	}
	return nil
}

// isWhole distinguishes a domain that runs, or was paused while it ran, from one
// whose creation was interrupted (xl unpauses a new domain last, so that it never
// ran) and from one that has ended.
func isWhole(state hypervisor.State) bool {
	return state.Status == hypervisor.Running || state.Status == hypervisor.Paused && state.CPUTime > 0
}

// Pause pauses a running domain. Xen counts pauses, so a domain that is paused
// already is left alone.
func (h *Host) Pause(ctx context.Context, name string) error {
	return h.changePause(ctx, name, "pause", hypervisor.Paused)
}

// Unpause lets a paused domain go on.
func (h *Host) Unpause(ctx context.Context, name string) error {
	return h.changePause(ctx, name, "unpause", hypervisor.Running)
}

func (h *Host) changePause(ctx context.Context, name, verb string, wanted hypervisor.Status) error {
	if err := h.checkName(name); err != nil {
		return err
	}
	state, err := h.find(ctx, name)
	if err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if state.Status == wanted {
		return nil
	}
	_, err = h.xl(ctx, verb, name)
	return err
}
