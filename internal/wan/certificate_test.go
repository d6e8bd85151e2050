package wan

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/wan/probe"
	"heliotrope/internal/wan/throughput"
)

var (
	testTolerance = Tolerance{RTTMs: 2, RTTPercent: 3, MinThroughputPercent: 20}
	testProfile   = Profile{RTT: 60 * time.Millisecond, RateBits: 100e6}
)

func microseconds(n int) time.Duration { return time.Duration(n) * time.Microsecond }

// measured is a direction as it was measured on the emulated testbed.
func measured() Direction {
	return Direction{
		Ping:           Ping{Sent: 50, Received: 50, Min: microseconds(62223), Median: microseconds(63150), Max: microseconds(66803)},
		ThroughputBits: 82.16e6, Packets: 19620, LimitPackets: testProfile.QueueLimit(), WantLimitPackets: testProfile.QueueLimit(),
	}
}

func measuredCertificate() Certificate {
	return Certificate{AToB: measured(), BToA: measured(), Bridge: Ping{Sent: 25, Received: 25, Min: microseconds(994), Median: microseconds(1680)}}
}

func TestCertificateWithinTolerance(t *testing.T) {
	for name, change := range map[string]func(*Certificate){
		"as measured":                func(*Certificate) {},
		"no bridge, and a near RTT":  func(c *Certificate) { c.Bridge = Ping{}; c.AToB.Ping.Min, c.BToA.Ping.Min = 61e6, 61e6 },
		"a busy machine":             func(c *Certificate) { c.AToB.Ping.Median = 70e6 },
		"as fast as the line":        func(c *Certificate) { c.AToB.ThroughputBits = 104e6 },
		"a limit beyond what we ask": func(c *Certificate) { c.AToB.LimitPackets++ },
	} {
		certificate := measuredCertificate()
		change(&certificate)
		if err := certificate.Check(testProfile, testTolerance); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := errors.Join(certificate.CheckAToB(testProfile, testTolerance), certificate.CheckBToA(testProfile, testTolerance)); err != nil {
			t.Errorf("%s: by direction: %v", name, err)
		}
	}
}

func TestCertificateOutOfTolerance(t *testing.T) {
	for want, change := range map[string]func(*Direction){
		"round trip of 64.10 ms: want 58.02 ms to 64.00 ms, 1.99 ms of them for the sites' own networks": func(d *Direction) { d.Ping.Min = microseconds(64100) },
		"round trip of 58.00 ms":                                                            func(d *Direction) { d.Ping.Min = microseconds(58000) },
		"none of 50 pings came back":                                                        func(d *Direction) { d.Ping = Ping{Sent: 50} },
		"1 of 50 pings lost, 2 %: the profile's 0 % does not explain it":                    func(d *Direction) { d.Ping.Received-- },
		"3 of 19623 packets in netem lost":                                                  func(d *Direction) { d.Drops = 3 },
		"a TCP connection carried 105.10 Mbit/s, more than the rate 100.00 Mbit/s":          func(d *Direction) { d.ThroughputBits = 105.1e6 },
		"a TCP connection carried 19.00 Mbit/s of the rate 100.00 Mbit/s: want at least 20": func(d *Direction) { d.ThroughputBits = 19e6 },
		"netem holds 1000 packets at most: want at least 28229":                             func(d *Direction) { d.LimitPackets = 1000 },
	} {
		certificate := measuredCertificate()
		change(&certificate.BToA)
		err := certificate.Check(testProfile, testTolerance)
		if err == nil || !strings.Contains(err.Error(), "the WAN is not as the profile rtt=60ms,rate=100mbit says: site B to A: "+want) ||
			strings.Contains(err.Error(), "site A to B") {
			t.Errorf("got %v, want %s", err, want)
		}
		if err := certificate.CheckBToA(testProfile, testTolerance); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("by direction: got %v, want %s", err, want)
		}
		if err := certificate.CheckAToB(testProfile, testTolerance); err != nil {
			t.Errorf("the other direction: got %v", err)
		}
	}
	certificate := measuredCertificate()
	certificate.Shaping = "packets are merged: eth1 generic-receive-offload"
	for _, err := range []error{
		certificate.Check(testProfile, testTolerance), certificate.CheckAToB(testProfile, testTolerance), certificate.CheckBToA(testProfile, testTolerance),
	} {
		if err == nil || strings.Count(err.Error(), certificate.Shaping) != 1 {
			t.Errorf("got %v", err)
		}
	}
}

