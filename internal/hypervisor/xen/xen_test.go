package xen

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

const listHeader = "Name                                        ID   Mem VCPUs\tState\tTime(s)\n" +
	"Domain-0                                     0   512     1     r-----      19.4\n"

// row is a domain as xl list prints it.
func row(name, id, state, seconds string) string {
	return name + "   " + id + "    96     1     " + state + "   " + seconds + "\n"
}

func fakeHost(t *testing.T, name string) (*Host, *remotetest.Fake) {
	t.Helper()
	fake := remotetest.NewFake(t, name)
	config := &inventory.Host{Name: name, DataDir: "/data", Transport: "tcp", Address: netip.MustParseAddr("198.18.0.1")}
	return New("lab", config, fake), fake
}

var domain = hypervisor.Domain{Name: "lab.guest", MemoryMiB: 96, VCPUs: 1, Kernel: "/k", Ramdisk: "/r",
	Cmdline: "console=hvc0 quiet", Disk: "/dev/sda", MAC: "00:16:3e:00:00:01", Bridge: "br0"}

func ran(fake *remotetest.Fake, args ...string) bool {
	return slices.ContainsFunc(fake.Commands(), func(got []string) bool { return slices.Equal(got, args) })
}

// TestCreateEndsInTheSameState starts from every state that an earlier run
// may have left.
func TestCreateEndsInTheSameState(t *testing.T) {
	for name, test := range map[string]struct {
		found            string
		destroys, starts bool
	}{
		"nothing":                {"", false, true},
		"running":                {row("lab.guest", "3", "-b----", "9.5"), false, false},
		"waiting for a CPU":      {row("lab.guest", "3", "------", "9.5"), false, false},
		"paused while it ran":    {row("lab.guest", "3", "--p---", "9.5"), false, false},
		"half made":              {row("lab.guest", "3", "--p---", "0.0"), true, true},
		"crashed":                {row("lab.guest", "3", "----c-", "9.5"), true, true},
		"shut down":              {row("lab.guest", "3", "---s--", "9.5"), true, true},
		"another testbed's":      {row("lab-2.guest", "3", "-b----", "9.5"), false, true},
		"only a longer namesake": {row("lab.guest2", "3", "-b----", "9.5"), false, true},
	} {
		t.Run(name, func(t *testing.T) {
			host, fake := fakeHost(t, "host-a")
			fake.On(remotetest.Exactly("xl", "list"), remotetest.Reply{Stdout: listHeader + test.found})
			fake.On(remotetest.Exactly("xl", "destroy", "3"), remotetest.Reply{})
			fake.On(remotetest.Prefix("xl", "create"), remotetest.Reply{})
			if err := host.Create(context.Background(), domain); err != nil {
				t.Fatal(err)
			}
			if got := ran(fake, "xl", "destroy", "3"); got != test.destroys {
				t.Errorf("destroyed: %v", got)
			}
			if got := ran(fake, "xl", "create", "-q", "/data/lab/xen/lab.guest.cfg"); got != test.starts {
				t.Errorf("started: %v", got)
			}
		})
	}
}

