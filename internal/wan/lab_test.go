//go:build lab

package wan_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/wan"
)

// lab is the testbed that HELIOTROPE_INVENTORY names.
type lab struct {
	inventory *inventory.Inventory
	siteA     *remote.SSHHost
	bridge    *remote.SSHHost
	shaper    *wan.Shaper
}

func openLab(t *testing.T) *lab {
	t.Helper()
	path := os.Getenv("HELIOTROPE_INVENTORY")
	if path == "" {
		t.Fatal("HELIOTROPE_INVENTORY is not set: run `make test-lab`, or set it to an inventory")
	}
	inv, err := inventory.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{inventory: inv, siteA: open(t, &inv.SiteA), bridge: open(t, inv.Host(inv.WAN.Host))}
	l.shaper = wan.New(inv, l.bridge)
	return l
}

func open(t *testing.T, host *inventory.Host) *remote.SSHHost {
	t.Helper()
	key, err := remote.LoadKey(host.SSH.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	connection, err := remote.SSH(remote.SSHConfig{
		Name: host.Name, Address: host.SSH.Address, User: host.SSH.User, Key: key, HostKeys: host.SSH.HostKeys,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return connection
}

// run runs a constant script on the bridging host.
func (l *lab) run(t *testing.T, script string, args ...string) string {
	t.Helper()
	result, err := l.bridge.Run(t.Context(), remote.Command{
		Args: append([]string{"/bin/sh", "-c", script, "test"}, args...), Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(result.Stdout)
}

// traces is all that shaping could leave on the host.
func (l *lab) traces(t *testing.T) string {
	t.Helper()
	return l.run(t, `/sbin/tc qdisc show; /sbin/tc filter show dev "$1" ingress; ls -1 /sys/class/net; ls -d /run/heliotrope 2> /dev/null
		for process in /proc/[0-9]*; do
			case $(tr '\0' ' ' < "$process/cmdline") in */wan-*/watchdog\ *) echo "${process##*/} still watches";; esac
		done 2> /dev/null; true`, l.inventory.WAN.Device)
}

func (l *lab) shape(t *testing.T, text string, lease time.Duration) wan.Profile {
	t.Helper()
	profile, err := wan.ParseProfile(text)
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	if err := l.shaper.Shape(t.Context(), profile, lease); err != nil {
		t.Fatal(err)
	}
	t.Logf("shaped %s in %s", profile, time.Since(started).Round(time.Millisecond))
	state, err := l.shaper.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Check(profile); err != nil {
		t.Error(err)
	}
	if !state.LeaseHeld || state.Profile != profile.String() {
		t.Errorf("lease held: %t, profile %q: want it held for %q", state.LeaseHeld, state.Profile, profile)
	}
	return profile
}

func (l *lab) ping(t *testing.T, what string, count int) wan.Ping {
	t.Helper()
	ping, err := wan.Measure(t.Context(), l.siteA, l.inventory.SiteB.Address, count)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%-28s min %s mean %s median %s max %s loss %.1f%% (%d of %d)", what,
		ping.Min, ping.Mean, ping.Median, ping.Max, ping.LossPercent(), ping.Received, ping.Sent)
	return ping
}

// pingIs checks that the round trip is the profile's on top of the baseline, by
// the shortest of each: a busy machine only makes some of them longer.
func (l *lab) pingIs(t *testing.T, profile wan.Profile, baseline wan.Ping) {
	t.Helper()
	const tolerance = 5 * time.Millisecond
	ping := l.ping(t, profile.String(), 25)
	if ping.Received == 0 {
		t.Fatal("no ping came back")
	}
	if off := ping.Min - baseline.Min - profile.RTT; off < -tolerance-profile.Jitter || off > tolerance {
		t.Errorf("%s: shortest round trip %s: off by %s from %s + %s", profile, ping.Min, off, baseline.Min, profile.RTT)
	}
	if ping.Min < profile.RTT-profile.Jitter {
		t.Errorf("%s: a round trip of %s is shorter than the WAN", profile, ping.Min)
	}
}

func TestLabWAN(t *testing.T) {
	l := openLab(t)
	if err := l.shaper.Teardown(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := l.traces(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := l.shaper.Teardown(ctx); err != nil {
			t.Error(err)
		}
	})
	nothingLeft := func(t *testing.T) {
		t.Helper()
		if after := l.traces(t); after != before {
			t.Errorf("the host is not as before:\n%s\nbefore it was\n%s", after, before)
		}
	}
	baseline := l.ping(t, "baseline", 40)
	t.Run("profiles", func(t *testing.T) { l.testProfiles(t, baseline, nothingLeft) })
	t.Run("lease", func(t *testing.T) { l.testLease(t, nothingLeft) })
	t.Run("lost watchdog", func(t *testing.T) { l.testLostWatchdog(t, nothingLeft) })
	t.Run("half a state", func(t *testing.T) { l.testHalfAState(t, nothingLeft) })
	t.Run("strangers", func(t *testing.T) { l.testStrangers(t, nothingLeft) })
	t.Run("refused by the host", func(t *testing.T) {
		wrong := *l.inventory
		wrong.WAN.Device = "nosuch0"
		err := wan.New(&wrong, l.bridge).Shape(t.Context(), wan.Profile{RTT: time.Second}, time.Minute)
		if err == nil || !strings.Contains(err.Error(), "there is no network interface nosuch0") {
			t.Errorf("got %v", err)
		}
		nothingLeft(t)
	})
}

func (l *lab) testProfiles(t *testing.T, baseline wan.Ping, nothingLeft func(*testing.T)) {
	for _, text := range []string{
		"rtt=60ms,rate=100mbit", "rtt=60ms,rate=100mbit", "transatlantic", "rtt=40ms,jitter=4ms,loss=1%,rate=50mbit", "rtt=20ms",
		"lan", "continental",
	} {
		l.pingIs(t, l.shape(t, text, time.Minute), baseline)
	}
	if err := l.shaper.Renew(t.Context(), 10*time.Minute); err != nil {
		t.Error(err)
	}
	state, err := l.shaper.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state.LeaseLeft < 9*time.Minute || state.LeaseLeft > 11*time.Minute {
		t.Errorf("renewed for 10 minutes, but %s are left", state.LeaseLeft)
	}
	for range 2 {
		started := time.Now()
		if err := l.shaper.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Logf("cleared in %s", time.Since(started).Round(time.Millisecond))
		nothingLeft(t)
	}
	l.pingIs(t, wan.Profile{Name: "cleared"}, baseline)
	if err := l.shaper.Renew(t.Context(), time.Minute); !errors.Is(err, wan.ErrLapsed) {
		t.Errorf("renewing what was cleared: got %v, want ErrLapsed", err)
	}
	nothingLeft(t)
}

func (l *lab) testLease(t *testing.T, nothingLeft func(*testing.T)) {
	started := time.Now()
	l.shape(t, "rtt=60ms,rate=100mbit", 8*time.Second)
	time.Sleep(time.Until(started.Add(5 * time.Second)))
	if err := l.shaper.Renew(t.Context(), 12*time.Second); err != nil {
		t.Fatal(err)
	}
	renewed := time.Now()
	time.Sleep(time.Until(started.Add(12 * time.Second)))
	state, err := l.shaper.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if state.ToA == nil || state.ToB == nil || !state.LeaseHeld {
		t.Fatalf("gone although renewed: %+v", state)
	}
	cleared := l.awaitCleared(t, renewed.Add(30*time.Second))
	t.Logf("a lease of 12 s ended after %s", cleared.Sub(renewed).Round(100*time.Millisecond))
	if cleared.Before(renewed.Add(12 * time.Second)) {
		t.Error("the lease ended too early")
	}
	nothingLeft(t)
	if err := l.shaper.Renew(t.Context(), time.Minute); !errors.Is(err, wan.ErrLapsed) {
		t.Errorf("renewing what has lapsed: got %v, want ErrLapsed", err)
	}
	l.shape(t, "lan", time.Second)
	l.awaitCleared(t, time.Now().Add(15*time.Second))
	nothingLeft(t)
}

// awaitCleared waits until the lease is over and nothing is shaped.
func (l *lab) awaitCleared(t *testing.T, limit time.Time) time.Time {
	t.Helper()
	for time.Now().Before(limit) {
		state, err := l.shaper.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if state.ToA == nil && state.ToB == nil && state.Profile == "" {
			return time.Now()
		}
		time.Sleep(200 * time.Millisecond)
	}
	t.Fatal("the lease is long over, but the shaping is still there")
	return time.Time{}
}

func (l *lab) testLostWatchdog(t *testing.T, nothingLeft func(*testing.T)) {
	l.shape(t, "rtt=60ms,rate=100mbit", time.Minute)
	folder := "/run/heliotrope/wan-" + l.inventory.Name
	l.run(t, `read -r pid < "$1/pid" && kill -KILL "-$pid"`, folder)
	if err := l.shaper.Renew(t.Context(), time.Minute); !errors.Is(err, wan.ErrLapsed) {
		t.Errorf("renewing without a watchdog: got %v, want ErrLapsed", err)
	}
	// A watchdog that nobody can find any more leaves on its own.
	l.shape(t, "rtt=60ms,rate=100mbit", time.Minute)
	l.run(t, `rm "$1/pid"`, folder)
	l.shape(t, "rtt=30ms,rate=100mbit", time.Minute)
	time.Sleep(7 * time.Second)
	if err := l.shaper.Renew(t.Context(), time.Minute); err != nil {
		t.Error(err)
	}
	if err := l.shaper.Clear(t.Context()); err != nil {
		t.Error(err)
	}
	nothingLeft(t)
}

// testHalfAState starts from what a crash, or a hand, can leave.
func (l *lab) testHalfAState(t *testing.T, nothingLeft func(*testing.T)) {
	for _, damage := range []string{
		`/sbin/tc qdisc del dev "$1" root`,
		`/sbin/tc qdisc del dev "$1" ingress`,
		`/sbin/tc filter del dev "$1" ingress`,
		`/sbin/tc qdisc del dev "$1" root; /sbin/tc qdisc del dev "$1" ingress; /sbin/tc qdisc del dev "$2" root`,
		`rm -r /run/heliotrope`,
	} {
		for _, again := range []bool{true, false} {
			profile := l.shape(t, "continental", time.Minute)
			l.run(t, damage, l.inventory.WAN.Device, l.shaper.IFB())
			if again {
				l.shape(t, "continental", time.Minute)
				if ping := l.ping(t, fmt.Sprintf("repaired %s", damage), 5); ping.Min < profile.RTT {
					t.Errorf("after %s: not shaped both ways", damage)
				}
			}
			if err := l.shaper.Clear(t.Context()); err != nil {
				t.Error(err)
			}
			if strings.HasPrefix(damage, "rm") {
				time.Sleep(7 * time.Second) // the watchdog nobody can find
			}
			nothingLeft(t)
		}
	}
}

func (l *lab) testStrangers(t *testing.T, nothingLeft func(*testing.T)) {
	for _, stranger := range []struct{ set, remove, want string }{
		{`/sbin/tc qdisc add dev "$1" root handle 1: pfifo limit 1000`, `/sbin/tc qdisc del dev "$1" root`, "root qdisc that is not ours: pfifo 1:"},
		{`/sbin/tc qdisc add dev "$1" ingress`, `/sbin/tc qdisc del dev "$1" ingress`, "ingress qdisc that is not ours"},
	} {
		l.run(t, stranger.set, l.inventory.WAN.Device)
		kept := l.traces(t)
		err := l.shaper.Shape(t.Context(), wan.Profile{RTT: 20 * time.Millisecond}, time.Minute)
		if err == nil || !strings.Contains(err.Error(), stranger.want) {
			t.Errorf("got %v, want %q", err, stranger.want)
		}
		if err := l.shaper.Clear(t.Context()); err != nil {
			t.Error(err)
		}
		if after := l.traces(t); after != kept {
			t.Errorf("the stranger was not left alone:\n%s\nbefore it was\n%s", after, kept)
		}
		l.run(t, stranger.remove, l.inventory.WAN.Device)
		nothingLeft(t)
	}
}
