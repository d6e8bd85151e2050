package drbd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/alive"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/inventory"
	"heliotrope/internal/limits"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/storage"
)

const data = "/var/lib/heliotrope"

var (
	spec = storage.Spec{Name: "d0", SizeBytes: 1 << 20}
	disk = storage.Disk{Spec: spec, Device: map[storage.Site]string{storage.SiteA: "/dev/drbd7", storage.SiteB: "/dev/drbd7"}}
)

type bed struct {
	*System
	a, b *remotetest.Fake
}

const (
	ourConfig = data + "/lab/drbd/d0.res"
	ourImage  = data + "/lab/drbd/d0.img"
)

func newBed(t *testing.T, protocol Protocol) *bed {
	bed := &bed{a: remotetest.NewFake(t, "host-a"), b: remotetest.NewFake(t, "host-b")}
	inv := &inventory.Inventory{Name: "lab", Sites: inventory.Sites{A: "host-a", B: "host-b"}, Machines: []inventory.Machine{
		{Name: "host-a", DataDir: data, Address: netip.MustParseAddr("198.18.0.1")},
		{Name: "host-b", DataDir: data, Address: netip.MustParseAddr("198.18.0.2")},
	}}
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		fake.On(remotetest.Exactly("readlink", "-f", data), remotetest.Reply{Stdout: data + "\n"})
		bed.put(t, fake, data+"/lab/.heliotrope", "")
		bed.put(t, fake, procFile, header)
		bed.put(t, fake, "/proc/sys/kernel/random/boot_id", "boot\n")
		bed.put(t, fake, hostConfigs+"/global_common.conf", "global { usage-count yes; }\n")
		bed.put(t, fake, "/proc/sys/kernel/hostname", fake.Name()+"\n")
	}
	driver, err := Kind.New(storage.Setup{Inventory: inv, Machines: map[string]remote.Host{"host-a": bed.a, "host-b": bed.b},
		Options: storage.Options{"protocol": string(protocol)}})
	require.NoError(t, err)
	bed.System = driver.(*System)
	return bed
}

// provided sets both sites up with the disk: its resource has the minor number 7, over /dev/loop0.
func (b *bed) provided(t *testing.T) {
	text := b.config(spec, 7, pingTimeout(spec.Path), [2]replica{{"host-a", b.sites[storage.SiteA].Address, "/dev/loop0"}, {"host-b", b.sites[storage.SiteB].Address, "/dev/loop0"}})
	for _, fake := range []*remotetest.Fake{b.a, b.b} {
		b.put(t, fake, ourConfig, text)
		fake.On(remotetest.Prefix("/sbin/losetup", "--list"), remotetest.Reply{Stdout: `{"loopdevices": [{"name": "/dev/loop0", "dio": true, "back-file": "` + ourImage + `"}]}`})
		fake.On(remotetest.Exactly("drbdsetup", "status", "lab.d0", "--verbose"), remotetest.Reply{Stdout: "lab.d0 role:Primary suspended:no\n    write-ordering:flush\n  volume:0 minor:7 disk:UpToDate\n\n"})
	}
}

