package kvm

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"libvirt.org/go/libvirtxml"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

var guest = hypervisor.Domain{Name: "lab.vm", MemoryMiB: 128, VCPUs: 1, Kernel: "/k", Ramdisk: "/r", Cmdline: `a="<b>"`,
	Disk: hypervisor.Disk{Path: "/dev/sdb"}, MAC: "00:16:3e:00:00:01", Bridge: "br0"}

func TestRender(t *testing.T) {
	h := newFakeHost(t, "host-a")
	text, err := h.render(guest)
	require.NoError(t, err)
	for _, want := range []string{
		`<domain type="kvm">`, "<name>lab.vm</name>", "<uuid>" + hypervisor.UUID("lab.vm").String() + "</uuid>",
		`<testbed xmlns="urn:heliotrope:testbed:1" label="lab"></testbed>`, `mode="host-passthrough" check="none" migratable="on"`,
		"<on_crash>preserve</on_crash>", `<driver name="qemu" type="raw" cache="none" error_policy="report" io="native">`,
		`<source dev="/dev/sdb">`, `<target dev="vda" bus="virtio">`, `<source bridge="br0">`, `<memballoon model="none">`,
	} {
		require.Contains(t, text, want)
	}
	there := guest
	there.Disk, there.Bridge, there.Kernel = hypervisor.Disk{Path: "/mnt/vm.img", File: true}, "br1", "/other"
	text, err = h.atTarget(text, there)
	require.NoError(t, err)
	for _, want := range []string{`<disk type="file"`, `<source file="/mnt/vm.img">`, `<source bridge="br1">`, "<kernel>/other</kernel>"} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "/dev/sdb")

	there.Disk = hypervisor.Disk{Path: "/dev/loop1", Base: "/dev/loop2"}
	_, err = h.atTarget(text, there)
	require.ErrorContains(t, err, "format qcow2")

	stranger := guest
	stranger.Name = "vm"
	_, err = h.render(stranger)
	require.Equal(t, fault.BadInput, fault.Of(err))
}

// TestTargetOpensOnlyOurs: whoever controls the source's host can have the target open no path but ours, whatever the
// source's libvirt says of the domain.
func TestTargetOpensOnlyOurs(t *testing.T) {
	h := newFakeHost(t, "host-a")
	good, err := h.render(guest)
	require.NoError(t, err)
	want, err := h.atTarget(good, guest)
	require.NoError(t, err)
	for name, replace := range map[string][2]string{
		"QEMU arguments":   {`<domain type="kvm">`, `<domain type="kvm" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0"><qemu:commandline><qemu:arg value="-x"/></qemu:commandline>`},
		"a host device":    {"</devices>", `<hostdev mode="subsystem" type="pci"><source><address domain="0x0" bus="0x1" slot="0x0" function="0x0"/></source></hostdev></devices>`},
		"a host folder":    {"</devices>", `<filesystem type="mount"><source dir="/etc"/><target dir="x"/></filesystem></devices>`},
		"shared memory":    {"</devices>", `<shmem name="x"><size unit="M">4</size></shmem></devices>`},
		"another console":  {consolePath(guest.Name), "/etc/cron.d/x"},
		"another emulator": {"<devices>", "<devices><emulator>/bin/evil</emulator>"},
		"a channel":        {"</devices>", `<channel type="unix"><source mode="bind" path="/run/evil"/><target type="virtio" name="x"/></channel></devices>`},
		"a serial file":    {"</devices>", `<serial type="file"><source path="/etc/cron.d/x"/><target port="1"/></serial></devices>`},
		"firmware":         {"<os>", `<os><loader readonly="yes" type="pflash">/etc/evil</loader><nvram>/etc/shadow</nvram>`},
		"a ROM":            {`<rom enabled="no">`, `<rom file="/etc/shadow">`},
		"entropy":          {"</devices>", `<rng model="virtio"><backend model="random">/etc/shadow</backend></rng></devices>`},
		"a security label": {"</domain>", `<seclabel type="none"/></domain>`},
	} {
		text := strings.Replace(good, replace[0], replace[1], 1)
		require.NotEqual(t, good, text, name)
		got, err := h.atTarget(text, guest)
		require.NoError(t, err, name)
		require.Equal(t, want, got, name)
	}
	_, err = h.atTarget(strings.Replace(good, `mode="host-passthrough"`, `mode="/etc/shadow"`, 1), guest)
	require.ErrorContains(t, err, `"/etc/shadow" where it can have no path`)
	for says, replace := range map[string][2]string{
		"no machine":         {"<os>", "<oz>"},
		"was asked for":      {"<name>lab.vm</name>", "<name>lab.other</name>"},
		"2 disks":            {"</devices>", `<disk type="block" device="disk"><source dev="/dev/sda"/><target dev="vdb"/></disk></devices>`},
		"2 network cards":    {"</devices>", `<interface type="bridge"><source bridge="br0"/></interface></devices>`},
		"not of format raw,": {`type="raw"`, `type="qcow2"`},
	} {
		text := strings.Replace(good, replace[0], replace[1], 1)
		if says == "no machine" {
			text = strings.Replace(text, "</os>", "</oz>", 1)
		}
		require.NotEqual(t, good, text, says)
		_, err := h.atTarget(text, guest)
		require.ErrorContains(t, err, "libvirt's XML at the source: ", says)
		require.ErrorContains(t, err, says)
	}
}