func TestCertificateOfALAN(t *testing.T) {
	lan := Profile{Name: "lan"}
	fine := Direction{Ping: Ping{Sent: 50, Received: 50, Min: microseconds(1670), Median: microseconds(3070)}, ThroughputBits: 97e6}
	certificate := Certificate{AToB: fine, BToA: fine, Bridge: Ping{Sent: 25, Received: 25, Min: microseconds(1061)}}
	if err := certificate.Check(lan, testTolerance); err != nil {
		t.Error(err)
	}
	certificate.AToB.Ping.Min = microseconds(7200) // 5 ms and twice 1.061 ms are 7.12 ms
	if err := certificate.Check(lan, testTolerance); err == nil || !strings.Contains(err.Error(), "want 0.00 ms to 7.12 ms") {
		t.Errorf("got %v", err)
	}
	certificate.Bridge.Min = microseconds(50_000) // a busy machine excuses nothing
	certificate.AToB.Ping.Min = microseconds(10_100)
	if err := certificate.Check(lan, testTolerance); err == nil || !strings.Contains(err.Error(), "want 0.00 ms to 10.00 ms") {
		t.Errorf("got %v", err)
	}
}

// TestCertificateWithJitterAndLoss has values as measured with 5 % loss and 2 ms of jitter
// in each direction.
func TestCertificateWithJitterAndLoss(t *testing.T) {
	profile := Profile{RTT: 40 * time.Millisecond, Jitter: 4 * time.Millisecond, LossPercent: 5, RateBits: 50e6}
	direction := Direction{
		Ping:           Ping{Sent: 83, Received: 75, Min: microseconds(39859), Median: microseconds(43400)},
		ThroughputBits: 1.46e6, Packets: 772, Drops: 37,
	}
	certificate := Certificate{AToB: direction, BToA: direction, Bridge: Ping{Sent: 25, Received: 25, Median: microseconds(2280)}}
	if err := certificate.Check(profile, testTolerance); err != nil {
		t.Error(err)
	}
	certificate.AToB.Drops, certificate.BToA.Ping.Received = 0, 40
	certificate.AToB.Ping.Median = 47e6 // with jitter it is the median that counts
	err := certificate.Check(profile, testTolerance)
	for _, want := range []string{"site A to B: round trip of 47.00 ms: want 38.03 ms to 46.59 ms", "; 0 of 772 packets in netem lost", "site B to A: 43 of 83 pings lost, 51.8 %: the profile's 9.75 %"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
}

// TestChanceIsBounded compares with the exact distribution: a refusal by chance is as rare
// as promised, and counts that are a hundred thousand times rarer are refused.
func TestChanceIsBounded(t *testing.T) {
	for _, p := range []float64{0.001, 0.02, 0.0975, 0.5} {
		for _, n := range []int{1, 50, 400, 2000} {
			below := 0.0
			for k := range n + 1 {
				logProbability := logBinomial(n, k) + float64(k)*math.Log(p) + float64(n-k)*math.Log(1-p)
				above := 1 - below // of k and more
				below += math.Exp(logProbability)
				tail := min(above, below)
				refused := checkLoss("pings", k, n, p) != nil
				// Beyond 1e-12 the differences from 1 are not exact.
				if refused && tail > chance {
					t.Errorf("%d of %d with %v refused: it has the probability %v", k, n, p, tail)
				}
				if !refused && tail < chance*1e-5 && tail > 1e-12 {
					t.Errorf("%d of %d with %v taken for chance: it has the probability %v", k, n, p, tail)
				}
			}
		}
	}
	if err := checkLoss("pings", 1, 1000, 0); err == nil {
		t.Error("a loss without loss")
	}
	if err := checkLoss("pings", 50, 50, 0.001); err == nil {
		t.Error("everything lost")
	}
	if err := checkLoss("pings", 0, 0, 0.5); err != nil {
		t.Errorf("nothing sent: %v", err)
	}
}

func logBinomial(n, k int) float64 {
	all, _ := math.Lgamma(float64(n + 1))
	one, _ := math.Lgamma(float64(k + 1))
	other, _ := math.Lgamma(float64(n - k + 1))
	return all - one - other
}

func TestHowMuchIsSent(t *testing.T) {
	for _, c := range []struct {
		profile  Profile
		count    int
		interval time.Duration
		bytes    int64
	}{
		{Profile{Name: "lan"}, 100, 10 * time.Millisecond, 256 << 20},
		{testProfile, 100, 10 * time.Millisecond, 20_000_000},
		{Profile{LossPercent: 2, RateBits: 1e6}, 203, 10 * time.Millisecond, 125_000},            // 8 of 3.96 %
		{Profile{LossPercent: 0.1, RateBits: 100e9}, 400, 10 * time.Millisecond, 12_500_000_000}, // 4002 would be needed
		{Profile{RTT: 10 * time.Second, RateBits: 100e9}, 100, 10 * time.Millisecond, 32 << 30},  // a receiver takes 64 GiB
		{Profile{RTT: 100 * time.Millisecond, RateBits: 10e9}, 100, 10 * time.Millisecond, 2_500_000_000},
		{Profile{RateBits: 64e3}, 100, 122500 * time.Microsecond, 8_000},                         // 98 B take 12.25 ms
		{Profile{LossPercent: 99, RateBits: minRateBits}, 100, 7840 * time.Millisecond, 4 << 10}, // 98 B take 0.784 s
	} {
		count, interval := c.profile.pings()
		if bytes := c.profile.limitBytes(); count != c.count || interval != c.interval || bytes != c.bytes {
			t.Errorf("%s: got %d pings every %s, %d B, want %+v", c.profile, count, interval, bytes, c)
		}
	}
}

// TestCertifyTime: a certificate over a slow line is given the time that its pings take.
func TestCertifyTime(t *testing.T) {
	for _, c := range []struct {
		profile          Profile
		time, connection string
	}{
		{Profile{}, "21.25s", "2m4s"},
		{Profile{RTT: 300 * time.Millisecond, RateBits: 2_000_000}, "33.25s", "2m16s"},
		// 400 pings of 98 bytes, which take a tenth of the line.
		{Profile{LossPercent: 1, RateBits: minRateBits}, "52m36.25s", "2m4s"},
	} {
		if got := c.profile.CertifyTime(); got.String() != c.time {
			t.Errorf("%s: the certificate takes %s, want %s", c.profile, got, c.time)
		}
		if got := c.profile.connectionLimit(); got.String() != c.connection {
			t.Errorf("%s: a connection may take %s, want %s", c.profile, got, c.connection)
		}
	}
}

// site is a host whose witness is the real one, in this process.
type site struct{ *remotetest.Fake }

func (s site) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	if command.Args[0] != "/witness" {
		return s.Fake.Run(ctx, command)
	}
	at := netip.MustParseAddrPort(command.Args[2])
	var result throughput.Result
	var err error
	if strings.HasPrefix(command.Args[1], "probe-") {
		return s.probe(ctx, at, command)
	}
	if command.Args[1] == "receive" {
		result, err = throughput.Serve(ctx, at, func() { _, _ = io.WriteString(command.Stdout, "ready\n") })
	} else {
		length, _ := strconv.ParseFloat(command.Args[3], 64)
		limit, _ := strconv.ParseInt(command.Args[4], 10, 64)
		result, err = throughput.Send(ctx, at, time.Duration(length*float64(time.Second)), limit)
	}
	output, _ := json.Marshal(result)
	return remote.Result{Stdout: output}, err
}

