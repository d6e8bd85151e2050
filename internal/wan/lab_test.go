//go:build lab

package wan_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/wan"
)

// owner holds the path in these tests.
const owner = "the tests"

// lab is the testbed that HELIOTROPE_INVENTORY names.
type lab struct {
	inventory *inventory.Inventory
	siteA     *remote.SSHHost
	siteB     *remote.SSHHost
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
	l := &lab{inventory: inv, siteA: open(t, inv.SiteA()), siteB: open(t, inv.SiteB()),
		bridge: open(t, inv.Machine(inv.WAN.Host))}
	l.shaper = wan.New(inv, l.bridge)
	return l
}

func open(t *testing.T, host *inventory.Machine) *remote.SSHHost {
	t.Helper()
	key, err := remote.LoadKey(host.SSH.KeyFile, "")
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
	return l.run(t, `/sbin/tc qdisc show; /sbin/tc filter show dev "$1" ingress; ls -d /run/heliotrope 2> /dev/null
		for port in "/sys/class/net/$1/master/brif/"*; do /sbin/ethtool -k "${port##*/}" | grep -e Features -e ' on'; done
		grep -a -l 'wan-[^/]*/watchdog' /proc/[0-9]*/cmdline 2> /dev/null; true`, l.inventory.WAN.Device)
}

