package drbd

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"heliotrope/internal/inventory"
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
	a, b  *remotetest.Fake
	steps []string
}

func newBed(t *testing.T, options Options) *bed {
	bed := &bed{a: remotetest.NewFake(t, "host-a"), b: remotetest.NewFake(t, "host-b")}
	inv := &inventory.Inventory{Name: "lab",
		SiteA: inventory.Host{DataDir: data, Address: netip.MustParseAddr("198.18.0.1")},
		SiteB: inventory.Host{DataDir: data, Address: netip.MustParseAddr("198.18.0.2")},
	}
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		fake.On(remotetest.Exactly("readlink", "-f", data), remotetest.Reply{Stdout: data + "\n"})
		bed.put(t, fake, procFile, header)
		bed.put(t, fake, "/proc/sys/kernel/random/boot_id", "boot\n")
		bed.put(t, fake, configFolder+"/global_common.conf", "")
	}
	bed.System = New(inv, map[storage.Site]remote.Host{storage.SiteA: bed.a, storage.SiteB: bed.b}, options)
	bed.Observe = func(step storage.Step) { bed.steps = append(bed.steps, step.Name) }
	return bed
}

func (b *bed) put(t *testing.T, fake *remotetest.Fake, name, text string) {
	t.Helper()
	if err := errors.Join(fake.Memory().MkdirAll(name[:strings.LastIndex(name, "/")]), fake.Memory().WriteFile(name, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func TestOptions(t *testing.T) {
	for _, options := range []Options{{Protocol: "D"}, {Protocol: "c"}, {ResyncKiBPerSecond: -1}, {ResyncKiBPerSecond: 1 << 40}} {
		if _, err := newBed(t, options).Provision(t.Context(), spec, storage.SiteA); err == nil {
			t.Errorf("%+v is accepted", options)
		}
	}
}

func TestMigrationSwitchesProtocol(t *testing.T) {
	for _, protocol := range []Protocol{ProtocolA, ProtocolB, ProtocolC} {
		bed := newBed(t, Options{Protocol: protocol})
		at := func(role, peer string) string {
			return strings.Replace(strings.Replace(connected, "Primary/Secondary", role+"/"+peer, 1), " A ", " "+string(protocol)+" ", 1)
		}
		bed.put(t, bed.a, procFile, at("Primary", "Secondary"))
		bed.put(t, bed.b, procFile, at("Secondary", "Primary"))
		for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
			fake.On(remotetest.Prefix("drbdadm"))
		}
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
		want := []string{StepTwoPrimaries, StepUpToDate, StepPromote, StepDemote, StepOnePrimary, StepUpToDate}
		if protocol != ProtocolC {
			want = []string{StepProtocolC, StepTwoPrimaries, StepUpToDate, StepPromote, StepDemote, StepOnePrimary, StepProtocolBack, StepUpToDate}
		}
		if strings.Join(bed.steps, ", ") != strings.Join(want, ", ") {
			t.Errorf("protocol %s: steps %q, want %q", protocol, bed.steps, want)
		}
		last := bed.a.Commands()[len(bed.a.Commands())-1]
		if protocol != ProtocolC && strings.Join(last, " ") != "drbdadm net-options --protocol="+string(protocol)+" lab.d0" {
			t.Errorf("protocol %s: last command %q", protocol, last)
		}
	}
}

func TestSplitBrainIsReportedAtOnce(t *testing.T) {
	bed := newBed(t, Options{})
	bed.put(t, bed.a, procFile, alone)
	bed.put(t, bed.b, procFile, alone)
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		fake.On(remotetest.Prefix("drbdadm", "net-options"))
	}
	err := bed.PrepareMigration(t.Context(), disk, storage.SiteA, storage.SiteB)
	if err == nil || !strings.Contains(err.Error(), "StandAlone") || !strings.Contains(err.Error(), "host-b") {
		t.Errorf("got %v", err)
	}
}

func TestVerify(t *testing.T) {
	bed := newBed(t, Options{})
	bed.put(t, bed.a, procFile, connected)
	bed.a.OnFunc(remotetest.Exactly("drbdsetup", "verify", "7", "--start=0"), func(context.Context, remotetest.Call) remotetest.Reply {
		bed.put(t, bed.a, procFile, strings.Replace(connected, "oos:0", "oos:12", 1))
		return remotetest.Reply{}
	})
	bytes, err := bed.Verify(t.Context(), disk)
	if err != nil || bytes != 12<<10 {
		t.Errorf("got %d, %v", bytes, err)
	}
	bed.put(t, bed.a, procFile, connected)
	bed.a.OnFunc(remotetest.Exactly("drbdsetup", "verify", "7", "--start=0"), func(context.Context, remotetest.Call) remotetest.Reply {
		bed.put(t, bed.a, procFile, waiting)
		return remotetest.Reply{}
	})
	if _, err = bed.Verify(t.Context(), disk); err == nil || !strings.Contains(err.Error(), "connection was lost") {
		t.Errorf("lost connection: %v", err)
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	bed := newBed(t, Options{})
	bed.put(t, bed.a, procFile, verifying)
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	if _, err := bed.Verify(ctx, disk); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestTeardownLeavesOthers(t *testing.T) {
	bed := newBed(t, Options{})
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		bed.put(t, fake, configFolder+"/lab.d0.res", "device /dev/drbd530 minor 530;")
		bed.put(t, fake, configFolder+"/lab-2.d0.res", "device /dev/drbd531 minor 531;")
		bed.put(t, fake, "/var/lib/drbd/drbd-minor-530.lkbd", "")
		bed.put(t, fake, "/var/lib/drbd/drbd-minor-531.lkbd", "")
		bed.put(t, fake, data+"/lab/drbd/d0.img", "")
		fake.On(remotetest.Exactly("drbdsetup", "status"), remotetest.Reply{Stdout: "lab-2.d0 role:Primary\n  disk:UpToDate\n\nlab.d1 role:Secondary\n  disk:UpToDate\n\n"})
		fake.On(remotetest.Exactly("drbdsetup", "down", "lab.d0"))
		fake.On(remotetest.Exactly("drbdsetup", "down", "lab.d1"), remotetest.Reply{ExitCode: 11, Stderr: "State change failed: (-12) Device is held open by someone\n"}, remotetest.Reply{})
		fake.On(remotetest.Prefix("/sbin/losetup", "--list"))
	}
	if err := bed.Teardown(t.Context()); err != nil {
		t.Fatal(err)
	}
	paths := strings.Join(bed.b.Memory().Paths(), "\n")
	for _, gone := range []string{"/lab.d0.res", "minor-530", data + "/lab"} {
		if strings.Contains(paths, gone) {
			t.Errorf("%s is left:\n%s", gone, paths)
		}
	}
	for _, kept := range []string{"/lab-2.d0.res", "minor-531"} {
		if !strings.Contains(paths, kept) {
			t.Errorf("%s is gone:\n%s", kept, paths)
		}
	}
}

// A teardown that was cut off must not leave a disk that looks whole.
func TestTeardownForgetsFirst(t *testing.T) {
	bed := newBed(t, Options{})
	const mark = data + "/lab/drbd/d0.finished"
	bed.put(t, bed.a, mark, "boot 530 1048576\n")
	for _, fake := range []*remotetest.Fake{bed.a, bed.b} {
		fake.OnFunc(remotetest.Exactly("drbdsetup", "status"), func(context.Context, remotetest.Call) remotetest.Reply {
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

func TestMinorIsFreeAtBothSites(t *testing.T) {
	bed := newBed(t, Options{})
	first, err := bed.pickMinor(t.Context(), "d0")
	if err != nil {
		t.Fatal(err)
	}
	bed.put(t, bed.a, configFolder+"/other.res", "device "+devicePath(first)+";")
	bed.put(t, bed.b, procFile, strings.Replace(connected, " 7:", "\n"+devicePath(first + 1)[len("/dev/drbd"):]+":", 1))
	if second, err := bed.pickMinor(t.Context(), "d0"); err != nil || second != first+2 {
		t.Errorf("got %d, %v, want %d", second, err, first+2)
	}
}

func TestFinishedDiskOfAnotherBoot(t *testing.T) {
	bed := newBed(t, Options{})
	bed.put(t, bed.a, data+"/lab/drbd/d0.finished", "before 530 1048576\n")
	if _, err := bed.Provision(t.Context(), spec, storage.SiteA); err == nil || !strings.Contains(err.Error(), "started anew") {
		t.Errorf("got %v", err)
	}
}