func (b *bed) put(t *testing.T, fake *remotetest.Fake, name, text string) {
	t.Helper()
	if err := errors.Join(fake.Memory().MkdirAll(name[:strings.LastIndex(name, "/")]), fake.Memory().WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// TestAddresses: a resource's addresses are written as drbd.conf(5) wants them in each family.
func TestAddresses(t *testing.T) {
	bed := newBed(t, ProtocolC)
	for address, want := range map[string]string{"198.18.0.1": "    address ipv4 198.18.0.1:17207;\n", "fd00:198:18::1": "    address ipv6 [fd00:198:18::1]:17207;\n"} {
		at := replica{"host-a", netip.MustParseAddr(address), "/dev/loop0"}
		assert.Equal(t, 2, strings.Count(bed.config(spec, firstMinor+7, 50, [2]replica{at, at}), want), want)
	}
}

func TestOptions(t *testing.T) {
	inv := &inventory.Inventory{Name: "lab"}
	for _, options := range []storage.Options{{"protocol": "D"}, {"protocol": "c"}, {"protokoll": "A"}, {"protocol": "A", "rate": "1"}} {
		_, err := Kind.New(storage.Setup{Inventory: inv, Options: options})
		require.Error(t, err, options)
		assert.Equal(t, fault.BadInput, fault.Of(err))
	}
	assert.Equal(t, ProtocolC, newBed(t, "").protocol)
}

func TestMigrationSwitchesProtocol(t *testing.T) {
	for _, protocol := range []Protocol{ProtocolA, ProtocolB, ProtocolC} {
		bed := newBed(t, protocol)
		at := func(role, peer string) string {
			return strings.Replace(strings.Replace(healthy, "Primary/Secondary", role+"/"+peer, 1), " A ", " "+string(protocol)+" ", 1)
		}
		bed.put(t, bed.a, procFile, at("Primary", "Secondary"))
		bed.put(t, bed.b, procFile, at("Secondary", "Primary"))
		var mu sync.Mutex
		var steps []string // on both hosts: what both do is there once for each
		for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
			fake.OnFunc(remotetest.Prefix("drbdadm", "-c", ourConfig), func(_ context.Context, call remotetest.Call) remotetest.Reply {
				mu.Lock()
				defer mu.Unlock()
				steps = append(steps, strings.Join(call.Args[3:len(call.Args)-1], " "))
				return remotetest.Reply{}
			})
		}
		bed.provided(t)
		if err := bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB); err != nil {
			t.Fatal(err)
		}
		bed.put(t, bed.b, procFile, at("Primary", "Primary"))
		if err := bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB); err != nil {
			t.Fatal(err)
		}
		if err := bed.FinishMigration(t.Context(), disk, storage.SiteB); err != nil {
			t.Fatal(err)
		}
		const allow, forbid = "net-options --protocol=C --allow-two-primaries=yes", "net-options --allow-two-primaries=no"
		want := []string{allow, allow, "primary", "secondary", forbid, forbid}
		if protocol != ProtocolC {
			there, back := "net-options --protocol=C", "net-options --protocol="+string(protocol)
			want = append(append([]string{there, there}, want...), back, back)
		}
		assert.Equal(t, want, steps, "protocol %s", protocol)
		last := bed.a.Commands()[len(bed.a.Commands())-1]
		if protocol != ProtocolC && strings.Join(last, " ") != "drbdadm -c "+ourConfig+" net-options --protocol="+string(protocol)+" lab.d0" {
			t.Errorf("protocol %s: last command %q", protocol, last)
		}
	}
}

func TestSplitBrainIsReportedAtOnce(t *testing.T) {
	bed := newBed(t, "")
	bed.put(t, bed.a, procFile, alone)
	bed.put(t, bed.b, procFile, alone)
	bed.provided(t)
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		fake.On(remotetest.Prefix("drbdadm", "-c", ourConfig, "net-options"))
	}
	err := bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB)
	require.ErrorIs(t, err, ErrSplitBrain)
	require.ErrorContains(t, err, "StandAlone")
	require.ErrorContains(t, err, "host-b")
	assert.Equal(t, fault.TargetFailed, fault.Of(err))
	assert.Equal(t, cause.SplitBrain, fault.CauseOf(err))
}

// comparesQuickly matches the command before a verification.
var comparesQuickly = remotetest.Exactly("drbdsetup", "disk-options", "7", "--c-fill-target=16M", "--c-max-rate=1048576k")

func TestVerify(t *testing.T) {
	bed := newBed(t, "")
	bed.put(t, bed.a, procFile, healthy)
	bed.a.On(comparesQuickly)
	bed.a.OnFunc(remotetest.Exactly("drbdsetup", "verify", "7", "--start=0"), func(context.Context, remotetest.Call) remotetest.Reply {
		bed.put(t, bed.a, procFile, strings.Replace(healthy, "oos:0", "oos:12", 1))
		return remotetest.Reply{}
	})
	bytes, err := bed.Verify(t.Context(), disk)
	if err != nil || bytes != 12<<10 {
		t.Errorf("got %d, %v", bytes, err)
	}
	bed.put(t, bed.a, procFile, healthy)
	bed.a.OnFunc(remotetest.Exactly("drbdsetup", "verify", "7", "--start=0"), func(context.Context, remotetest.Call) remotetest.Reply {
		bed.put(t, bed.a, procFile, waiting)
		return remotetest.Reply{}
	})
	if _, err = bed.Verify(t.Context(), disk); err == nil || !strings.Contains(err.Error(), "connection was lost") {
		t.Errorf("lost connection: %v", err)
	}
}

