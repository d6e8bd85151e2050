package kvm

import (
	"encoding/xml"
	"os"
	"regexp"
	"strings"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/require"
	"libvirt.org/go/libvirtxml"

	"heliotrope/internal/hypervisor"
)

// FuzzAtTarget: whatever XML a source's libvirt gives, every path that the target is told is one of its own.
func FuzzAtTarget(f *testing.F) {
	there := guest
	there.Disk, there.Bridge, there.Kernel = hypervisor.Disk{Path: "/mnt/vm.img", File: true}, "br1", "/other"
	h := &Host{label: "lab", domainType: "kvm", cpuMode: "host-passthrough"}
	text, err := h.render(guest)
	require.NoError(f, err)
	f.Add(text)
	f.Add(dumped(f))
	ours := []string{there.Kernel, there.Ramdisk, there.Disk.Path, consolePath(there.Name)}
	f.Fuzz(func(t *testing.T, text string) {
		again, err := h.atTarget(text, there)
		if err != nil {
			return
		}
		var domain libvirtxml.Domain
		require.NoError(t, domain.Unmarshal(again))
		require.Equal(t, hypervisor.UUID(there.Name).String(), domain.UUID)
		require.Equal(t, there.Cmdline, domain.OS.Cmdline)
		require.Equal(t, there.Bridge, domain.Devices.Interfaces[0].Source.Bridge.Bridge)
		for _, path := range value.FindAllStringSubmatch(again, -1) {
			require.Contains(t, ours, strings.TrimSpace(path[1]))
		}
	})
}

// dumped is what virsh dumpxml --migratable --security-info (libvirt 9.0) printed of a guest of the emulated testbed that
// ran, with another label.
func dumped(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/domain.xml")
	require.NoError(t, err)
	return string(text)
}

// value is the beginning of a text or an attribute that is a path.
var value = regexp.MustCompile(`[">]\s*(/[^<"]*)`)

// FuzzCapabilities: whatever libvirt says of a host, and whatever label it has for QEMU's account, nobody gets a negative
// number.
func FuzzCapabilities(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		var host hostCapabilities
		var domain domainCapabilities
		_, _ = xml.Unmarshal([]byte(text), &host), xml.Unmarshal([]byte(text), &domain)
		_ = labelOf(text)
		labels := []string{text}
		for _, model := range host.SecurityModels {
			for _, label := range model.Labels {
				labels = append(labels, label.Text)
			}
		}
		for _, label := range labels {
			if account, err := parseAccount(label); err == nil {
				require.GreaterOrEqual(t, min(account.uid, account.gid), 0)
			}
		}
	})
}

// FuzzFacts: whatever a host says of itself, its memory and its ports are numbers that can be.
func FuzzFacts(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		facts, err := parseFacts(text)
		if err != nil {
			return
		}
		require.GreaterOrEqual(t, facts.availableMiB, 0)
		for port := range facts.listening {
			require.True(t, port >= 0 && port <= 65535, port)
		}
	})
}

// FuzzSize: whatever is in front of a disk, it has no negative size; an image has one only with qcow2's header.
func FuzzSize(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		for _, disk := range []hypervisor.Disk{{Path: "/dev/sdb"}, {Path: "/dev/loop0", Base: "/dev/loop1"}} {
			size, err := parseSize(text, disk)
			if err != nil {
				require.NotContains(t, err.Error(), "\n")
				continue
			}
			require.GreaterOrEqual(t, min(size.room, size.disk), int64(0))
			require.True(t, disk.Base != "" || size.room == size.disk)
		}
	})
}

// FuzzOpened: whatever is said of what QEMU has open, a process that has not opened the disk is never taken for one that
// has.
func FuzzOpened(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		err := compareOpened(text, "/var/lib/heliotrope/kvm-test/mnt/vm.img")
		if err == nil {
			require.Contains(t, text, "process")
			require.Contains(t, text, "want ")
			require.Contains(t, text, "is ")
			return
		}
		require.NotContains(t, err.Error(), "\n")
	})
}

// FuzzUsage: whatever /proc/stat and the counters of network interfaces say, nobody was busy for longer than there was
// time, and nothing is negative.
func FuzzUsage(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		usage, err := parseUsage(text)
		if err != nil {
			return
		}
		require.Positive(t, usage.All)
		require.True(t, usage.Busy >= 0 && usage.Busy <= usage.All, usage)
		require.GreaterOrEqual(t, min(usage.ReceivedBytes, usage.SentBytes, usage.ReceivedDropped, usage.SentDropped), int64(0))
	})
}

// FuzzMigrationStep: an event of QEMU tells a step only where it is one of a migration.
func FuzzMigrationStep(f *testing.F) {
	f.Fuzz(func(t *testing.T, event string, details []byte) {
		word, pass := migrationStep(libvirt.DomainEvent{Event: event, Details: details})
		if word != "" || pass != 0 {
			require.True(t, strings.HasPrefix(event, "MIGRATION") || event == "BLOCK_JOB_READY", event)
		}
	})
}