func (l *lab) shape(t *testing.T, text string, lease time.Duration) wan.Profile {
	t.Helper()
	profile, err := wan.ParseProfile(text)
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	if err := l.shaper.Shape(t.Context(), owner, profile, lease); err != nil {
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
	if !state.LeaseHeld || state.Profile != profile.String() || state.Owner != owner {
		t.Errorf("lease held: %t, profile %q, owner %q: want it held for %q by %q", state.LeaseHeld, state.Profile, state.Owner, profile, owner)
	}
	return profile
}

func (l *lab) ping(t *testing.T, what string, count int) wan.Ping {
	t.Helper()
	ping, err := wan.Measure(t.Context(), l.siteA, l.inventory.SiteB().Address, count, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%-28s min %s mean %s median %s max %s loss %.1f%% (%d of %d)", what,
		ping.Min, ping.Mean, ping.Median, ping.Max, ping.LossPercent(), ping.Received, ping.Sent)
	return ping
}

// pingIs checks that the round trip is the profile's plus the baseline, using the
// shortest of each: a busy machine only makes some round trips longer.
func (l *lab) pingIs(t *testing.T, profile wan.Profile, baseline wan.Ping) {
	t.Helper()
	const tolerance = 5 * time.Millisecond
	ping := l.ping(t, profile.String(), 10)
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
	baseline := l.ping(t, "baseline", 25)
	t.Run("profiles", func(t *testing.T) { l.testProfiles(t, baseline, nothingLeft) })
	t.Run("certificate", func(t *testing.T) { l.testCertificate(t, nothingLeft) })
	t.Run("offloads of a bridge", func(t *testing.T) { l.testBridge(t, nothingLeft) })
	t.Run("lease", func(t *testing.T) { l.testLease(t, nothingLeft) })
	t.Run("owners", func(t *testing.T) { l.testOwners(t, nothingLeft) })
	t.Run("changed under a lease", func(t *testing.T) { l.testChanged(t, nothingLeft) })
	t.Run("check", func(t *testing.T) { l.testCheck(t, nothingLeft) })
	t.Run("lost watchdog", func(t *testing.T) { l.testLostWatchdog(t, nothingLeft) })
	t.Run("half a state", func(t *testing.T) { l.testHalfAState(t, before, nothingLeft) })
	t.Run("strangers", func(t *testing.T) { l.testStrangers(t, nothingLeft) })
	t.Run("refused by the host", func(t *testing.T) {
		wrong := *l.inventory
		wrong.WAN.Device = "nosuch0"
		err := wan.New(&wrong, l.bridge).Shape(t.Context(), owner, wan.Profile{RTT: time.Second}, time.Minute)
		if err == nil || !strings.Contains(err.Error(), "there is no network interface nosuch0") {
			t.Errorf("got %v", err)
		}
		nothingLeft(t)
	})
}

func (l *lab) testProfiles(t *testing.T, baseline wan.Ping, nothingLeft func(*testing.T)) {
	for _, text := range []string{
		"rtt=60ms,rate=100mbit", "rtt=60ms,rate=100mbit", "rtt=20ms", "lan", "continental",
	} {
		l.pingIs(t, l.shape(t, text, time.Minute), baseline)
	}
	continental := l.shape(t, "continental", time.Minute)
	if err := l.shaper.Renew(t.Context(), owner, continental, 10*time.Minute); err != nil {
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
		if err := l.shaper.Clear(t.Context(), owner); err != nil {
			t.Fatal(err)
		}
		t.Logf("cleared in %s", time.Since(started).Round(time.Millisecond))
		nothingLeft(t)
	}
	l.pingIs(t, wan.Profile{Name: "cleared"}, baseline)
	if err := l.shaper.Renew(t.Context(), owner, wan.Profile{RTT: 30 * time.Millisecond, RateBits: 100e6}, time.Minute); !errors.Is(err, wan.ErrLapsed) {
		t.Errorf("renewing what was cleared: got %v, want ErrLapsed", err)
	}
	nothingLeft(t)
}

func (l *lab) testLease(t *testing.T, nothingLeft func(*testing.T)) {
	const first, second = 5 * time.Second, 8 * time.Second
	started := time.Now()
	shaped := wan.Profile{RTT: 60 * time.Millisecond, RateBits: 100e6}
	if err := l.shaper.Shape(t.Context(), owner, shaped, first); err != nil {
		t.Fatal(err)
	}
	if err := l.shaper.Renew(t.Context(), owner, shaped, second); err != nil {
		t.Fatal(err)
	}
	renewed := time.Now()
	time.Sleep(time.Until(started.Add(first + 2*time.Second)))
	state, err := l.shaper.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Check(shaped); err != nil || !state.LeaseHeld {
		t.Fatalf("gone although renewed: %v, %+v", err, state)
	}
	cleared := l.awaitCleared(t, renewed.Add(second+15*time.Second))
	t.Logf("a lease of %s ended after %s", second, cleared.Sub(renewed).Round(100*time.Millisecond))
	if cleared.Before(renewed.Add(second)) {
		t.Error("the lease ended too early")
	}
	nothingLeft(t)
	if err := l.shaper.Renew(t.Context(), owner, wan.Profile{RTT: 30 * time.Millisecond, RateBits: 100e6}, time.Minute); !errors.Is(err, wan.ErrLapsed) {
		t.Errorf("renewing what has lapsed: got %v, want ErrLapsed", err)
	}
	// With this profile, the offloads are all that there is to restore.
	if err := l.shaper.Shape(t.Context(), owner, wan.Profile{Name: "lan"}, time.Second); err != nil {
		t.Fatal(err)
	}
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

// await waits for what the host does by itself within 5 s.
func (l *lab) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

func (l *lab) testLostWatchdog(t *testing.T, nothingLeft func(*testing.T)) {
	l.shape(t, "rtt=60ms,rate=100mbit", time.Minute)
	folder := "/run/heliotrope/wan-" + l.inventory.Name
	l.run(t, `read -r pid < "$1/pid" && kill -KILL "-$pid"`, folder)
	if err := l.shaper.Renew(t.Context(), owner, wan.Profile{RTT: 30 * time.Millisecond, RateBits: 100e6}, time.Minute); !errors.Is(err, wan.ErrLapsed) {
		t.Errorf("renewing without a watchdog: got %v, want ErrLapsed", err)
	}
	// A watchdog whose record is lost ends by itself.
	l.shape(t, "rtt=60ms,rate=100mbit", time.Minute)
	l.run(t, `rm "$1/pid"`, folder)
	l.shape(t, "rtt=30ms,rate=100mbit", time.Minute)
	l.await(t, "one watchdog", func() bool { return strings.Count(l.traces(t), "/cmdline") == 1 })
	if err := l.shaper.Renew(t.Context(), owner, wan.Profile{RTT: 30 * time.Millisecond, RateBits: 100e6}, time.Minute); err != nil {
		t.Error(err)
	}
	if err := l.shaper.Clear(t.Context(), owner); err != nil {
		t.Error(err)
	}
	nothingLeft(t)
}

// testHalfAState starts from what a crash, or somebody by hand, can leave while a
// lease is held: Renew reports it, Shape repairs it, and Clear removes it.
func (l *lab) testHalfAState(t *testing.T, before string, nothingLeft func(*testing.T)) {
	for damage, want := range map[string]string{
		`/sbin/tc qdisc del dev "$1" root`:     "to site B: nothing is shaped",
		`/sbin/tc qdisc del dev "$1" ingress`:  "to site A: nothing is shaped",
		`/sbin/tc filter del dev "$1" ingress`: "to site A: nothing is shaped",
		`/sbin/tc qdisc del dev "$1" root; /sbin/tc qdisc del dev "$1" ingress; /sbin/tc qdisc del dev "$2" root`: "to site B: nothing is shaped",
		`/sbin/ethtool -K "$1" gro on`: "packets are merged: " + l.inventory.WAN.Device,
	} {
		profile := l.shape(t, "continental", time.Minute)
		l.isTold(t, profile, damage, want)
		l.isRepaired(t, damage)
		l.run(t, damage, l.inventory.WAN.Device, l.shaper.IFB())
		if err := l.shaper.Clear(t.Context(), owner); err != nil {
			t.Error(err)
		}
		nothingLeft(t)
	}
	for _, again := range []bool{true, false} {
		const damage = `rm -r /run/heliotrope`
		l.shape(t, "continental", time.Minute)
		l.run(t, damage)
		if again {
			l.isRepaired(t, damage)
		}
		if err := l.shaper.Clear(t.Context(), owner); err != nil {
			t.Error(err)
		}
		// The watchdog without a record.
		l.await(t, "the host to be as before", func() bool { return l.traces(t) == before })
		nothingLeft(t)
	}
}

// isTold changes the path by hand, and requires that the next renewal reports that to
// the owner.
func (l *lab) isTold(t *testing.T, profile wan.Profile, change, want string) {
	t.Helper()
	l.run(t, change, l.inventory.WAN.Device, l.shaper.IFB())
	err := l.shaper.Renew(t.Context(), owner, profile, time.Minute)
	if !errors.Is(err, wan.ErrChanged) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("after %s: got %v, want %q", change, err, want)
	}
	t.Log(err)
}

// isRepaired shapes again what was damaged.
func (l *lab) isRepaired(t *testing.T, damage string) {
	t.Helper()
	profile := l.shape(t, "continental", time.Minute)
	if ping := l.ping(t, "repaired "+damage, 2); ping.Min < profile.RTT {
		t.Errorf("after %s: not shaped both ways", damage)
	}
}

func (l *lab) testStrangers(t *testing.T, nothingLeft func(*testing.T)) {
	for _, stranger := range []struct{ set, remove, want string }{
		{`/sbin/tc qdisc add dev "$1" root handle 1: pfifo limit 1000`, `/sbin/tc qdisc del dev "$1" root`, "root qdisc that is not ours: pfifo 1:"},
		{`/sbin/tc qdisc add dev "$1" ingress`, `/sbin/tc qdisc del dev "$1" ingress`, "ingress qdisc that is not ours"},
	} {
		l.run(t, stranger.set, l.inventory.WAN.Device)
		kept := l.traces(t)
		err := l.shaper.Shape(t.Context(), owner, wan.Profile{RTT: 20 * time.Millisecond}, time.Minute)
		if err == nil || !strings.Contains(err.Error(), stranger.want) {
			t.Errorf("got %v, want %q", err, stranger.want)
		}
		if err := l.shaper.Clear(t.Context(), owner); err != nil {
			t.Error(err)
		}
		if after := l.traces(t); after != kept {
			t.Errorf("the stranger was not left alone:\n%s\nbefore it was\n%s", after, kept)
		}
		l.run(t, stranger.remove, l.inventory.WAN.Device)
		nothingLeft(t)
	}
}

// testCertificate measures what a profile promises, in both directions.
func (l *lab) testCertificate(t *testing.T, nothingLeft func(*testing.T)) {
	const folder = "/run/heliotrope-wan-test"
	l.uploadWitness(t, folder)
	// A busy machine carries little, and late: examples/controls.yaml has the limits
	// for a real measurement.
	tolerance := wan.Tolerance{RTTMs: 10, RTTPercent: 3, MinThroughputPercent: 1, SpreadMs: 500}
	// The campaigns of make test-lab certify lan and long round trips without losses.
	const text = "rtt=40ms,jitter=4ms,loss=5%,rate=50mbit"
	profile := l.shape(t, text, 5*time.Minute)
	request := wan.CertifyRequest{
		A:      wan.Site{Host: l.siteA, Address: l.inventory.SiteA().Address, Witness: folder + "/witness"},
		B:      wan.Site{Host: l.siteB, Address: l.inventory.SiteB().Address, Witness: folder + "/witness"},
		Bridge: l.inventory.Machine(l.inventory.WAN.Host).Address, Shaper: l.shaper, Profile: profile,
	}
	certificate := l.certify(t, request)
	// As a trial does when the machine was too busy to emulate.
	for range 2 {
		if err := certificate.Check(profile, tolerance); err != nil {
			t.Logf("once more: %v", err)
			certificate = l.certify(t, request)
		}
	}
	if err := certificate.Check(profile, tolerance); err != nil {
		t.Error(err)
	}
	if err := certificate.Check(wan.Profile{RTT: profile.RTT + 20*time.Millisecond, RateBits: 2e6}, tolerance); err == nil {
		t.Errorf("%s passes for another WAN", profile)
	}
	if err := l.shaper.Clear(t.Context(), owner); err != nil {
		t.Error(err)
	}
	nothingLeft(t)
}

// certify logs what it measured, for the reader.
func (l *lab) certify(t *testing.T, request wan.CertifyRequest) wan.Certificate {
	t.Helper()
	started := time.Now()
	certificate, err := wan.Certify(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: certified in %s; to the bridge %s median, %s least", request.Profile, time.Since(started).Round(time.Millisecond),
		certificate.Bridge.Median, certificate.Bridge.Min)
	for name, d := range map[string]wan.Direction{"A to B": certificate.AToB, "B to A": certificate.BToA} {
		t.Logf("%s: %s: rtt median %s least %s most %s, %d of %d lost, %.2f Mbit/s, %d packets, %d drops, limit %d of %d", request.Profile, name,
			d.Ping.Median, d.Ping.Min, d.Ping.Max, d.Ping.Sent-d.Ping.Received, d.Ping.Sent, d.ThroughputBits/1e6,
			d.Packets, d.Drops, d.LimitPackets, d.WantLimitPackets)
		if request.Profile.IsShaping() && d.Packets == 0 {
			t.Errorf("%s: %s: netem counted no packet", request.Profile, name)
		}
	}
	return certificate
}

// uploadWitness builds the witness and puts it on the hosts of both sites.
func (l *lab) uploadWitness(t *testing.T, folder string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "witness")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "heliotrope/cmd/heliotrope-witness")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the witness: %v\n%s", err, output)
	}
	for _, host := range []*remote.SSHHost{l.siteA, l.siteB} {
		files, err := host.Files(context.WithoutCancel(t.Context())) // for the clean-up as well
		if err == nil {
			t.Cleanup(func() {
				if err := files.RemoveAll(folder); err != nil {
					t.Error(err)
				}
			})
			err = files.MkdirAll(folder)
		}
		if err == nil {
			err = host.Upload(t.Context(), program, folder+"/witness", 0o755, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// testBridge uses a bridge whose ports can segment large packets, like real NICs, and
// which passes them on whole. It has no port of the test network.
func (l *lab) testBridge(t *testing.T, nothingLeft func(*testing.T)) {
	l.run(t, `/sbin/ip link add hlt-test-br type bridge && /sbin/ip link add hlt-test-a type ifb &&
		/sbin/ip link set hlt-test-a master hlt-test-br && /sbin/ip link set hlt-test-a up && /sbin/ethtool -K hlt-test-br tx-tcp-ecn-segmentation off`)
	features := func() string { return l.run(t, "/sbin/ethtool -k hlt-test-br; /sbin/ethtool -k hlt-test-a") }
	before := features()
	if !strings.Contains(before, "tx-tcp-segmentation: on") || !strings.Contains(before, "tx-tcp-ecn-segmentation: off") {
		t.Fatalf("not what is to be tested:\n%s", before)
	}
	inv := *l.inventory
	inv.WAN.Device = "hlt-test-a"
	shaper := wan.New(&inv, l.bridge)
	for _, text := range []string{"lan", "rtt=60ms", "rtt=60ms"} {
		profile, err := wan.ParseProfile(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := shaper.Shape(t.Context(), owner, profile, time.Minute); err != nil {
			t.Fatal(err)
		}
		state, err := shaper.State(t.Context())
		if err == nil {
			err = state.Check(profile)
		}
		bridge, port, _ := strings.Cut(features(), "Features for hlt-test-a:")
		if err != nil || strings.Contains(bridge, "tx-tcp-segmentation: on") || !strings.Contains(port, "tx-tcp-segmentation: on") {
			t.Errorf("%s: %v, and the bridge has\n%s\nand its port\n%s", text, err, bridge, port)
		}
	}
	l.run(t, `/sbin/ethtool -K hlt-test-br tx-tcp-segmentation on`)
	state, err := shaper.State(t.Context())
	if err != nil || !slices.Equal(state.Offloads, []string{"hlt-test-br tx-tcp-segmentation"}) {
		t.Errorf("switched on by hand: got %+v, %v", state, err)
	}
	if err := shaper.Clear(t.Context(), owner); err != nil {
		t.Error(err)
	}
	if after := features(); after != before {
		t.Errorf("the offloads are not as before:\n%s\nbefore they were\n%s", after, before)
	}
	l.run(t, `/sbin/ip link del hlt-test-a; /sbin/ip link del hlt-test-br`)
	nothingLeft(t)
}
