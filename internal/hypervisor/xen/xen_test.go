package xen

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote/remotetest"
)

// listHeader is the beginning of `xl list -v` of Xen 4.17.7, as captured.
const listHeader = "Name                                        ID   Mem VCPUs\tState\tTime(s)   UUID                            Reason-Code\tSecurity Label\n" +
	"Domain-0                                     0   512     1     r-----      20.5 00000000-0000-0000-0000-000000000000        -                -\n"

// line is a domain as xl list -v prints it.
func line(name, id, state, seconds string) string {
	return withUUID(name, id, state, seconds, hypervisor.UUID(strings.TrimSuffix(strings.TrimSuffix(name, incomingSuffix), awaySuffix)))
}

func withUUID(name, id, state, seconds string, handle uuid.UUID) string {
	return name + "                       " + id + "    96     1     " + state + "       " + seconds + " " + handle.String() + "        -                -\n"
}

var lists = remotetest.Exactly("xl", "list", "-v")

// fakeHost has a disk at /dev/sda, and a toolstack with nothing running.
func fakeHost(t *testing.T, name string) (*Host, *remotetest.Fake) {
	t.Helper()
	fake := remotetest.NewFake(t, name)
	addresses := map[string]netip.Addr{"host-a": netip.MustParseAddr("198.18.0.1"), "host-b": netip.MustParseAddr("198.18.0.2")}
	machine := inventory.Machine{Name: name, DataDir: "/data", Transport: "tcp", Address: addresses[name], Bridge: "br0"}
	driver, err := Kind.New(hypervisor.Setup{Label: "lab", Machine: machine, Remote: fake})
	require.NoError(t, err)
	host := driver.(*Host)
	host.goneLimit, host.goneEvery = 0, time.Microsecond
	fake.On(lists, remotetest.Reply{Stdout: listHeader})
	fake.OnFunc(remotetest.Prefix("sh", "-c", describe), func(_ context.Context, call remotetest.Call) remotetest.Reply {
		return remotetest.Reply{Stdout: call.Args[4] + " 8:0 17\n"}
	})
	fake.On(remotetest.Prefix("sh", "-c", removeLogs))
	return host, fake
}

var guest = hypervisor.Domain{Name: "lab.guest", MemoryMiB: 96, VCPUs: 1, Kernel: "/k", Ramdisk: "/r",
	Cmdline: "console=hvc0 quiet", Disk: hypervisor.Disk{Path: "/dev/sda"}, MAC: "00:16:3e:00:00:01", Bridge: "br0"}

func ran(fake *remotetest.Fake, args ...string) bool {
	return slices.ContainsFunc(fake.Commands(), func(got []string) bool { return slices.Equal(got, args) })
}

func content(t *testing.T, fake *remotetest.Fake, path string) string {
	t.Helper()
	text, err := fake.Memory().ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// TestCreateEndsInTheSameState starts from every state that an earlier run
// may have left.
func TestCreateEndsInTheSameState(t *testing.T) {
	for name, test := range map[string]struct {
		found            string
		destroys, starts bool
	}{
		"nothing":                {"", false, true},
		"running":                {line("lab.guest", "3", "-b----", "9.5"), false, false},
		"waiting for a CPU":      {line("lab.guest", "3", "------", "9.5"), false, false},
		"paused while it ran":    {line("lab.guest", "3", "--p---", "9.5"), false, false},
		"half made":              {line("lab.guest", "3", "--p---", "0.0"), true, true},
		"crashed":                {line("lab.guest", "3", "---sc-", "9.5"), true, true},
		"shut down":              {line("lab.guest", "3", "---s--", "9.5"), true, true},
		"another testbed's":      {line("lab-2.guest", "3", "-b----", "9.5"), false, true},
		"only a longer namesake": {line("lab.guest2", "3", "-b----", "9.5"), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			host, fake := fakeHost(t, "host-a")
			found := test.found
			fake.OnFunc(lists, func(context.Context, remotetest.Call) remotetest.Reply {
				return remotetest.Reply{Stdout: listHeader + found}
			})
			fake.OnFunc(remotetest.Exactly("xl", "destroy", "3"), func(context.Context, remotetest.Call) remotetest.Reply {
				found = ""
				return remotetest.Reply{}
			})
			fake.On(remotetest.Prefix("xl", "create"), remotetest.Reply{})
			require.NoError(t, host.Create(t.Context(), guest))
			assert.Equal(t, test.destroys, ran(fake, "xl", "destroy", "3"), "destroyed")
			assert.Equal(t, test.starts, ran(fake, "xl", "create", "-q", "/data/lab/xen/lab.guest.cfg"), "started")
		})
	}
}