func (s site) probe(ctx context.Context, at netip.AddrPort, command remote.Command) (remote.Result, error) {
	var plan probe.Plan
	if err := json.Unmarshal([]byte(command.Args[3]), &plan); err != nil {
		return remote.Result{}, err
	}
	if command.Args[1] == "probe-send" {
		return remote.Result{}, probe.Send(ctx, at, plan)
	}
	results, err := probe.Receive(ctx, at, plan, func() { _, _ = io.WriteString(command.Stdout, "ready\n") })
	if err == nil {
		err = json.NewEncoder(command.Stdout).Encode(results)
	}
	return remote.Result{}, err
}

// certifyRequest is of hosts that play a WAN, at addresses of this machine.
func certifyRequest(t *testing.T, profile Profile, states ...string) (CertifyRequest, map[string]*remotetest.Fake) {
	t.Helper()
	request := CertifyRequest{
		A:      Site{Address: netip.MustParseAddr("127.17.191.1"), Witness: "/witness"},
		B:      Site{Address: netip.MustParseAddr("127.17.191.2"), Witness: "/witness"},
		Bridge: netip.MustParseAddr("127.17.191.3"), Profile: profile,
	}
	fakes := map[string]*remotetest.Fake{}
	for _, name := range []string{"host-a", "host-b", "store"} {
		fakes[name] = remotetest.NewFake(t, name)
		fakes[name].On(remotetest.Prefix("/bin/ping"), remotetest.Reply{Stdout: string(testdata(t, "ping-iputils.txt"))})
	}
	var replies []remotetest.Reply
	for _, state := range states {
		replies = append(replies, remotetest.Reply{Stdout: state})
	}
	fakes["store"].On(remotetest.Prefix("/bin/sh", "-s", "--", "state"), replies...)
	request.A.Host, request.B.Host = site{fakes["host-a"]}, site{fakes["host-b"]}
	request.Shaper = newShaper(fakes["store"], "wan-test")
	return request, fakes
}