// TestAtTarget: of what libvirt says of a domain that runs, the target gets the machine's version, the processor, and the
// places of all devices.
func TestAtTarget(t *testing.T) {
	there := guest
	there.Disk = hypervisor.Disk{Path: "/mnt/vm.img", File: true}
	text, err := newFakeHost(t, "host-a").atTarget(dumped(t), there)
	require.NoError(t, err)
	var source, target libvirtxml.Domain
	require.NoError(t, source.Unmarshal(dumped(t)))
	require.NoError(t, target.Unmarshal(text))
	require.Equal(t, "pc-q35-7.2", target.OS.Type.Machine)
	require.Equal(t, source.CPU, target.CPU)
	require.Equal(t, source.Devices.Controllers, target.Devices.Controllers)
	require.Equal(t, source.Devices.Disks[0].Address, target.Devices.Disks[0].Address)
	require.Equal(t, source.Devices.Interfaces[0].Address, target.Devices.Interfaces[0].Address)
	require.Equal(t, there.Disk.Path, target.Devices.Disks[0].Source.File.File)
}

// TestRenderOverlay: libvirt is told what backs an image, and that nothing backs that.
func TestRenderOverlay(t *testing.T) {
	here, there := guest, guest
	here.Disk = hypervisor.Disk{Path: "/dev/loop1", Base: "/dev/loop2", Copy: hypervisor.IncrementalCopy}
	there.Disk = hypervisor.Disk{Path: "/dev/loop3", Base: "/dev/loop4", Copy: hypervisor.IncrementalCopy}
	h := newFakeHost(t, "host-a")
	text, err := h.render(here)
	require.NoError(t, err)
	for _, disk := range []hypervisor.Disk{here.Disk, there.Disk} {
		var domain libvirtxml.Domain
		require.NoError(t, domain.Unmarshal(text))
		require.Len(t, domain.Devices.Disks, 1)
		got := domain.Devices.Disks[0]
		require.Equal(t, "qcow2", got.Driver.Type)
		require.Equal(t, disk.Path, got.Source.Block.Dev)
		require.Equal(t, "raw", got.BackingStore.Format.Type)
		require.Equal(t, disk.Base, got.BackingStore.Source.Block.Dev)
		require.Contains(t, text, "<backingStore></backingStore>")
		text, err = h.atTarget(text, there)
		require.NoError(t, err)
	}
}

func TestLabel(t *testing.T) {
	require.Equal(t, "lab", labelOf(`<testbed xmlns="urn:heliotrope:testbed:1" label="lab"/>`))
	require.Empty(t, labelOf(""))
}