// TestCreateNotesTheDevice: the device that the domain may open is recorded on
// the host before the toolstack is called.
func TestCreateNotesTheDevice(t *testing.T) {
	host, fake := fakeHost(t, "host-a")
	fake.OnFunc(remotetest.Prefix("xl", "create"), func(context.Context, remotetest.Call) remotetest.Reply {
		assert.Equal(t, "/dev/sda 8:0 17\n", content(t, fake, "/data/lab/xen/lab.guest.block.device"))
		assert.Equal(t, connect, content(t, fake, "/data/lab/xen/lab.guest.block"))
		assert.Contains(t, content(t, fake, "/data/lab/xen/lab.guest.cfg"),
			`disk = ["format=raw,vdev=xvda,access=w,backendtype=phy,script=/data/lab/xen/lab.guest.block,target=/dev/sda"]`)
		return remotetest.Reply{}
	})
	require.NoError(t, host.Create(t.Context(), guest))
	assert.True(t, ran(fake, "xl", "create", "-q", "/data/lab/xen/lab.guest.cfg"))
}

func TestForeignDomainsAreRefused(t *testing.T) {
	host, _ := fakeHost(t, "host-a")
	foreign := guest
	foreign.Name = "production"
	for what, err := range map[string]error{
		"create":  host.Create(t.Context(), foreign),
		"destroy": host.Destroy(t.Context(), "Domain-0"),
		"pause":   host.Pause(t.Context(), "production"),
	} {
		assert.ErrorContains(t, err, "label", what)
	}
}

func TestConfigRefusesWhatWouldEscape(t *testing.T) {
	host, _ := fakeHost(t, "host-a")
	for _, change := range []func(*hypervisor.Domain){
		func(d *hypervisor.Domain) { d.Cmdline = "quiet\"\ndevice_model_override = \"/bin/sh" },
		func(d *hypervisor.Domain) { d.Disk.Path = "/dev/sda,xvda,w,script=evil" },
		func(d *hypervisor.Domain) { d.Bridge = "br0,script=evil" },
		func(d *hypervisor.Domain) { d.MemoryMiB = 0 },
	} {
		bad := guest
		change(&bad)
		text, err := host.domainConfig(bad)
		assert.Error(t, err, text)
		assert.Equal(t, fault.BadInput, fault.Of(err))
	}
}

// TestDisksThatXenCannotHave: a file would need a device model, a link is no
// name that the kernel reports, and nothing copies a private disk.
func TestDisksThatXenCannotHave(t *testing.T) {
	for name, disk := range map[string]hypervisor.Disk{
		"file": {Path: "/data/image", File: true}, "link": {Path: "/dev/disk/by-path/x"}, "copied": {Path: "/dev/sda", Copy: hypervisor.FullCopy},
	} {
		host, _ := fakeHost(t, "host-a")
		bad := guest
		bad.Disk = disk
		assert.Equal(t, fault.BadInput, fault.Of(host.Create(t.Context(), bad)), name)
	}
}

func TestConfig(t *testing.T) {
	host, _ := fakeHost(t, "host-a")
	native := guest
	native.NativeTSC = true
	text, err := host.domainConfig(native)
	require.NoError(t, err)
	for _, want := range []string{`type = "pvh"`, `uuid = "` + hypervisor.UUID("lab.guest").String() + `"`, `tsc_mode = "native"`,
		`on_crash = "preserve"`, `on_watchdog = "preserve"`} {
		assert.Contains(t, text, want)
	}
	text, err = host.domainConfig(guest)
	require.NoError(t, err)
	assert.NotContains(t, text, "tsc_mode")
}

func TestPauseIsNotCounted(t *testing.T) {
	host, fake := fakeHost(t, "host-a")
	fake.On(lists, remotetest.Reply{Stdout: listHeader + line("lab.guest", "3", "--p---", "1.0")})
	require.NoError(t, host.Pause(t.Context(), "lab.guest"))
	assert.False(t, ran(fake, "xl", "pause", "lab.guest"), "a paused domain was paused again")
}
