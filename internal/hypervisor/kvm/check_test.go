package kvm

import (
	"strings"
	"testing"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/remote/remotetest"
)

// healthy is the output of readFacts on a host that has everything.
const healthy = "kernel 6.1.0\nuid 0\nkvm yes\nbridge yes\nmemory MemAvailable:696264\n"

// says makes a host answer a script.
func (f *fakeHost) says(script, output string) {
	f.fake.On(remotetest.Prefix("sh", "-c", script), remotetest.Reply{Stdout: output})
}

// requireProblems requires these lines and no others, each of class BadInput.
func requireProblems(t *testing.T, err error, lines ...string) {
	t.Helper()
	if len(lines) == 0 {
		require.NoError(t, err)
		return
	}
	require.Error(t, err)
	require.Equal(t, fault.BadInput, fault.Of(err), err)
	require.Equal(t, strings.Join(lines, "\n"), err.Error())
}

// TestUnlikeHosts: whatever the source has and the target lacks is reported on one
// line: where, what was tried, what was found, and what to do.
func TestUnlikeHosts(t *testing.T) {
	const (
		lacking = "host-b: virsh cpu-compare: its processor cannot take the place of that of host-a, kvm64 (the CPU is incompatible with host CPU: Host CPU does not provide required features: hle, rtm): " +
			"a guest with the host's own processor cannot move here: take hosts with the same processor"
		olderQEMU = "host-b: version of QEMU: it is 7.1.0, and 7.2.0 on host-a: a migration to an older one may fail: install the same on both"
		nothing   = ": virsh capabilities: libvirt does not tell the model of its processor, so it cannot be compared with another's: " +
			"look for libvirt's cpu_map (/usr/share/libvirt/cpu_map) and in its log, and start it anew"
		noMachine = "(invalid argument: the machine is not supported by emulator '/usr/bin/qemu-system-x86_64'): install "
	)
	modelless := func(o *fakeOffer) { o.capabilities = strings.Replace(o.capabilities, "<model>kvm64</model>", "", 1) }
	for name, c := range map[string]struct {
		here, there func(o *fakeOffer)
		lines       []string
	}{
		"alike":               {},
		"a newer target":      {there: func(o *fakeOffer) { o.libvirt, o.qemu = 10_000_000, 8_002_000 }},
		"an older QEMU there": {there: func(o *fakeOffer) { o.qemu = 7_001_000 }, lines: []string{olderQEMU}},
		"an older libvirt there": {there: func(o *fakeOffer) { o.libvirt = 8_009_001 },
			lines: []string{"host-b: version of libvirt: it is 8.9.1, and 9.0.0 on host-a: a migration to an older one may fail: install the same on both"}},
		"no such machine there": {there: func(o *fakeOffer) { o.machines = map[string]string{"q35": "pc-q35-7.1"} },
			lines: []string{"host-b: virsh domcapabilities --machine pc-q35-7.2: it has no such machine type, which host-a has " + noMachine + "the same QEMU on both"}},
		"no QEMU for x86_64 there": {there: func(o *fakeOffer) { o.machines = nil },
			lines: []string{"host-b: virsh domcapabilities --machine q35: it has no such machine type for domains of type kvm " + strings.TrimSuffix(noMachine, "install ") + "see that its QEMU is for x86_64; or install the package qemu-system-x86 (Debian, Ubuntu), qemu-kvm (RHEL)"}},
		"a processor that lacks something": {there: func(o *fakeOffer) { o.processor = "hle, rtm" }, lines: []string{lacking}},
		"a libvirt that does not know the processor": {there: func(o *fakeOffer) { o.unknown = true },
			lines: []string{"host-b: virsh cpu-compare: its processor cannot take the place of that of host-a, kvm64 (internal error: Unknown CPU model NoSuch): " +
				"a guest with the host's own processor cannot move here: take hosts with the same processor"}},
		"a processor that is not told here":  {here: modelless, lines: []string{"host-a" + nothing}},
		"a processor that is not told there": {there: modelless, lines: []string{"host-b" + nothing}},
		"several":                            {there: func(o *fakeOffer) { o.qemu, o.processor = 7_001_000, "hle, rtm" }, lines: []string{lacking, olderQEMU}},
	} {
		t.Run(name, func(t *testing.T) {
			source, target := newFakeHost(t, "host-a"), newFakeHost(t, "host-b")
			target.says(readFacts, healthy)
			if c.here != nil {
				c.here(&source.offer)
			}
			if c.there != nil {
				c.there(&target.offer)
			}
			requireProblems(t, source.CheckMigration(t.Context(), guest, target.Host), c.lines...)
		})
	}
}

// TestNoRoom: the target must have the domain's kernel and ramdisk, and memory for
// it.
func TestNoRoom(t *testing.T) {
	source, target := newFakeHost(t, "host-a"), newFakeHost(t, "host-b")
	target.says(readFacts, strings.Replace(healthy, "696264", "65536", 1))
	target.says(checkFiles, "/r\n")
	requireProblems(t, source.CheckMigration(t.Context(), guest, target.Host),
		"host-b: /r: there is no such file, which domain lab.vm is started from: put the guest's kernel and ramdisk there, or name others in the inventory (guest)",
		"host-b: /proc/meminfo: 64 MiB of memory are to be had, domain lab.vm wants 128: end something there, or make the guest smaller")
}

// TestLineBreaks: a host that does not answer is not reported as lacking
// something.
func TestLineBreaks(t *testing.T) {
	for name, procedure := range map[string]uint32{"version": 4, "capabilities": 7, "processor": 158, "machine": 342} {
		t.Run(name, func(t *testing.T) {
			source, target := newFakeHost(t, "host-a"), newFakeHost(t, "host-b")
			target.says(readFacts, healthy)
			target.hangsUp = procedure
			err := source.CheckMigration(t.Context(), guest, target.Host)
			require.ErrorContains(t, err, "host-b: ")
			require.ErrorContains(t, err, libvirt.ErrInterrupted.Error())
			require.Equal(t, fault.Infrastructure, fault.Of(err), err)
		})
	}
}

func TestCheck(t *testing.T) {
	h := newFakeHost(t, "host-a")
	h.says(readFacts, healthy)
	requireProblems(t, h.Check(t.Context()))
	h.domains = []*fakeDomain{{name: "lab.vm"}, {name: "web"}}
	requireProblems(t, h.Check(t.Context()), "host-a: domain lab.vm: its UUID is 00000000-0000-0000-0000-000000000000, so it is not this testbed's, and in its way: "+
		"rename the testbed, or undefine that domain")
	h.domains = nil
	h.says(readFacts, strings.Replace(healthy, "uid 0", "uid 1000", 1))
	requireProblems(t, h.Check(t.Context()),
		"host-a: id -u: its user in the inventory has the number 1000, and only root (0) sees what others' QEMUs have open: name root as ssh.user, or have the user become root (ssh.become: sudo)")
	h.says(readFacts, strings.Replace(healthy, "uid 0", "uid root", 1))
	require.ErrorContains(t, h.Check(t.Context()), `unreadable line "uid root\n"`)
}