// TestVerifyTells: progress is reported every few MiB of a large disk, because a tenth of a percent
// of 1 TiB may take longer than any silence is tolerated.
func TestVerifyTells(t *testing.T) {
	bed := newBed(t, "")
	bed.put(t, bed.a, procFile, healthy)
	bed.a.On(comparesQuickly)
	left := func(mib int) string {
		return strings.Replace(verifying, "11.8% (64636/65536)K", fmt.Sprintf("11.8%% (%d/1048576)M", mib), 1)
	}
	bed.a.OnFunc(remotetest.Exactly("drbdsetup", "verify", "7", "--start=0"), func(context.Context, remotetest.Call) remotetest.Reply {
		bed.put(t, bed.a, procFile, left(1048572))
		return remotetest.Reply{}
	})
	told := 0
	ctx := alive.With(t.Context(), func() {
		told++
		bed.put(t, bed.a, procFile, []string{left(1048568), left(1048564), healthy}[min(told, 3)-1])
	})
	bytes, err := bed.Verify(ctx, disk)
	if err != nil || bytes != 0 || told != 3 {
		t.Errorf("%d bytes, %v, told %d times: want once for each piece", bytes, err, told)
	}
}

// TestTimesFollowThePath: a full queue does not count as a dead peer, as far as DRBD's own limits
// allow.
func TestTimesFollowThePath(t *testing.T) {
	bed := newBed(t, "")
	for name, test := range map[string]struct {
		path     limits.Path
		want     []string
		patience time.Duration
	}{
		"a LAN":                      {limits.Path{}, []string{"timeout 90;", "ping-int 10;", "connect-int 10;", "ping-timeout 50;", "c-plan-ahead 20;"}, time.Minute},
		"160 ms and 100 Mbit/s":      {limits.Path{RTT: 160 * time.Millisecond, RateBits: 100e6}, []string{"timeout 90;", "ping-int 10;", "ping-timeout 50;", "c-plan-ahead 20;"}, 65688709120},
		"10 Mbit/s":                  {limits.Path{RateBits: 10e6}, []string{"timeout 402;", "ping-int 41;", "connect-int 41;", "ping-timeout 300;"}, 113687091200},
		"300 ms and 2 Mbit/s":        {limits.Path{RTT: 300 * time.Millisecond, RateBits: 2e6}, []string{"timeout 600;", "ping-int 61;", "connect-int 61;", "ping-timeout 300;", "c-plan-ahead 30;"}, 329035456000},
		"the longest round trip yet": {limits.Path{RTT: 10 * time.Second}, []string{"timeout 150;", "ping-int 16;", "ping-timeout 150;", "c-plan-ahead 300;"}, 80 * time.Second},
	} {
		wanted := spec
		wanted.Path = test.path
		text := bed.config(wanted, 7, pingTimeout(test.path), [2]replica{})
		for _, line := range test.want {
			assert.Contains(t, text, "    "+line+"\n", name)
		}
		bed.path = test.path
		assert.Equal(t, test.patience, bed.patience(), name)
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	bed := newBed(t, "")
	bed.put(t, bed.a, procFile, verifying)
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	if _, err := bed.Verify(ctx, disk); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestTeardownLeavesOthers(t *testing.T) {
	bed := newBed(t, "")
	const others = "resource r { device minor 532; }\n"
	foreign := map[string]string{
		hostConfigs + "/lab.d0.res":           "device /dev/drbd530 minor 530;",
		hostConfigs + "/lab.d1.res":           "resource lab.d1 { }", // without a minor number
		data + "/lab-2/drbd/d0.res":           "# made by heliotrope for testbed lab-2, disk d0\ndevice /dev/drbd531 minor 531;",
		"/var/lib/drbd/drbd-minor-531.lkbd":   "",
		"/run/drbd/drbd-resource-lab.d9.conf": "",
	}
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		for name, text := range foreign {
			bed.put(t, fake, name, text)
		}
		bed.put(t, fake, ourConfig, "# made by heliotrope for testbed lab, disk d0\ndevice /dev/drbd530 minor 530;")
		bed.put(t, fake, data+"/lab/drbd/d1.res", "# made by heliotrope for testbed lab, disk d1\n") // cut off
		bed.put(t, fake, data+"/lab/drbd/d2.res", others)
		bed.put(t, fake, "/var/lib/drbd/drbd-minor-530.lkbd", "")
		bed.put(t, fake, ourImage, "")
		for link, target := range map[string]string{"drbd-minor-530.conf": ourConfig, "drbd-resource-lab.d0.conf": ourConfig, "drbd-minor-531.conf": data + "/lab-2/drbd/d0.res"} {
			require.NoError(t, fake.Memory().Symlink(target, "/run/drbd/"+link))
		}
		fake.On(remotetest.Exactly("drbdsetup", "down", "lab.d0"), remotetest.Reply{ExitCode: 11, Stderr: "State change failed: (-12) Device is held open by someone\n"}, remotetest.Reply{})
		fake.On(remotetest.Exactly("drbdsetup", "down", "lab.d1"))
		fake.On(givingBack)
		fake.On(remotetest.Prefix("/sbin/losetup", "--list"))
	}
	require.NoError(t, bed.Teardown(t.Context()))
	paths := bed.b.Memory().Paths()
	for _, gone := range []string{ourConfig, ourImage, data + "/lab", "/var/lib/drbd/drbd-minor-530.lkbd", "/run/drbd/drbd-minor-530.conf", "/run/drbd/drbd-resource-lab.d0.conf"} {
		assert.NotContains(t, paths, gone)
	}
	for kept := range foreign {
		assert.Contains(t, paths, kept)
	}
	assert.Contains(t, paths, "/run/drbd/drbd-minor-531.conf")
	calls := bed.b.Calls()
	gaveBack := slices.IndexFunc(calls, givingBack)
	assert.Greater(t, gaveBack, slices.IndexFunc(calls, remotetest.Prefix("drbdsetup", "down")))
}

// givingBack and borrowing match the commands that restore a setting, and that borrow the setting of
// DRBD's helper program; in package owner, TestBorrowedIsGivenBack runs them in a real shell.
var (
	givingBack = remotetest.Exactly("/bin/sh", "-s", "--", "/run/heliotrope/borrowed-lab.drbd", "give_back_all")
	borrowing  = remotetest.Exactly("/bin/sh", "-s", "--", "/run/heliotrope/borrowed-lab.drbd", "borrow", helperSetting, "/bin/true")
)

// TestHelperIsBorrowed: the helper is a setting of the host, which is changed once the module is
// loaded, and never while anybody's resource is up.
func TestHelperIsBorrowed(t *testing.T) {
	for name, c := range map[string]struct {
		loaded, borrowed bool
		devices, helper  string
	}{
		"not loaded":        {helper: "/sbin/drbdadm", borrowed: true},
		"loaded":            {loaded: true, helper: "/sbin/drbdadm", borrowed: true},
		"somebody's device": {loaded: true, helper: "/sbin/drbdadm", devices: " 3: cs:Connected ro:Primary/Secondary ds:UpToDate/UpToDate C r-----\n"},
		"no helper":         {loaded: true},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t, "")
			module := func(context.Context, remotetest.Call) remotetest.Reply {
				bed.put(t, bed.a, procFile, header+c.devices)
				bed.put(t, bed.a, helperSetting, c.helper+"\n")
				return remotetest.Reply{}
			}
			if c.loaded {
				module(t.Context(), remotetest.Call{})
			} else {
				require.NoError(t, bed.a.Memory().Remove(procFile))
			}
			bed.a.OnFunc(remotetest.Exactly("/sbin/modprobe", "drbd"), module)
			bed.a.On(remotetest.Exactly("/sbin/modprobe", "-a", "loop", "crc32c"))
			bed.a.On(borrowing)
			require.NoError(t, loadModules(t.Context(), bed.sites[storage.SiteA]))
			assert.Equal(t, c.borrowed, slices.ContainsFunc(bed.a.Calls(), borrowing))
			assert.Equal(t, !c.loaded, slices.ContainsFunc(bed.a.Calls(), remotetest.Exactly("/sbin/modprobe", "drbd")))
		})
	}
}

