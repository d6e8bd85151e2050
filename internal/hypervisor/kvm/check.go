package kvm

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"

	libvirt "github.com/digitalocean/go-libvirt"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/problem"
)

// problem is one thing that is wrong on the host: what was looked at, what was found,
// and what to do.
func (h *Host) problem(tried, found, fix string) error {
	return problem.New(fault.BadInput, h.Host(), tried, found, fix)
}

// Check checks whether the host can run domains and migrate them.
func (h *Host) Check(ctx context.Context) error {
	f, err := h.facts(ctx)
	if err != nil {
		return err
	}
	problems := h.judge(f)
	err = h.with(ctx, func(ctx context.Context, c *client) error {
		inTheWay, err := c.inTheWay()
		if err != nil {
			return err
		}
		capabilities, err := c.capabilities()
		if err != nil {
			return err
		}
		denied, err := c.checkAccess(ctx, capabilities, h.machine.DataDir)
		problems = slices.Concat(problems, inTheWay, denied)
		return err
	})
	return errors.Join(append(problems, err)...)
}

// inTheWay reports domains that have the label in their names and are not ours.
func (c *client) inTheWay() (problems []error, err error) {
	domains, err := c.all()
	if err != nil {
		return nil, err
	}
	for _, domain := range domains {
		if !strings.HasPrefix(domain.Name, c.host.prefix()) {
			continue
		}
		ours, err := c.isOurs(domain)
		if err != nil {
			return nil, err
		}
		if !ours {
			problems = append(problems, foreign(c.host, domain))
		}
	}
	return problems, nil
}

// judge reports what is wrong with a host that has these facts.
func (h *Host) judge(f facts) (problems []error) {
	if f.uid != 0 {
		problems = append(problems, h.problem("id -u", fmt.Sprintf("its user in the inventory has the number %d, and only root (0) sees what others' QEMUs have open", f.uid), "name root as ssh.user, or have the user become root (ssh.become: sudo)"))
	}
	if h.domainType == "kvm" && !f.kvm {
		problems = append(problems, h.problem("/dev/kvm", "it is not there", "switch virtualisation on in the firmware, and load kvm_intel or kvm_amd"))
	}
	if f.paging != "" {
		problems = append(problems, h.problem("/sys/module/"+f.paging, "nested paging is off, and a guest would be many times slower", "load the module with it on"))
	}
	if h.machine.Bridge != "" && !f.bridge {
		problems = append(problems, h.problem("/sys/class/net/"+h.machine.Bridge+"/bridge", "there is no such bridge", "make it, or name another in the inventory (bridge)"))
	}
	if f.listening[streamPort] {
		problems = append(problems, h.problem(fmt.Sprintf("TCP port %d", streamPort), "it is in use, and a migration to this host wants it", "stop who listens there (ss -ltnp tells which it is)"))
	}
	free := 0
	for port := firstPort; port <= lastPort; port++ {
		if !f.listening[port] {
			free++
		}
	}
	if free == 0 {
		problems = append(problems, h.problem(fmt.Sprintf("TCP ports %d to %d", firstPort, lastPort), "all are in use, and the copy of a private disk to this host wants one", "stop who listens there (ss -ltnp tells which they are)"))
	}
	return problems
}

// checkFiles prints those of its arguments that are not readable files.
const checkFiles = `for f; do test -z "$f" || test -r "$f" || echo "$f"; done`

// offer is what a host provides for a domain.
type offer struct {
	libvirt, qemu uint64 // versions
	machine       string // the full name of machineType on that host
	capabilities  hostCapabilities
}

// machineType is the machine type of our domains: it stands for the newest version
// that QEMU has.
const machineType = "q35"

// hostCapabilities are from virConnectGetCapabilities (formatcaps.html).
type hostCapabilities struct {
	CPU struct {
		Inner string `xml:",innerxml"`
		Model string `xml:"model"`
	} `xml:"host>cpu"`
	SecurityModels []struct {
		Name   string `xml:"model"`
		Labels []struct {
			DomainType string `xml:"type,attr"`
			Text       string `xml:",chardata"`
		} `xml:"baselabel"`
	} `xml:"host>secmodel"`
}

// domainCapabilities are from virConnectGetDomainCapabilities
// (formatdomaincaps.html).
type domainCapabilities struct {
	Machine string `xml:"machine"`
}

// answered says whether an error is libvirt's answer, rather than that of a
// connection that broke.
func answered(err error) bool {
	var virtError libvirt.Error
	return errors.As(err, &virtError)
}

// offer asks what the host provides.
//
// A processor about which libvirt reports nothing cannot be compared, and is refused.
// The guest has the host's own processor, so with a target whose processor lacks a
// feature the guest would crash there, and that would be counted as a result.
func (c *client) offer() (o offer, err error) {
	if o.libvirt, err = c.virt.ConnectGetLibVersion(); err != nil {
		return o, c.failed("ask for libvirt's version", err)
	}
	if o.qemu, err = c.virt.ConnectGetVersion(); err != nil {
		return o, c.failed("ask for QEMU's version", err)
	}
	if o.machine, err = c.machine(machineType); answered(err) {
		return o, problem.Perhaps(fault.BadInput, c.host.Host(), "virsh domcapabilities --machine "+machineType,
			fmt.Sprintf("it has no such machine type for domains of type %s (%v)", c.host.domainType, err), "see that its QEMU is for x86_64", "qemu-system-x86_64")
	} else if err != nil {
		return o, c.failed("ask for machine type "+machineType, err)
	}
	if o.capabilities, err = c.capabilities(); err != nil {
		return o, err
	}
	if o.capabilities.CPU.Model == "" {
		return o, c.host.problem("virsh capabilities", "libvirt does not tell the model of its processor, so it cannot be compared with another's",
			"look for libvirt's cpu_map (/usr/share/libvirt/cpu_map) and in its log, and start it anew")
	}
	return o, nil
}