func TestCertify(t *testing.T) {
	profile, err := ParseProfile("rtt=60ms,jitter=2ms,loss=5%,rate=2mbit")
	if err != nil {
		t.Fatal(err)
	}
	before := string(testdata(t, "state-shaped.txt"))
	after := strings.NewReplacer(`"packets":248,"drops":14`, `"packets":1248,"drops":64`,
		`"packets":235,"drops":15`, `"packets":5,"drops":15`).Replace(before) // one direction wraps
	request, fakes := certifyRequest(t, profile, before, after)
	certificate, err := Certify(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	a, b := certificate.AToB, certificate.BToA
	if a.Packets != 1000 || a.Drops != 50 || b.Packets != 1<<32-230 || b.Drops != 0 {
		t.Errorf("netem's counts: got %+v and %+v", a, b)
	}
	if a.ThroughputBits <= 0 || b.ThroughputBits <= 0 || a.Ping.Received != 3 || b.Ping.Received != 3 || certificate.Bridge.Received != 3 {
		t.Errorf("got %+v", certificate)
	}
	if a.LimitPackets != profile.QueueLimit() || a.WantLimitPackets != profile.QueueLimit() || a.LimitPackets != b.LimitPackets {
		t.Errorf("limits: got %+v and %+v", a, b)
	}
	for _, direction := range []Direction{a, b} { // what 1.9 and 2.2 Mbit/s carry in their times
		if p := direction.Probe; p == nil || p.Below.Sent != 286 || p.Below.Received != 286 || p.Above.Sent != 110 || p.Above.Received != 110 {
			t.Errorf("probe: %+v", p)
		}
	}
	if certificate.Shaping != "" || certificate.Profile != profile.String() || certificate.At.IsZero() {
		t.Errorf("got %+v", certificate)
	}
	commands := fakes["host-a"].Commands()
	if len(commands) != 2 || strings.Join(commands[0], " ") != "/bin/ping -c 25 -i 0.01 -W 5 -s 56 -n 127.17.191.3" ||
		strings.Join(commands[1], " ") != "/bin/ping -c 100 -i 0.01 -W 5 -s 56 -n 127.17.191.2" {
		t.Errorf("got %q", commands)
	}
}

func TestCertifyTellsOfOtherShaping(t *testing.T) {
	state := "1 60\nrtt=60ms,rate=2mbit\neth1 generic-receive-offload,\nup\n[]"
	request, _ := certifyRequest(t, Profile{RTT: 60 * time.Millisecond, RateBits: 2e6}, state)
	certificate, err := Certify(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"to site B: nothing is shaped", "packets are merged: eth1 generic-receive-offload"} {
		if !strings.Contains(certificate.Shaping, want) {
			t.Errorf("got %q, want %s in it", certificate.Shaping, want)
		}
	}
}

func TestCertifyFails(t *testing.T) {
	state := string(testdata(t, "state-shaped.txt"))
	for want, change := range map[string]func(*CertifyRequest, map[string]*remotetest.Fake){
		"Network is unreachable": func(_ *CertifyRequest, fakes map[string]*remotetest.Fake) {
			fakes["host-b"].On(remotetest.Prefix("/bin/ping"), remotetest.Reply{Stderr: "Network is unreachable", ExitCode: 2})
		},
		"throughput to site B: host-b: /nowhere ended before it listened": func(request *CertifyRequest, fakes map[string]*remotetest.Fake) {
			request.B.Witness = "/nowhere"
			fakes["host-b"].On(remotetest.Prefix("/nowhere"), remotetest.Reply{ExitCode: 127})
		},
		"throughput to site A: host-b: /failing send 127.17.191.1:17191 1 250000: exit code 1: no route": func(request *CertifyRequest, fakes map[string]*remotetest.Fake) {
			fakes["host-b"].On(remotetest.Prefix("/failing", "send"), remotetest.Reply{Stderr: "no route", ExitCode: 1})
			request.B.Host = sender{request.B.Host, "send"}
		},
		"probe to site A: host-b: /failing probe-send 127.17.191.1:17191 ": func(request *CertifyRequest, fakes map[string]*remotetest.Fake) {
			fakes["host-b"].On(remotetest.Prefix("/failing", "probe-send"), remotetest.Reply{Stderr: "no route", ExitCode: 1})
			request.B.Host = sender{request.B.Host, "probe-send"}
		},
		"state of the WAN": func(_ *CertifyRequest, fakes map[string]*remotetest.Fake) {
			fakes["store"].On(remotetest.Prefix("/bin/sh"), remotetest.Reply{Err: remote.ErrConnectionLost})
		},
	} {
		request, fakes := certifyRequest(t, Profile{RateBits: 2e6}, state)
		change(&request, fakes)
		certificate, err := Certify(t.Context(), request)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "certify the WAN as rtt=0s,rate=2mbit: ") {
			t.Errorf("got %+v, %v, want %s", certificate, err, want)
		}
	}
}

