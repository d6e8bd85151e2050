package xen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote"
)

// program is what a host must have, and the Debian package that brings it.
type program struct{ name, from string }

// programs are what the driver calls on a host.
func (h *Host) programs() []program {
	all := []program{{"xl", "xen-utils-common"}, {"xenstore-read", "xenstore-utils"}, {"pv", "pv"}}
	if h.overTCP() {
		return append(all, program{"socat", "socat"}, program{"ss", "iproute2"})
	}
	return append(all, program{"ssh", "openssh-client"})
}

// lookAround prints a line for each thing that is not as it must be. Its
// arguments are the bridge and the programs.
const lookAround = `
export PATH="$PATH:/usr/sbin:/sbin"
bridge=$1
shift
for program; do command -v "$program" > /dev/null || echo "program $program"; done
[ -e "/sys/class/net/$bridge" ] || echo bridge
[ -e /dev/xen/privcmd ] || echo privcmd
[ -x ` + hostScript + ` ] || echo script`

// Check looks whether the host has what the driver needs.
func (h *Host) Check(ctx context.Context) error {
	wanted := h.programs()
	args := []string{h.machine.Bridge}
	for _, program := range wanted {
		args = append(args, program.name)
	}
	missing, err := h.shell(ctx, lookAround, args...)
	if err != nil {
		return err
	}
	var errs []error
	problem := func(format string, values ...any) {
		errs = append(errs, fault.New(fault.BadInput, "%s: "+format, append([]any{h.Host()}, values...)...))
	}
	xlIsThere := true
	for line := range strings.Lines(missing) {
		switch what, name, _ := strings.Cut(strings.TrimSpace(line), " "); what {
		case "program":
			xlIsThere = xlIsThere && name != "xl"
			for _, program := range wanted {
				if program.name == name {
					problem("no program %s: install Debian's package %s", name, program.from)
				}
			}
		case "bridge":
			problem("no network interface %q: make the bridge, or correct bridge in the inventory", h.machine.Bridge)
		case "privcmd":
			problem("no /dev/xen/privcmd: boot the host as Xen's control domain, and load the module xen-privcmd")
		case "script":
			problem("no %s that can be run: install Debian's package xen-utils-common", hostScript)
		}
	}
	if xlIsThere {
		found, err := h.info(ctx)
		if err == nil && !found.can("hap") {
			problem("xl info tells of no hap in virt_caps (%s): without hardware-assisted paging this Xen refuses live migration; switch AMD-V with NPT or VT-x with EPT on in the firmware",
				strings.Join(found.virtual, " "))
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, h.checkPort(ctx))...)
}

// listeners prints who listens on a TCP port. A host without ss is told of by
// Check.
const listeners = `
export PATH="$PATH:/usr/sbin:/sbin"
! command -v ss > /dev/null || ss -Hltnp "sport = :$1"`

// checkPort looks whether the port is free on which this host receives
// migrations.
func (h *Host) checkPort(ctx context.Context) error {
	if !h.overTCP() {
		return nil
	}
	taken, err := h.shell(ctx, listeners, strconv.Itoa(tcpPort))
	if err != nil || taken == "" {
		return err
	}
	return fault.New(fault.Infrastructure, "%s: somebody listens on TCP port %d, on which migrations arrive: %s: end it",
		h.Host(), tcpPort, strings.Join(strings.Fields(taken), " "))
}

// overheadMiB is what a domain needs beside its memory, for its page tables and
// Xen's own structures; a generous guess for guests of some GiB.
const overheadMiB = 16

// missingFiles prints the paths among its arguments that are no files.
const missingFiles = `for file; do [ -f "$file" ] || echo "$file"; done`

// CheckMigration looks whether the target could take the domain now.
func (h *Host) CheckMigration(ctx context.Context, domain hypervisor.Domain, target hypervisor.Hypervisor) error {
	to, err := h.peer(target)
	if err != nil {
		return err
	}
	here, err := h.info(ctx)
	if err != nil {
		return err
	}
	there, err := to.info(ctx)
	if err != nil {
		return err
	}
	var errs []error
	problem := func(class fault.Class, format string, values ...any) {
		errs = append(errs, fault.New(class, "migrate from %s to %s: "+format, append([]any{h.Host(), to.Host()}, values...)...))
	}
	if isOlder(there.Version, here.Version) {
		problem(fault.BadInput, "Xen %s there is older than %s here: Xen migrates to the same version or a newer one", there.Version, here.Version)
	}
	if lacks := there.lacks(here); lacks != "" {
		problem(fault.BadInput, "the processor there lacks features of the one here (bits of xl info's hw_caps: %s): want processors of one kind", lacks)
	}
	if want := domain.MemoryMiB + overheadMiB; there.ownsMemory && there.FreeMemoryMiB < want {
		problem(fault.Infrastructure, "%d MiB of memory are free there, the domain needs %d", there.FreeMemoryMiB, want)
	}
	missing, err := h.shell(ctx, missingFiles, domain.Kernel, domain.Ramdisk)
	if err == nil && missing != "" {
		problem(fault.BadInput, "no kernel or ramdisk of the guest here: %s", strings.Join(strings.Fields(missing), ", "))
	}
	return errors.Join(append(errs, err, to.checkPort(ctx), h.checkLogin(ctx, to))...)
}

// checkLogin looks whether ssh reaches the target as xl will: without anybody to
// answer a question.
func (h *Host) checkLogin(ctx context.Context, to *Host) error {
	if h.overTCP() {
		return nil
	}
	address := to.machine.Address.String()
	args := append(append([]string{}, sshCommand...), "-o", "ConnectTimeout=20", address, "true")
	_, err := h.remote.Run(ctx, remote.Command{Args: args, Timeout: commandTimeout})
	if err == nil || errors.Is(err, remote.ErrUnreachable) || errors.Is(err, remote.ErrConnectionLost) {
		return err
	}
	return fault.As(fault.BadInput, fmt.Errorf("%s cannot log in at %s with its own key: put the key of %s into its known_hosts and its own public key into the other's authorized_keys: %w",
		h.Host(), net.JoinHostPort(address, strconv.Itoa(sshPort)), to.Host(), err))
}

// peer is the target of a migration.
func (h *Host) peer(target hypervisor.Hypervisor) (*Host, error) {
	to, ok := target.(*Host)
	if !ok {
		return nil, fault.New(fault.BadInput, "migrate from %s to %s: the target is no Xen host", h.Host(), target.Host())
	}
	return to, nil
}