// TestTeardownForgetsFirst: a teardown that was cut off must not leave a disk that looks complete.
func TestTeardownForgetsFirst(t *testing.T) {
	bed := newBed(t, "")
	const mark = data + "/lab/drbd/d0.finished"
	bed.put(t, bed.a, mark, "boot 530 1048576\n")
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		bed.put(t, fake, ourConfig, "# made by heliotrope for testbed lab, disk d0\n")
		fake.On(remotetest.Prefix("/sbin/losetup", "--list"))
		fake.On(givingBack)
		fake.OnFunc(remotetest.Exactly("drbdsetup", "down", "lab.d0"), func(context.Context, remotetest.Call) remotetest.Reply {
			if _, err := bed.a.Memory().ReadFile(mark); err == nil {
				t.Error("the mark is still there")
			}
			return remotetest.Reply{Err: remote.ErrConnectionLost}
		})
	}
	if err := bed.Teardown(t.Context()); !errors.Is(err, remote.ErrConnectionLost) {
		t.Errorf("got %v", err)
	}
}

// TestFilledBackingStays when a run was cut off before DRBD used the file; otherwise the file is
// removed, after the record that it was filled.
func TestFilledBackingStays(t *testing.T) {
	for name, c := range map[string]struct {
		mark, config string
		stays        bool
	}{
		"filled":                 {mark: "7 1048576 1048576 9\n", stays: true},
		"begun":                  {mark: "7 1048576 0 0\n", stays: true},
		"blank":                  {},
		"filled, and DRBD's own": {mark: "7 1048576 1048576 9\n", config: "# made by heliotrope for testbed lab, disk d0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			bed := newBed(t, "")
			bed.put(t, bed.a, ourImage, "content")
			if c.mark != "" {
				bed.put(t, bed.a, ourImage+".filled", c.mark)
			}
			if c.config != "" {
				bed.put(t, bed.a, ourConfig, c.config)
			}
			bed.a.On(remotetest.Prefix("/sbin/losetup", "--list"))
			bed.a.OnFunc(remotetest.Exactly("drbdsetup", "down", "lab.d0"), func(context.Context, remotetest.Call) remotetest.Reply {
				assert.NotContains(t, bed.a.Memory().Paths(), ourImage+".filled")
				return remotetest.Reply{}
			})
			require.NoError(t, bed.removeDisk(t.Context(), bed.sites[storage.SiteA], "d0"))
			assert.Equal(t, c.stays, slices.Contains(bed.a.Memory().Paths(), ourImage))
			assert.Equal(t, c.stays, slices.Contains(bed.a.Memory().Paths(), ourImage+".filled"))
		})
	}
}

