package kvm

import (
	"encoding/xml"
	"strings"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/require"
	"libvirt.org/go/libvirtxml"

	"heliotrope/internal/hypervisor"
)

// FuzzRewrite: whatever XML a source's libvirt gives, the target is told its own kernel, disk, bridge and file for the
// console, and nothing that opens more of it to the guest.
func FuzzRewrite(f *testing.F) {
	there := guest
	there.Disk, there.Bridge, there.Kernel = hypervisor.Disk{Path: "/mnt/vm.img", File: true}, "br1", "/other"
	text, err := (&Host{label: "lab", domainType: "kvm", cpuMode: "host-passthrough"}).render(guest)
	require.NoError(f, err)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text string) {
		again, err := rewrite(text, there)
		var domain libvirtxml.Domain
		if err != nil || domain.Unmarshal(again) != nil { // the target's libvirt would refuse it, too
			return
		}
		require.NoError(t, onlyOurs(&domain))
		require.Equal(t, there.Kernel, domain.OS.Kernel)
		require.Equal(t, there.Cmdline, domain.OS.Cmdline)
		require.Len(t, domain.Devices.Disks, 1)
		require.Equal(t, there.Disk.Path, domain.Devices.Disks[0].Source.File.File)
		for _, device := range domain.Devices.Interfaces {
			require.Equal(t, there.Bridge, device.Source.Bridge.Bridge)
		}
		for _, serial := range domain.Devices.Serials {
			require.Equal(t, consolePath(there.Name), serial.Log.File)
		}
	})
}

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
			require.NotContains(t, err.Error(), "\n")
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
			require.NotContains(t, err.Error(), "\n")
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