// putLogs writes the logs that libvirt keeps of a domain's QEMU and console, and returns their paths.
func putLogs(t *testing.T, h *fakeHost, domain string) (paths []string) {
	t.Helper()
	for _, end := range []string{".console.log", ".console.log.0", ".log", ".log.0"} {
		paths = append(paths, path.Join(logs, domain+end))
		require.NoError(t, h.fake.Memory().MkdirAll(logs))
		require.NoError(t, h.fake.Memory().WriteFile(paths[len(paths)-1], []byte("started\n"), 0o600))
	}
	return paths
}

// logsOf returns the paths of all files in libvirt's folder of logs.
func logsOf(h *fakeHost) []string {
	return slices.DeleteFunc(h.fake.Memory().Paths(), func(name string) bool { return !strings.HasPrefix(name, logs+"/") })
}

// TestForeign: a domain is ours by its name, its UUID and its label together, and not even the logs of any other
// domain are touched.
func TestForeign(t *testing.T) {
	paused := uint32(libvirt.DomainPaused)
	for name, d := range map[string]*fakeDomain{
		"the name only":          {name: "lab.vm", uuid: uuid.Max, label: "lab", state: paused},
		"the UUID only":          {name: "other", uuid: hypervisor.UUID("lab.vm"), label: "lab", state: paused},
		"no metadata":            {name: "lab.vm", uuid: hypervisor.UUID("lab.vm"), state: paused},
		"another testbed's mark": {name: "lab.vm", uuid: hypervisor.UUID("lab.vm"), label: "lab-2", state: paused},
	} {
		t.Run(name, func(t *testing.T) {
			h := newFakeHost(t, "host-a", d)
			theirs := putLogs(t, h, d.name)
			states, err := h.List(t.Context())
			require.NoError(t, err)
			require.Empty(t, states)
			err = h.Create(t.Context(), guest)
			require.ErrorContains(t, err, "host-a: domain "+d.name)
			require.Equal(t, fault.BadInput, fault.Of(err))
			require.ErrorIs(t, h.Pause(t.Context(), "lab.vm"), hypervisor.ErrNotFound)
			require.NoError(t, h.Destroy(t.Context(), "lab.vm"))
			require.Equal(t, theirs, logsOf(h))
			theirs = append(putLogs(t, h, "lab.gone"), theirs...)
			require.NoError(t, h.Teardown(t.Context()))
			require.Equal(t, theirs, logsOf(h), "whose they are of one that has ended, its name does not tell")
			require.Empty(t, h.calls)
		})
	}
}

func TestDomainsOfLog(t *testing.T) {
	for file, want := range map[string][]string{
		"lab.vm.log":             {"lab.vm"},
		"lab.vm.log.0":           {"lab.vm"},
		"lab.vm.log.2.gz":        {"lab.vm"},
		"lab.vm.log-20261129":    {"lab.vm"},
		"lab.vm.log-20261129.xz": {"lab.vm"},
		"lab.vm.console.log":     {"lab.vm.console", "lab.vm"},
		"lab.vm.console.log.0":   {"lab.vm.console", "lab.vm"},
		"lab.logger.log":         {"lab.logger"},
		"lab.vm.log.0.log":       {"lab.vm.log.0"},
		"lab.vm.logger":          nil,
		"lab.vm.log.txt":         nil,
		"lab.vm.xml":             nil,
		".log":                   nil,
		".console.log":           {".console"},
	} {
		require.Equal(t, want, domainsOfLog(file), file)
	}
}

func TestNoLibvirt(t *testing.T) {
	h := newFakeHost(t, "host-a")
	h.fake.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("connection refused") }
	_, err := h.List(t.Context())
	require.ErrorContains(t, err, "host-a: /run/libvirt/virtqemud-sock or /run/libvirt/libvirt-sock: libvirt does not answer")
	require.NotContains(t, strings.TrimSuffix(err.Error(), "\n"), "\n")
	require.Equal(t, fault.Infrastructure, fault.Of(err))
}

// TestUnpauseLeftover: one end of a migration is not resumed.
func TestUnpauseLeftover(t *testing.T) {
	h := newFakeHost(t, "host-a", ours(libvirt.DomainPaused, uint32(libvirt.DomainPausedMigration)))
	require.ErrorContains(t, h.Unpause(t.Context(), "lab.vm"), "leftover")
	require.Empty(t, h.calls)
}