func TestForeignDomainsAreRefused(t *testing.T) {
	host, _ := fakeHost(t, "host-a")
	foreign := domain
	foreign.Name = "production"
	for what, err := range map[string]error{
		"create":  host.Create(context.Background(), foreign),
		"destroy": host.Destroy(context.Background(), "Domain-0"),
	} {
		if err == nil || !strings.Contains(err.Error(), "label") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestConfigRefusesWhatWouldEscape(t *testing.T) {
	for _, change := range []func(*hypervisor.Domain){
		func(d *hypervisor.Domain) { d.Cmdline = "quiet\"\ndevice_model_override = \"/bin/sh" },
		func(d *hypervisor.Domain) { d.Disk = "/dev/sda,xvda,w,script=evil" },
		func(d *hypervisor.Domain) { d.Bridge = "br0,script=evil" },
		func(d *hypervisor.Domain) { d.MemoryMiB = 0 },
	} {
		bad := domain
		change(&bad)
		if text, err := domainConfig(bad); err == nil {
			t.Errorf("accepted:\n%s", text)
		}
	}
}

func TestConfig(t *testing.T) {
	native := domain
	native.NativeTSC = true
	text, err := domainConfig(native)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`type = "pvh"`, `disk = ["phy:/dev/sda,xvda,w"]`, `tsc_mode = "native"`, `on_crash = "preserve"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
	if text, err := domainConfig(domain); err != nil || strings.Contains(text, "tsc_mode") {
		t.Errorf("%v, a clock nobody asked for in:\n%s", err, text)
	}
}

func TestTeardownTakesOnlyOurs(t *testing.T) {
	host, fake := fakeHost(t, "host-a")
	fake.On(remotetest.Exactly("xl", "list"), remotetest.Reply{Stdout: listHeader +
		row("lab.guest--incoming", "4", "--p---", "0.0") + row("lab.other", "5", "-b----", "1.0") + row("web", "6", "-b----", "1.0")})
	fake.On(remotetest.Prefix("xl", "destroy"), remotetest.Reply{})
	if err := host.Teardown(context.Background()); err != nil {
		t.Fatal(err)
	}
	if !ran(fake, "xl", "destroy", "4") || !ran(fake, "xl", "destroy", "5") || ran(fake, "xl", "destroy", "6") || ran(fake, "xl", "destroy", "0") {
		t.Errorf("commands: %v", fake.Commands())
	}
}

func TestUnreadableListIsAnError(t *testing.T) {
	for _, text := range []string{"short line\n", row("x", "id", "r-----", "1.0"), row("x", "1", "r-----", "soon")} {
		if _, err := parseList(text); err == nil {
			t.Errorf("accepted: %q", text)
		}
	}
	if _, err := parseInfo("host : a\n"); err == nil {
		t.Error("an empty xl info was accepted")
	}
}

func TestPauseIsNotCounted(t *testing.T) {
	host, fake := fakeHost(t, "host-a")
	fake.On(remotetest.Exactly("xl", "list"), remotetest.Reply{Stdout: listHeader + row("lab.guest", "3", "--p---", "1.0")})
	if err := host.Pause(context.Background(), "lab.guest"); err != nil {
		t.Fatal(err)
	}
	if ran(fake, "xl", "pause", "lab.guest") {
		t.Error("a paused domain was paused again")
	}
}

// pair is a source with a running guest and an empty target; where moves as
// the script says.
func pair(t *testing.T) (from, to *Host, fakeFrom, fakeTo *remotetest.Fake, moved *atomic.Bool) {
	t.Helper()
	from, fakeFrom = fakeHost(t, "host-a")
	to, fakeTo = fakeHost(t, "host-b")
	moved = &atomic.Bool{}
	list := func(here bool) func(context.Context, remotetest.Call) remotetest.Reply {
		return func(context.Context, remotetest.Call) remotetest.Reply {
			if moved.Load() != here {
				return remotetest.Reply{Stdout: listHeader}
			}
			return remotetest.Reply{Stdout: listHeader + row("lab.guest", "3", "-b----", "1.0")}
		}
	}
	fakeFrom.OnFunc(remotetest.Exactly("xl", "list"), list(false))
	fakeTo.OnFunc(remotetest.Exactly("xl", "list"), list(true))
	return from, to, fakeFrom, fakeTo, moved
}

// TestMigrateAgainIsNoMigration is a retry after a crash that followed success.
func TestMigrateAgainIsNoMigration(t *testing.T) {
	from, to, fakeFrom, _, moved := pair(t)
	moved.Store(true)
	if _, err := from.Migrate(context.Background(), "lab.guest", to, nil); err != nil {
		t.Fatal(err)
	}
	for _, args := range fakeFrom.Commands() {
		if slices.Contains(args, "migrate") {
			t.Errorf("migrated again: %v", args)
		}
	}
}

func TestMigrateOverSSHCountsAndLogs(t *testing.T) {
	from, to, fakeFrom, _, moved := pair(t)
	from.config.Transport = "ssh"
	fakeFrom.OnFunc(remotetest.Prefix("xl", "-T", "migrate"), func(_ context.Context, call remotetest.Call) remotetest.Reply {
		moved.Store(true)
		if !slices.ContainsFunc(call.Args, func(arg string) bool { return strings.Contains(arg, "StrictHostKeyChecking=yes") }) {
			t.Errorf("the peer's key is not verified: %v", call.Args)
		}
		return remotetest.Reply{Stderr: "Saving to migration stream\n1000\n2500\nMigration successful.\n"}
	})
	var progress []int64
	account, err := from.Migrate(context.Background(), "lab.guest", to, func(p hypervisor.Progress) { progress = append(progress, p.SentBytes) })
	if err != nil {
		t.Fatal(err)
	}
	if account.StreamBytes != 2500 || !slices.Equal(progress, []int64{1000, 2500}) {
		t.Errorf("stream %d bytes, progress %v", account.StreamBytes, progress)
	}
	if !strings.Contains(account.Log, "source: Migration successful.") || strings.Contains(account.Log, "2500") {
		t.Errorf("log %q", account.Log)
	}
}

func TestFailedMigrationIsAResult(t *testing.T) {
	from, to, fakeFrom, _, _ := pair(t)
	from.config.Transport = "ssh"
	fakeFrom.On(remotetest.Prefix("xl", "-T", "migrate"), remotetest.Reply{Stderr: "xc: error: no memory\n", ExitCode: 1})
	_, err := from.Migrate(context.Background(), "lab.guest", to, nil)
	var failed *hypervisor.MigrationError
	if !errors.As(err, &failed) || !strings.Contains(failed.Log, "no memory") {
		t.Errorf("error: %v", err)
	}
}

// TestLostGuestIsSaid is the gravest end: the domain is nowhere.
func TestLostGuestIsSaid(t *testing.T) {
	from, to, fakeFrom, _, _ := pair(t)
	from.config.Transport = "ssh"
	fakeFrom.OnFunc(remotetest.Prefix("xl", "-T", "migrate"), func(context.Context, remotetest.Call) remotetest.Reply {
		from.label = "gone" // the source lists nothing of ours any more
		return remotetest.Reply{ExitCode: 1}
	})
	_, err := from.Migrate(context.Background(), "lab.guest", to, nil)
	if err == nil || !strings.Contains(err.Error(), "on neither host") {
		t.Errorf("error: %v", err)
	}
}

// TestCancelEndsTheReceiver: the sender is never ended, it comes to rest by
// itself when its transport is gone.
func TestCancelEndsTheReceiver(t *testing.T) {
	from, to, fakeFrom, fakeTo, _ := pair(t)
	ctx, cancel := context.WithCancel(context.Background())
	receiverGone := make(chan struct{})
	fakeTo.OnFunc(remotetest.Prefix("socat"), func(ctx context.Context, _ remotetest.Call) remotetest.Reply {
		<-ctx.Done()
		close(receiverGone)
		return remotetest.Reply{Stderr: "N listening on AF=2\n", Err: context.Canceled}
	})
	fakeFrom.OnFunc(remotetest.Prefix("xl", "-T", "migrate"), func(ctx context.Context, _ remotetest.Call) remotetest.Reply {
		cancel()
		select {
		case <-receiverGone:
		case <-ctx.Done():
			t.Error("the sender was ended")
		}
		return remotetest.Reply{Stderr: "migration sender: failed, resuming\n", ExitCode: 1}
	})
	fake := &listeningFake{Fake: fakeTo}
	to.remote = fake
	_, err := from.Migrate(ctx, "lab.guest", to, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	var failed *hypervisor.MigrationError
	if errors.As(err, &failed) {
		t.Errorf("a cancelled migration counts as a failed one: %v", err)
	}
}

// listeningFake tells at once that socat listens, which a scripted reply
// could only do at its end.
type listeningFake struct{ *remotetest.Fake }

func (f *listeningFake) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	if command.Args[0] == "socat" {
		_, _ = command.Stderr.Write([]byte("socat[1] N listening on AF=2 198.18.0.1:8002\n"))
	}
	return f.Fake.Run(ctx, command)
}

func TestParseInfo(t *testing.T) {
	info, err := parseInfo("release                : 6.1.0-56-amd64\nnr_cpus                : 1\ntotal_memory           : 1023\n" +
		"free_memory            : 498\nxen_version            : 4.17.7\nvirt_caps              : pv hvm hap gnttab-v1\n")
	want := hypervisor.HostInfo{Hypervisor: "xen", Version: "4.17.7", Kernel: "6.1.0-56-amd64", CPUs: 1,
		MemoryMiB: 1023, FreeMemoryMiB: 498, HardwareAssist: true}
	if err != nil || info != want {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestParseList(t *testing.T) {
	states, err := parseList(listHeader + row("lab.guest--incoming", "7", "--p---", "1.5"))
	if err != nil || len(states) != 2 {
		t.Fatalf("%v, %v", states, err)
	}
	if got := states[1]; got.Status != hypervisor.Leftover || got.ID != 7 || got.CPUTime != 1500*time.Millisecond {
		t.Errorf("%+v", got)
	}
}