// TestTeardownForgetsWhatWasFilled: the record that an image was filled is removed first, so that a
// used image never counts as filled.
func TestTeardownForgetsWhatWasFilled(t *testing.T) {
	bed := newBed(t, "")
	bed.put(t, bed.a, ourImage, "content")
	bed.put(t, bed.a, ourImage+".filled", "7 1048576 1048576 9\n")
	bed.put(t, bed.a, ourConfig, "# made by heliotrope for testbed lab, disk d0\n")
	bed.a.On(remotetest.Prefix("/sbin/losetup", "--list"))
	bed.a.On(givingBack)
	down := false
	bed.a.OnFunc(remotetest.Exactly("drbdsetup", "down", "lab.d0"), func(context.Context, remotetest.Call) remotetest.Reply {
		down = true
		assert.NotContains(t, bed.a.Memory().Paths(), ourImage+".filled")
		return remotetest.Reply{}
	})
	_ = bed.teardown(t.Context(), bed.sites[storage.SiteA]) // how it ends is nothing to this
	assert.True(t, down)
}

// TestReplicasAreFilledAlike: the time of the slower replica is reported.
func TestReplicasAreFilledAlike(t *testing.T) {
	bed := newBed(t, "")
	filled := spec
	filled.Fill = storage.Fill{Seed: 7, Bytes: 1 << 20}
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		fake.On(remotetest.Prefix("stat", "-f"), remotetest.Reply{Stdout: "1000000 4096\n"})
		_, err := bed.makeBacking(t.Context(), bed.sites[map[string]storage.Site{"host-a": storage.SiteA, "host-b": storage.SiteB}[fake.Name()]], filled)
		require.ErrorContains(t, err, fake.Name()+": the inventory says that our witness's program may not run there")
	}
	bed.put(t, bed.a, ourImage+".filled", "7 1048576 1048576 9\n")
	bed.put(t, bed.b, ourImage+".filled", "7 1048576 1048576 11\n")
	told, err := bed.filled(t.Context(), filled)
	require.NoError(t, err)
	assert.Equal(t, storage.Filled{Bytes: 1 << 20, Took: 11 * time.Millisecond}, told)
}

func TestMinorIsFreeAtBothSites(t *testing.T) {
	bed := newBed(t, "")
	first, err := bed.pickMinor(t.Context(), "d0")
	if err != nil {
		t.Fatal(err)
	}
	bed.put(t, bed.a, hostConfigs+"/other.res", "device "+devicePath(first)+";")
	bed.put(t, bed.b, procFile, strings.Replace(healthy, " 7:", "\n"+devicePath(first + 1)[len("/dev/drbd"):]+":", 1))
	bed.put(t, bed.b, "/proc/net/tcp", fmt.Sprintf("   0: 00000000:%04X 00000000:0000 0A 0 0\n", portOf(first+2)))
	second, err := bed.pickMinor(t.Context(), "d0")
	require.NoError(t, err)
	assert.Equal(t, first+3, second)
}

func TestFinishedDiskOfAnotherBoot(t *testing.T) {
	bed := newBed(t, "")
	bed.put(t, bed.a, data+"/lab/drbd/d0.finished", "before 530 1048576\n")
	if _, err := bed.Provision(t.Context(), spec, storage.SiteA); err == nil || !strings.Contains(err.Error(), "started anew") {
		t.Errorf("got %v", err)
	}
}