// TestSettle: the answers of both hosts decide where the domain goes on, and it never runs on both.
func TestSettle(t *testing.T) {
	running := func() *fakeDomain { return ours(libvirt.DomainRunning, uint32(libvirt.DomainRunningBooted)) }
	waiting := func() *fakeDomain { return ours(libvirt.DomainPaused, uint32(libvirt.DomainPausedMigration)) }
	busy := func(d *fakeDomain, job libvirt.DomainJobType) *fakeDomain { d.job = uint32(job); return d }
	half := func() *fakeDomain { return ours(libvirt.DomainPaused, uint32(libvirt.DomainPausedPostcopy)) }
	for name, c := range map[string]settling{
		"as before a migration":              {source: running()},
		"as after a migration":               {target: running(), atTarget: true},
		"the target has an end":              {source: running(), target: waiting(), targetCalls: []string{"destroy"}},
		"cut off while it was sent":          {source: busy(running(), libvirt.DomainJobUnbounded), target: waiting(), sourceCalls: []string{"abort"}, targetCalls: []string{"destroy"}},
		"cut off after it was sent":          {source: waiting(), target: waiting(), sourceCalls: []string{"resume"}, targetCalls: []string{"destroy"}},
		"cut off before its last phase":      {source: waiting(), target: running(), atTarget: true, sourceCalls: []string{"confirm"}},
		"stopped, and nothing at the target": {source: waiting(), sourceCalls: []string{"resume"}},
		"on both":                            {source: running(), target: running(), problem: "never meant to run"},
		"on neither":                         {problem: "no such domain"},
		"only an end that never ran":         {target: waiting(), problem: "never ran"},
		"the target cannot be asked":         {source: waiting(), targetAway: true, problem: "is not known"},
		"the source cannot be asked":         {target: running(), sourceAway: true, problem: "is not known"},
		"an end, and no source to ask":       {target: waiting(), sourceAway: true, problem: "is not known"},
		"neither can be asked":               {sourceAway: true, targetAway: true, problem: "libvirt does not answer"},
		"in post-copy":                       {source: half(), target: running(), problem: "post-copy"},
		"it begins to run after a while": {source: waiting(), target: waiting(), atTarget: true, sourceCalls: []string{"confirm"},
			meanwhile: func(_, target *fakeHost) { time.AfterFunc(startLimit/2, target.start) }},
		"it begins to run as the source is asked": {source: waiting(), target: waiting(), atTarget: true, sourceCalls: []string{"confirm"},
			meanwhile: func(source, target *fakeHost) { source.whenDialled(target.start) }},
		"its end goes after a while": {source: waiting(), target: waiting(), sourceCalls: []string{"resume"},
			meanwhile: func(_, target *fakeHost) { time.AfterFunc(startLimit/2, target.forget) }},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, c.test) })
	}
}

// settling is a migration that was cut off, and its expected outcome.
type settling struct {
	source, target           *fakeDomain
	sourceAway, targetAway   bool
	meanwhile                func(source, target *fakeHost) // what happens as the hosts are asked
	atTarget                 bool
	problem                  string
	sourceCalls, targetCalls []string
}

func (c settling) test(t *testing.T) {
	source, target := newFakeHost(t, "host-a"), newFakeHost(t, "host-b")
	for _, side := range []struct {
		host   *fakeHost
		domain *fakeDomain
		away   bool
	}{{source, c.source, c.sourceAway}, {target, c.target, c.targetAway}} {
		if side.domain != nil {
			side.host.domains = append(side.host.domains, side.domain)
		}
		if side.away {
			side.host.fake.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no route") }
		}
	}
	if c.meanwhile != nil {
		c.meanwhile(source, target)
	}
	m := &migration{from: source.Host, to: target.Host, name: "lab.vm"}
	atTarget, err := m.settle(t.Context())
	if c.problem == "" {
		require.NoError(t, err)
	} else {
		require.ErrorContains(t, err, c.problem)
	}
	require.Equal(t, c.sourceAway || c.targetAway, errors.Is(err, hypervisor.ErrUnknown))
	require.Equal(t, c.atTarget, atTarget)
	require.Equal(t, c.sourceCalls, source.calls)
	require.Equal(t, c.targetCalls, target.calls)
}

