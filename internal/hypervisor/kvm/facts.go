package kvm

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"heliotrope/internal/hypervisor"
)

// readFacts prints a line with a name and a value for each fact that libvirt
// does not report. Its argument is a bridge.
const readFacts = `echo "kernel $(uname -r)"
echo "uid $(id -u)"
test -c /dev/kvm && echo "kvm yes"
for p in kvm_amd/parameters/npt kvm_intel/parameters/ept; do
	test -r "/sys/module/$p" && echo "paging $p=$(cat "/sys/module/$p")"
done
test -d "/sys/class/net/$1/bridge" && echo "bridge yes"
while read -r name value _; do echo "memory $name$value"; done </proc/meminfo
for f in /proc/net/tcp /proc/net/tcp6; do
	test -r $f && while read -r _ local _ state _; do test "$state" = 0A && echo "port ${local##*:}"; done <$f
done
true`

// facts are what a host reports about itself.
type facts struct {
	kernel       string
	uid          int // the user as whom our commands run
	kvm, bridge  bool
	paging       string // a module's parameter that is off, "kvm_amd/parameters/npt=0"; "" when none is
	availableMiB int
	listening    map[int]bool // TCP ports in use
}

func (h *Host) facts(ctx context.Context) (facts, error) {
	text, err := h.script(ctx, readFacts, h.machine.Bridge)
	if err != nil {
		return facts{}, err
	}
	f, err := parseFacts(text)
	if err != nil {
		return facts{}, h.failed("look at the host", err)
	}
	return f, nil
}

// parseFacts reads the output of readFacts.
func parseFacts(text string) (f facts, err error) {
	f.listening = map[int]bool{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch name {
		case "kernel":
			f.kernel = value
		case "uid":
			if f.uid, err = strconv.Atoi(value); err != nil {
				return f, fmt.Errorf("unreadable line %q: %w", line, err)
			}
		case "kvm":
			f.kvm = true
		case "bridge":
			f.bridge = true
		case "paging":
			if strings.HasSuffix(value, "=N") || strings.HasSuffix(value, "=0") {
				f.paging = value
			}
		case "memory":
			kib, found := strings.CutPrefix(value, "MemAvailable:")
			if !found {
				continue
			}
			number, err := strconv.Atoi(kib)
			if err == nil && number < 0 {
				err = strconv.ErrRange
			}
			if err != nil {
				return f, fmt.Errorf("unreadable line %q: %w", line, err)
			}
			f.availableMiB = number >> 10
		case "port":
			number, err := strconv.ParseUint(value, 16, 16)
			if err != nil {
				return f, fmt.Errorf("unreadable line %q: %w", line, err)
			}
			f.listening[int(number)] = true
		}
	}
	return f, nil
}

// Info asks libvirt and the host.
func (h *Host) Info(ctx context.Context) (info hypervisor.HostInfo, err error) {
	f, err := h.facts(ctx)
	if err != nil {
		return info, err
	}
	err = h.with(ctx, func(_ context.Context, c *client) error {
		version, err := c.virt.ConnectGetVersion()
		if err != nil {
			return c.failed("ask for QEMU's version", err)
		}
		_, memoryKiB, cpus, _, _, _, _, _, err := c.virt.NodeGetInfo()
		if err != nil {
			return c.failed("ask for the host's processors", err)
		}
		info = hypervisor.HostInfo{Hypervisor: Name, Version: versionOf(version), Kernel: f.kernel, CPUs: int(cpus),
			MemoryMiB: int(memoryKiB >> 10), FreeMemoryMiB: f.availableMiB}
		return nil
	})
	return info, err
}

// versionOf formats a version number of libvirt's: major × 1,000,000 + minor ×
// 1,000 + release (virConnectGetVersion).
func versionOf(number uint64) string {
	return fmt.Sprintf("%d.%d.%d", number/1_000_000, number/1000%1000, number%1000)
}