// sender is a host that receives, but whose witness cannot send.
type sender struct {
	remote.Runner
	command string
}

func (s sender) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	if command.Args[0] == "/witness" && command.Args[1] == s.command {
		command.Args[0] = "/failing"
	}
	return s.Runner.Run(ctx, command)
}

// ratePath is a path that reports only a rate.
type ratePath struct{ bits int64 }

func (p ratePath) State(context.Context) (State, error) {
	queue := &Queue{RateBits: p.bits, RateOnly: true}
	return State{LeaseHeld: true, ToA: queue, ToB: queue}, nil
}

// TestCertifyARate: a path that counts no packets and reports no queue limit is judged by
// what was measured, and by the rate that it reports.
func TestCertifyARate(t *testing.T) {
	profile := Profile{RateBits: 2e6}
	for bits, want := range map[int64]string{2e6: "", 4e6: "rate in bit/s 4000000 instead of 2000000"} {
		request, _ := certifyRequest(t, profile)
		request.Shaper = ratePath{bits}
		certificate, err := Certify(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(certificate.Shaping, want) || want == "" && certificate.Shaping != "" {
			t.Errorf("got %q, want %q", certificate.Shaping, want)
		}
		if a := certificate.AToB; a.WantLimitPackets != 0 || a.Packets != 0 || a.Drops != 0 || a.ThroughputBits <= 0 || a.Probe.Above.Sent != 0 {
			t.Errorf("got %+v", a)
		}
	}
}

func TestRateOnly(t *testing.T) {
	for _, profile := range []Profile{{Name: "lan"}, {RateBits: 2e6}} {
		if err := profile.CheckRateOnly(); err != nil {
			t.Error(err)
		}
	}
	for want, profile := range map[string]Profile{"a delay": {RTT: 1}, "a delay; jitter": {RTT: 1, Jitter: 1}, "asks for loss": {LossPercent: 1, RateBits: 2e6}} {
		if err := profile.CheckRateOnly(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}