// TestSettleLooksAgain: an end that has changed since its host was asked is not taken for one that never ran.
func TestSettleLooksAgain(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile   func(target *fakeHost)
		problem     string
		sourceCalls []string
	}{
		"it runs":            {meanwhile: (*fakeHost).start, problem: "host-b: its end there was waiting and is running now"},
		"it cannot be asked": {meanwhile: func(target *fakeHost) { target.broken = true }, problem: "host-b: look for domain lab.vm"},
		"it has gone":        {meanwhile: (*fakeHost).forget, sourceCalls: []string{"resume"}},
	} {
		t.Run(name, func(t *testing.T) {
			waiting := func() *fakeDomain { return ours(libvirt.DomainPaused, uint32(libvirt.DomainPausedMigration)) }
			source, target := newFakeHost(t, "host-a", waiting()), newFakeHost(t, "host-b", waiting())
			m := &migration{from: source.Host, to: target.Host, name: "lab.vm"}
			here, there := ask(t.Context(), m.from, m.name), ask(t.Context(), m.to, m.name)
			defer here.close()
			defer there.close()
			c.meanwhile(target)
			atTarget, err := m.decide(t.Context(), here, there)
			require.False(t, atTarget)
			require.Equal(t, c.problem != "", errors.Is(err, hypervisor.ErrUnknown))
			if c.problem != "" {
				require.ErrorContains(t, err, c.problem)
				require.NotContains(t, err.Error(), "\n")
			}
			require.Equal(t, c.sourceCalls, source.calls)
			require.Empty(t, target.calls)
		})
	}
}

func TestOpened(t *testing.T) {
	captured, err := os.ReadFile("testdata/opened.txt")
	require.NoError(t, err)
	const path = "/var/lib/heliotrope/kvm-test/mnt/vm.img"
	text := string(captured)
	require.NoError(t, compareOpened(text, path))
	for name, c := range map[string]struct{ text, problem string }{
		"another file":      {strings.Replace(text, "want 81a4 0:0 29:13", "want 81a4 0:0 29:14", 1), "somebody else's data"},
		"a device as well":  {text + "is fd/28 61b0 8:10 5:99\nname fd/28 /dev/sdb\nfdinfo/28:flags:\t02100000\n", "/dev/sdb"},
		"opened no disk":    {strings.NewReplacer("is fd/26 81a4", "is fd/26 21a4").Replace(text), "has not opened"},
		"no process":        {"want 81a4 0:0 29:13\n", "0 processes"},
		"two processes":     {text + "process 9\n", "2 processes"},
		"an unreadable one": {text + "is fd/28 device\n", "unreadable line"},
	} {
		require.ErrorContains(t, compareOpened(c.text, path), c.problem, name)
	}
	device := strings.NewReplacer("want 81a4 0:0 29:13", "want 61b0 8:10 5:99", "is fd/26 81a4 0:0 29:13", "is fd/26 61b0 8:10 77:1").Replace(text)
	require.NoError(t, compareOpened(device, "/dev/sdb"), "a device is known by its number")
}

// TestOpenedOverlay: besides the image, only its base belongs to the domain, and nothing else does.
func TestOpenedOverlay(t *testing.T) {
	const text = `want 61b0 7:0 5:90
want 61b0 7:1 5:91
process 9
is fd/3 61b0 7:0 5:90
is fd/4 61b0 7:1 5:91
name fd/3 /dev/loop0
name fd/4 /dev/loop1
fdinfo/3:flags:	02140002
fdinfo/4:flags:	02140000
`
	require.NoError(t, compareOpened(text, "/dev/loop0", "/dev/loop1"))
	for name, c := range map[string]struct{ text, problem string }{
		"a third":      {text + "is fd/5 61b0 8:10 5:99\nname fd/5 /dev/sdb\n", "it has opened /dev/sdb, which is not of the domain's disk"},
		"another base": {strings.Replace(text, "is fd/4 61b0 7:1", "is fd/4 61b0 7:2", 1), "it has opened /dev/loop1, which"},
		"no base":      {strings.Replace(text, "is fd/4 61b0", "is fd/4 21b0", 1), "it has not opened the domain's disk /dev/loop1"},
	} {
		require.ErrorContains(t, compareOpened(c.text, "/dev/loop0", "/dev/loop1"), c.problem, name)
	}
}

