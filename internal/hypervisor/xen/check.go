package xen

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"heliotrope/internal/fault"
	"heliotrope/internal/folder"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
)

// programs are the programs that the driver runs on a host.
func (h *Host) programs() []string {
	all := []string{"xl", "xenstore-read", "pv"}
	if h.overTCP() {
		return append(all, "socat", "ss")
	}
	return append(all, "ssh")
}

// lookAround prints a line for each requirement that is not met. Its arguments
// are the bridge and the programs.
const lookAround = `
export PATH="$PATH:/usr/sbin:/sbin"
bridge=$1
shift
for program; do command -v "$program" > /dev/null || echo "program $program"; done
[ -e "/sys/class/net/$bridge" ] || echo bridge
[ -e /dev/xen/privcmd ] || echo privcmd
[ -x ` + hostScript + ` ] || echo script`

// Check checks whether the host has what the driver needs.
func (h *Host) Check(ctx context.Context) error {
	missing, err := h.shell(ctx, lookAround, append([]string{h.machine.Bridge}, h.programs()...)...)
	if err != nil {
		return err
	}
	var errs []error
	found := func(tried, found, fix string) {
		errs = append(errs, problem.New(fault.BadInput, h.Host(), tried, found, fix))
	}
	xlIsThere := true
	for line := range strings.Lines(missing) {
		switch what, name, _ := strings.Cut(strings.TrimSpace(line), " "); what {
		case "program":
			xlIsThere = xlIsThere && name != "xl"
			errs = append(errs, problem.Lacks(h.Host(), name))
		case "bridge":
			found("/sys/class/net/"+h.machine.Bridge, "there is no such network interface", "make the bridge, or correct bridge in the inventory")
		case "privcmd":
			found("/dev/xen/privcmd", "it is not there", "boot the host as Xen's control domain, and load the module xen-privcmd")
		case "script":
			errs = append(errs, problem.Lacks(h.Host(), hostScript))
		}
	}
	if xlIsThere {
		info, err := h.info(ctx)
		if err == nil && !info.can("hap") {
			found("xl info", fmt.Sprintf("virt_caps has no hap (%s): without hardware-assisted paging this Xen refuses live migration", strings.Join(info.virtual, " ")),
				"switch AMD-V with NPT or VT-x with EPT on in the firmware")
		}
		errs = append(errs, err)
	}
	if xlIsThere {
		errs = append(errs, h.checkStrangers(ctx))
	}
	return errors.Join(append(errs, h.checkFolder(ctx), h.checkPort(ctx))...)
}

// checkStrangers reports domains that have the label in their names and are not ours.
func (h *Host) checkStrangers(ctx context.Context) error {
	all, err := h.rows(ctx)
	errs := []error{err}
	for _, domain := range all.strangers {
		errs = append(errs, h.foreign(domain))
	}
	return errors.Join(errs...)
}

// checkFolder refuses a folder of the testbed's name that is somebody else's.
func (h *Host) checkFolder(ctx context.Context) error {
	files, err := h.remote.Files(ctx)
	if err != nil {
		return err
	}
	return folder.Check(files, h.Host(), h.ownFolder())
}

// listeners prints the programs that listen on a TCP port. Check reports a host
// without ss.
const listeners = `
export PATH="$PATH:/usr/sbin:/sbin"
! command -v ss > /dev/null || ss -Hltnp "sport = :$1"`

// checkPort checks whether the port is free on which this host receives
// migrations.
func (h *Host) checkPort(ctx context.Context) error {
	if !h.overTCP() {
		return nil
	}
	taken, err := h.shell(ctx, listeners, strconv.Itoa(tcpPort))
	if err != nil || taken == "" {
		return err
	}
	return problem.New(fault.Infrastructure, h.Host(), fmt.Sprintf("TCP port %d", tcpPort),
		"somebody listens there, where migrations arrive: "+taken, "end it")
}

// overheadMiB is what a domain needs in addition to its memory, for its page
// tables and Xen's own structures; a generous guess for guests of some GiB.
const overheadMiB = 16

// missingFiles prints those of its arguments that are not the paths of files.
const missingFiles = `for file; do [ -f "$file" ] || echo "$file"; done`

// CheckMigration checks whether the target could take the domain now.
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
	found := func(class fault.Class, tried, found, fix string) {
		errs = append(errs, problem.New(class, to.Host(), tried, found, fix))
	}
	if isOlder(there.Version, here.Version) {
		found(fault.BadInput, "xl info", fmt.Sprintf("Xen %s is older than the %s of %s", there.Version, here.Version, h.Host()),
			"install the same: Xen migrates to the same version or a newer one")
	}
	if lacks := there.lacks(here); lacks != "" {
		found(fault.BadInput, "xl info", fmt.Sprintf("its processor lacks features of the one of %s (bits of hw_caps: %s)", h.Host(), lacks), "take hosts with processors of one kind")
	}
	if want := domain.MemoryMiB + overheadMiB; there.ownsMemory && there.FreeMemoryMiB < want {
		found(fault.Infrastructure, "xl info", fmt.Sprintf("%d MiB of memory are free, the domain needs %d", there.FreeMemoryMiB, want),
			"end something there, or make the guest smaller")
	}
	missing, err := h.shell(ctx, missingFiles, domain.Kernel, domain.Ramdisk)
	for _, file := range strings.Fields(missing) {
		errs = append(errs, problem.New(fault.BadInput, h.Host(), file, "there is no such file, which the guest is started from",
			"put the guest's kernel and ramdisk there, or name others in the inventory (guest)"))
	}
	return errors.Join(append(errs, err, to.checkPort(ctx), h.checkLogin(ctx, to))...)
}

// checkLogin checks whether ssh reaches the target in the way in which xl will
// use it: without anybody to answer a question.
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
	found := err.Error()
	var command *remote.Error
	if errors.As(err, &command) {
		found = command.Found()
	}
	return problem.New(fault.BadInput, h.Host(), strings.Join(args, " "), fmt.Sprintf("it cannot log in at %s with its own key: %s", to.Host(), found),
		fmt.Sprintf("put the key of %s into its known_hosts, and its own public key into authorized_keys there", to.Host()))
}

// peer returns the target of a migration as a Xen host.
func (h *Host) peer(target hypervisor.Hypervisor) (*Host, error) {
	to, ok := target.(*Host)
	if !ok {
		return nil, fault.New(fault.BadInput, "migrate from %s to %s: the target is no Xen host", h.Host(), target.Host())
	}
	return to, nil
}