// capabilities asks for libvirt's description of the host.
func (c *client) capabilities() (capabilities hostCapabilities, err error) {
	text, err := c.virt.ConnectGetCapabilities()
	if err != nil {
		return capabilities, c.failed("ask for the host's capabilities", err)
	}
	err = xml.Unmarshal([]byte(text), &capabilities)
	return capabilities, c.failed("read the host's capabilities", err)
}

// machine is the full name of a machine type.
func (c *client) machine(name string) (string, error) {
	text, err := c.virt.ConnectGetDomainCapabilities(nil, libvirt.OptString{"x86_64"}, libvirt.OptString{name}, libvirt.OptString{c.host.domainType}, 0)
	if err != nil {
		return "", err
	}
	var capabilities domainCapabilities
	err = xml.Unmarshal([]byte(text), &capabilities)
	return capabilities.Machine, err
}

// CheckMigration checks whether the target could take the domain now. The target's
// disk is checked only when the domain is migrated, because it may not be there yet.
func (h *Host) CheckMigration(ctx context.Context, domain hypervisor.Domain, target hypervisor.Hypervisor) error {
	to, ok := target.(*Host)
	if !ok {
		return h.problem(fmt.Sprintf("migrate %s to %s", domain.Name, target.Host()), "that is no KVM host", "give both sites hosts of one hypervisor")
	}
	var here offer
	if err := h.with(ctx, func(_ context.Context, c *client) (err error) {
		here, err = c.offer()
		return errors.Join(err, c.refuseForeign(domain.Name))
	}); err != nil {
		return err
	}
	return to.with(ctx, func(ctx context.Context, c *client) error {
		there, err := c.offer()
		if err != nil {
			return err
		}
		missing, err := c.missing(h.Host(), here)
		if err != nil {
			return err
		}
		denied, err := c.checkAccess(ctx, there.capabilities, domain.Kernel, domain.Ramdisk)
		if err != nil {
			return err
		}
		problems := slices.Concat([]error{c.refuseForeign(domain.Name), to.checkRoom(ctx, domain)}, denied, missing)
		for _, v := range []struct {
			what        string
			here, there uint64
		}{{"libvirt", here.libvirt, there.libvirt}, {"QEMU", here.qemu, there.qemu}} {
			if v.there < v.here {
				problems = append(problems, to.problem("version of "+v.what, fmt.Sprintf("it is %s, and %s on %s: a migration to an older one may fail",
					versionOf(v.there), versionOf(v.here), h.Host()), "install the same on both"))
			}
		}
		return errors.Join(problems...)
	})
}

// missing reports what another host offers and this one does not.
func (c *client) missing(other string, o offer) (problems []error, err error) {
	if _, err := c.machine(o.machine); answered(err) {
		problems = append(problems, c.host.problem("virsh domcapabilities --machine "+o.machine, fmt.Sprintf("it has no such machine type, which %s has (%v)", other, err), "install the same QEMU on both"))
	} else if err != nil {
		return nil, c.failed("ask for machine type "+o.machine, err)
	}
	// When an incompatible processor is requested to be an error, the error says what
	// differs.
	_, err = c.virt.ConnectCompareCPU("<cpu>"+o.capabilities.CPU.Inner+"</cpu>", libvirt.ConnectCompareCPUFailIncompatible)
	if answered(err) {
		problems = append(problems, c.host.problem("virsh cpu-compare", fmt.Sprintf("its processor cannot take the place of that of %s, %s (%s): a guest with the host's own processor cannot move here",
			other, o.capabilities.CPU.Model, err), "take hosts with the same processor"))
	} else if err != nil {
		return nil, c.failed("compare its processor with that of "+other, err)
	}
	return problems, nil
}

// checkRoom checks whether the host has the domain's kernel and ramdisk, and enough
// memory for it.
func (h *Host) checkRoom(ctx context.Context, domain hypervisor.Domain) error {
	text, err := h.script(ctx, checkFiles, domain.Kernel, domain.Ramdisk)
	if err != nil {
		return err
	}
	var problems []error
	for path := range strings.Lines(text) {
		problems = append(problems, h.problem(strings.TrimSpace(path), "there is no such file, which domain "+domain.Name+" is started from", "put the guest's kernel and ramdisk there, or name others in the inventory (guest)"))
	}
	f, err := h.facts(ctx)
	if err != nil {
		return err
	}
	if f.availableMiB < domain.MemoryMiB {
		problems = append(problems, h.problem("/proc/meminfo", fmt.Sprintf("%d MiB of memory are to be had, domain %s wants %d", f.availableMiB, domain.Name, domain.MemoryMiB),
			"end something there, or make the guest smaller"))
	}
	return errors.Join(problems...)
}