func TestSize(t *testing.T) {
	overlay := hypervisor.Disk{Path: "/dev/loop0", Base: "/dev/loop1"}
	// From an image of 64 MiB that qemu-img 7.2 has made on a device of 66 MiB.
	const header = "69206016\n 51 46 49 fb 00 00 00 03 00 00 00 00 00 00 00 88\n 00 00 00 0a 00 00 00 0c 00 00 00 00 04 00 00 00\n"
	got, err := parseSize(header, overlay)
	require.NoError(t, err)
	require.Equal(t, size{room: 66 << 20, disk: 64 << 20}, got)
	got, err = parseSize("1048576\n 51\n", hypervisor.Disk{Path: "/dev/sdb"})
	require.NoError(t, err)
	require.Equal(t, size{room: 1 << 20, disk: 1 << 20}, got)
	_, err = parseSize(strings.Replace(header, "fb", "00", 1), overlay)
	require.ErrorContains(t, err, "no image of format qcow2")
	_, err = parseSize("", overlay)
	require.Error(t, err)
}

func TestFacts(t *testing.T) {
	f, err := parseFacts("kernel 6.1.0\nkvm yes\npaging kvm_amd/parameters/npt=0\nmemory MemAvailable:696264\nport 0016\nport C03F\nport C03F\n")
	require.NoError(t, err)
	require.Equal(t, facts{kernel: "6.1.0", kvm: true, paging: "kvm_amd/parameters/npt=0", availableMiB: 679, listening: map[int]bool{22: true, streamPort: true}}, f)
	h := newFakeHost(t, "host-a")
	var all []string
	for _, problem := range h.judge(f) {
		require.Equal(t, fault.BadInput, fault.Of(problem))
		require.True(t, strings.HasPrefix(problem.Error(), "host-a: "), problem)
		require.NotContains(t, problem.Error(), "\n")
		all = append(all, problem.Error())
	}
	text := strings.Join(all, "\n")
	for _, want := range []string{"nested paging is off", "/sys/class/net/br0/bridge: there is no such bridge", "TCP port 49215: it is in use"} {
		require.Contains(t, text, want)
	}
	require.Len(t, all, 3)
	require.Len(t, h.judge(facts{bridge: true}), 1, "no /dev/kvm")
}

func TestProgress(t *testing.T) {
	param := func(name string, value uint64) libvirt.TypedParam {
		return libvirt.TypedParam{Field: name, Value: *libvirt.NewTypedParamValueUllong(value)}
	}
	values := numbers([]libvirt.TypedParam{
		{Field: "operation", Value: *libvirt.NewTypedParamValueInt(6)},
		param(libvirt.DomainJobMemoryTotal, 134750208), param(libvirt.DomainJobMemoryProcessed, 80801766), param(libvirt.DomainJobMemoryRemaining, 12288),
		param(libvirt.DomainJobMemoryDirtyRate, 10), param(libvirt.DomainJobMemoryPageSize, 4096), param(libvirt.DomainJobMemoryIteration, 3),
		param(libvirt.DomainJobDiskTotal, 33554432), param(libvirt.DomainJobDiskProcessed, 1048576),
		{Field: "errmsg", Value: *libvirt.NewTypedParamValueString("none")},
	})
	round, remaining, dirty, sent, disk := int64(3), int64(12288), int64(40960), int64(1048576), int64(33554432)
	want := hypervisor.Progress{SentBytes: 80801766, MemoryBytes: 134750208, Round: &round, RemainingBytes: &remaining, DirtyBytesPerSecond: &dirty}
	require.Equal(t, want, progressOf(values, ""))
	want.DiskSentBytes, want.DiskBytes = &sent, &disk
	require.Equal(t, want, progressOf(values, hypervisor.FullCopy))
	require.Equal(t, hypervisor.Progress{}, progressOf(nil, ""), "what is not told is nil")

	word, pass := migrationStep(libvirt.DomainEvent{Event: "MIGRATION", Details: []byte(`{"status":"pre-switchover"}`)})
	require.Equal(t, "pre-switchover", word)
	require.Zero(t, pass)
	_, pass = migrationStep(libvirt.DomainEvent{Event: "MIGRATION_PASS", Details: []byte(`{"pass":2}`)})
	require.Equal(t, 2, pass)
	word, _ = migrationStep(libvirt.DomainEvent{Event: "BLOCK_JOB_READY", Details: []byte(`{"status":"ready"}`)})
	require.Equal(t, diskCopied, word)
	word, _ = migrationStep(libvirt.DomainEvent{Event: "BLOCK_JOB_COMPLETED", Details: []byte(`{"status":"ready"}`)})
	require.Empty(t, word)
}

// TestPhases: each phase lasts until the next begins, and an event that arrives after the end begins none.
func TestPhases(t *testing.T) {
	var m migration
	for _, phase := range []hypervisor.PhaseName{hypervisor.Preparing, hypervisor.Copying, hypervisor.Converging, hypervisor.Converging,
		hypervisor.Releasing, hypervisor.Switching} {
		m.enter(phase)
	}
	account := hypervisor.Migration{Phases: m.phases, Finished: time.Now()}
	require.Len(t, account.Phases, 4)
	require.Equal(t, account.Phases[3].At.Sub(account.Phases[2].At), *account.Took(hypervisor.Converging))
	require.Equal(t, account.Finished.Sub(account.Phases[3].At), *account.Took(hypervisor.Releasing))
	require.Nil(t, account.Took(hypervisor.Switching))
}

func TestOrder(t *testing.T) {
	order := hypervisor.Order{Domain: guest, Mode: hypervisor.PostCopy, AutoConverge: true, BandwidthMiBPerSecond: 3}
	require.Equal(t, libvirt.MigrateLive|libvirt.MigratePostcopy|libvirt.MigrateAutoConverge, flagsOf(order))
	for way, want := range map[hypervisor.Copy]libvirt.DomainMigrateFlags{
		hypervisor.FullCopy:        libvirt.MigrateNonSharedDisk,
		hypervisor.SynchronousCopy: libvirt.MigrateNonSharedDisk | libvirt.MigrateNonSharedSynchronousWrites,
		hypervisor.IncrementalCopy: libvirt.MigrateNonSharedInc,
	} {
		copying := order
		copying.Domain.Disk.Copy = way
		require.Equal(t, want, flagsOf(copying)&^flagsOf(order), way)
	}
	// libvirt puts an IPv6 listen_address into brackets itself (qemuMigrationDstPrepare in its qemu_migration.c).
	for address, uri := range map[string]string{"198.18.0.1": "tcp://198.18.0.1:49215", "fd00:198:18::1": "tcp://[fd00:198:18::1]:49215"} {
		values := map[string]any{}
		for _, param := range paramsOf(order, netip.MustParseAddr(address), "<domain/>") {
			values[param.Field] = param.Value.I
		}
		require.Equal(t, map[string]any{"migrate_uri": uri, "listen_address": address, "destination_xml": "<domain/>", "bandwidth": uint64(3)}, values)
	}
}

// TestScripts: sh(1) accepts the constant texts.
func TestScripts(t *testing.T) {
	h := newFakeHost(t, "host-a")
	for _, text := range []string{findProcesses, listOpen, readFacts, checkFiles, asAccount, findDenied, sizeOf, h.Leftovers("host-a"), h.Versions("host-a")} {
		checkScript(t, text)
	}
	for _, evidence := range h.Evidence("host-a") {
		checkScript(t, evidence.Args[2])
	}
	require.Empty(t, h.Evidence("host-b"))
	require.Empty(t, h.Leftovers("host-b")+h.Versions("host-b"))
}

func checkScript(t *testing.T, text string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sh", "-n", "-c", text)
	out, err := command.CombinedOutput()
	require.NoError(t, err, "%s\n%s", text, out)
}
