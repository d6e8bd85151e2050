package wan

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestParseProfile(t *testing.T) {
	for text, want := range map[string]Profile{
		"lan":           {Name: "lan"},
		"continental":   {Name: "continental", RTT: 30 * time.Millisecond, RateBits: 100e6},
		"transatlantic": {Name: "transatlantic", RTT: 90 * time.Millisecond, RateBits: 100e6},
		"transpacific":  {Name: "transpacific", RTT: 160 * time.Millisecond, RateBits: 100e6},
		"rtt=60ms":      {RTT: 60 * time.Millisecond},
		"rtt=60ms,jitter=2ms,loss=0.1%,rate=50mbit": {
			RTT: 60 * time.Millisecond, Jitter: 2 * time.Millisecond, LossPercent: 0.1, RateBits: 50e6,
		},
		"rate=1.5gbit, rtt=1.5s": {RTT: 1500 * time.Millisecond, RateBits: 1.5e9},
		"rate=64kbit":            {RateBits: 64e3},
		"rate=9600bit":           {RateBits: 9600},
		"loss=0%":                {},
	} {
		got, err := ParseProfile(text)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", text, got, err, want)
			continue
		}
		again, err := ParseProfile(got.String())
		if err != nil || again != got {
			t.Errorf("%q becomes %q, which is %+v, %v", text, got, again, err)
		}
	}
}

func TestParseBadProfile(t *testing.T) {
	known := "want lan, continental, transatlantic, transpacific, or numbers such as rtt=60ms,jitter=2ms,loss=0.1%,rate=50mbit"
	for text, want := range map[string]string{
		"":                                `unknown WAN profile "": ` + known,
		"moon":                            `unknown WAN profile "moon": ` + known,
		"60ms":                            `unknown WAN profile "60ms": ` + known,
		"rtt=-60ms":                       `WAN profile "rtt=-60ms": rtt -60ms is negative`,
		"rtt=60":                          `WAN profile "rtt=60": rtt "60" is not a duration such as 60ms`,
		"rtt=":                            `WAN profile "rtt=": rtt "" is not a duration such as 60ms`,
		"rtt=1h":                          `WAN profile "rtt=1h": rtt 1h0m0s is more than 10s`,
		"rtt=10ms,jitter=-1ms,rate=1mbit": `jitter -1ms is negative`,
		"rtt=10ms,jitter=11ms,rate=1mbit": `jitter 11ms is more than the rtt 10ms`,
		"rtt=10ms,jitter=1ms":             `jitter without a rate would let packets overtake each other: give a rate too`,
		"rtt=1ms,loss=1":                  `loss "1" is not a percentage such as 0.1%`,
		"rtt=1ms,loss=x%":                 `loss "x%" is not a percentage such as 0.1%`,
		"rtt=1ms,loss=100%":               `loss 100% is not at least 0% and below 100%`,
		"rtt=1ms,loss=-1%":                `loss -1% is not at least 0% and below 100%`,
		"rtt=1ms,loss=NaN%":               `loss NaN% is not at least 0% and below 100%`,
		"rtt=1ms,rate=50":                 `rate "50" is not a rate such as 50mbit (bit, kbit, mbit or gbit)`,
		"rtt=1ms,rate=50MB":               `rate "50MB" is not a rate such as 50mbit (bit, kbit, mbit or gbit)`,
		"rtt=1ms,rate=NaNmbit":            `rate "NaNmbit" is not a rate`,
		"rtt=1ms,rate=-1mbit":             `rate is not within 1kbit and 100gbit`,
		"rtt=1ms,rate=999bit":             `rate is not within 1kbit and 100gbit`,
		"rtt=1ms,rate=1e300gbit":          `rate is not within 1kbit and 100gbit`,
		"rtt=1ms,rtt=2ms":                 `rtt is given twice`,
		"rtt=1ms,delay=2ms":               `unknown setting "delay" (known: rtt, jitter, loss, rate)`,
		"rtt=1ms,":                        `unknown setting ""`,
		"rtt=x,loss=y,rate=z":             `rtt "x" is not a duration such as 60ms; loss "y" is not a percentage such as 0.1%; rate "z" is not a rate`,
	} {
		_, err := ParseProfile(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestNetemParameters(t *testing.T) {
	profile := Profile{RTT: 61 * time.Millisecond, Jitter: 2 * time.Millisecond, LossPercent: 0.05, RateBits: 50e6}
	// 50e6/8 × 31.5 ms ÷ 64 B = 3076.2, and 32 MiB ÷ 1500 B = 22369
	want := "delay 30500us 1000us loss random 0.05% rate 50000000bit limit 25446"
	if got := strings.Join(profile.netemParameters(), " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	want = "delay 10000us 0us loss random 0% rate 0bit limit 1048576"
	if got := strings.Join(Profile{RTT: 20 * time.Millisecond}.netemParameters(), " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := (Profile{Name: "lan"}).netemParameters(); got != nil {
		t.Errorf("lan: got %s", got)
	}
}

// TestQueueLimitHoldsLine fills the line with full-size packets and with the
// smallest ones: neither reaches the limit.
func TestQueueLimitHoldsLine(t *testing.T) {
	for _, profile := range append(Profiles(), Profile{RTT: maxRTT, Jitter: maxRTT, RateBits: maxRateBits}) {
		limit := profile.QueueLimit()
		line := float64(profile.RateBits) / 8 * (profile.RTT + profile.Jitter).Seconds() / 2
		if float64(limit) < line/64 || limit > 1<<31-1 {
			t.Errorf("%s: limit %d for %.0f bytes on the line", profile, limit, line)
		}
	}
}

func TestParseState(t *testing.T) {
	state, err := parseState(testdata(t, "state-shaped.txt"), "169a:")
	if err != nil {
		t.Fatal(err)
	}
	profile, err := ParseProfile("rtt=60ms,jitter=2ms,loss=5%,rate=2mbit")
	if err != nil {
		t.Fatal(err)
	}
	if err := state.Check(profile); err != nil {
		t.Error(err)
	}
	if state.Profile != profile.String() || !state.LeaseHeld || state.LeaseLeft <= 0 || state.LeaseLeft > time.Minute {
		t.Errorf("got %+v", state)
	}
	for name, queue := range map[string]*Queue{"to B": state.ToB, "to A": state.ToA} {
		if queue.Delay != 30*time.Millisecond || queue.Jitter != time.Millisecond || queue.RateBits != 2e6 || queue.LossPercent != 5 {
			t.Errorf("%s: got %+v", name, *queue)
		}
		if queue.SentBytes < 1400 || queue.SentPackets == 0 || queue.DroppedPackets == 0 {
			t.Errorf("%s: counters are missing: %+v", name, *queue)
		}
	}
	if state.ToB.BacklogBytes == 0 || state.ToB.BacklogPackets == 0 {
		t.Errorf("backlog is missing: %+v", *state.ToB)
	}
}

func TestParseStateOfStrangers(t *testing.T) {
	state, err := parseState(testdata(t, "state-shaped.txt"), "1111:")
	if err != nil || state.ToA != nil || state.ToB != nil {
		t.Errorf("another testbed's qdiscs taken for ours: %+v, %v", state, err)
	}
}

func TestParseStateCleared(t *testing.T) {
	state, err := parseState(testdata(t, "state-clear.txt"), "169a:")
	if err != nil || !reflect.DeepEqual(state, State{Link: "up"}) {
		t.Errorf("got %+v, %v", state, err)
	}
	if err := state.Check(Profile{Name: "lan"}); err != nil {
		t.Error(err)
	}
	want := "rtt=60ms: to site B: nothing is shaped; to site A: nothing is shaped"
	if err := state.Check(Profile{RTT: 60 * time.Millisecond}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestOffloadsAreNamed(t *testing.T) {
	state, err := parseState([]byte("1 60\nlan\neth1 generic-receive-offload,br0 tx-tcp-segmentation,\nup\n[]"), "169a:")
	if err != nil || !slices.Equal(state.Offloads, []string{"eth1 generic-receive-offload", "br0 tx-tcp-segmentation"}) {
		t.Fatalf("got %+v, %v", state, err)
	}
	want := "lan: packets are merged: eth1 generic-receive-offload, br0 tx-tcp-segmentation"
	if err := state.Check(Profile{Name: "lan"}); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	state.LeaseHeld = false
	if err := state.Check(Profile{Name: "lan"}); err != nil {
		t.Errorf("nobody asked for anything: got %v", err)
	}
}

func TestParseBadState(t *testing.T) {
	for _, output := range []string{
		"", "x", "1", "1 x\n\n\n[]", "1 60\nlan\n\n", "1 60\nlan\n\nError", "1 60\nlan\n\n[]\n{", "1 60\nlan\n\n[{\"kind\":3}]",
		"1 60\nlan\n\n[]", // without the line of the link
	} {
		if state, err := parseState([]byte(output), "169a:"); err == nil {
			t.Errorf("%q: got %+v", output, state)
		}
	}
}

func TestCheckNamesEveryDifference(t *testing.T) {
	profile := Profile{RTT: 60 * time.Millisecond, RateBits: 100e6}
	right := Queue{Delay: 30*time.Millisecond + 64, RateBits: 100e6, LimitPackets: profile.QueueLimit()}
	state := State{ToB: &right, ToA: &right}
	if err := state.Check(profile); err != nil {
		t.Error(err)
	}
	if err := state.Check(Profile{Name: "lan"}); err == nil || err.Error() != "lan: the WAN is still shaped" {
		t.Errorf("got %v", err)
	}
	state.ToA = &Queue{Delay: time.Millisecond, Jitter: time.Millisecond, LossPercent: 1, RateBits: 8, LimitPackets: 1}
	err := state.Check(profile)
	for _, part := range []string{"rtt=60ms,rate=100mbit: to site A: delay 1ms instead of 30ms", "jitter 1ms instead of 0s",
		"loss in percent 1 instead of 0", "rate in bit/s 8 instead of 100000000", "limit in packets 1 instead of"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want %s in it", err, part)
		}
	}
}

func newShaper(host remote.Runner, label string) *Shaper {
	return New(&inventory.Inventory{Name: label, WAN: inventory.WAN{Host: "store", Device: "eth2"}}, host)
}

func TestIFBName(t *testing.T) {
	seen := map[string]string{}
	for _, label := range []string{"a", "test", "lab-1234567", "lab-12345678", "lab-123456789abc", "lab-123456789abd"} {
		name := newShaper(nil, label).IFB()
		if len(name) > 15 || !strings.HasPrefix(name, "hlt-"+label[:min(5, len(label))]) {
			t.Errorf("%s: got %s", label, name)
		}
		if other, taken := seen[name]; taken {
			t.Errorf("%s and %s share %s", label, other, name)
		}
		seen[name] = label
	}
}

func TestHandle(t *testing.T) {
	for _, label := range []string{"a", "test", "wan-test", "lab-123456789abc"} {
		if handle := newShaper(nil, label).handle(); len(handle) != 5 || handle < "1000:" || handle >= "8000:" {
			t.Errorf("%s: got %s", label, handle)
		}
	}
}

func TestShapeArguments(t *testing.T) {
	host := remotetest.NewFake(t, "store")
	host.On(remotetest.Prefix("/bin/sh"))
	host.On(remotetest.Prefix("/bin/sh", "-s", "--", "renew"), remotetest.Reply{Stdout: "1 60 me\nlan\n\nup\n[]"})
	shaper, shaped := newShaper(host, "wan-test"), Profile{RTT: 60 * time.Millisecond, RateBits: 100e6}
	if err := shaper.Shape(t.Context(), "campaign a, trial 00001.1", shaped, 1500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if err := shaper.Shape(t.Context(), "me", Profile{Name: "lan"}, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := shaper.Renew(t.Context(), "me", Profile{Name: "lan"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := shaper.Teardown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := shaper.Clear(t.Context(), "me"); err != nil {
		t.Fatal(err)
	}
	head := "/bin/sh -s -- %s wan-test eth2 hlt-wan-test 169a: "
	want := []string{
		strings.Replace(head, "%s", "shape", 1) + "campaign a, trial 00001.1 2 TOKEN rtt=60ms,rate=100mbit delay 30000us 0us loss random 0% rate 100000000bit limit 28229",
		strings.Replace(head, "%s", "shape", 1) + "me 60 TOKEN lan",
		strings.Replace(head, "%s", "renew", 1) + "me 3600",
		strings.Replace(head, "%s", "clear", 1),
		strings.Replace(head, "%s", "clear", 1) + "me",
	}
	tokens := map[string]bool{}
	for i, call := range host.Calls() {
		if call.Stdin != script {
			t.Errorf("call %d: the script is not the constant one", i)
		}
		args := slices.Clone(call.Args)
		if args[3] == "shape" {
			tokens[args[10]] = true
			args[10] = "TOKEN"
		}
		if got := strings.Join(args, " "); got != want[i] {
			t.Errorf("call %d:\ngot  %s\nwant %s", i, got, want[i])
		}
	}
	if len(tokens) != 2 || len(host.Calls()) != len(want) {
		t.Errorf("tokens %v, %d calls", tokens, len(host.Calls()))
	}
}

func TestRefusedBeforeTheHostIsTouched(t *testing.T) {
	shaper := newShaper(remotetest.NewFake(t, "store"), "wan-test") // any command fails the test
	fine := Profile{RTT: time.Millisecond}
	for name, call := range map[string]func() error{
		"negative delay": func() error { return shaper.Shape(t.Context(), "me", Profile{RTT: -time.Millisecond}, time.Minute) },
		"no lease":       func() error { return shaper.Shape(t.Context(), "me", fine, 0) },
		"negative lease": func() error { return shaper.Renew(t.Context(), "me", fine, -time.Second) },
		"no owner":       func() error { return shaper.Shape(t.Context(), "", fine, time.Minute) },
		"no owner again": func() error { return shaper.Renew(t.Context(), "", fine, time.Minute) },
		"nobody clears":  func() error { return shaper.Clear(t.Context(), "") },
		"two lines":      func() error { return shaper.Shape(t.Context(), "me\nand me", fine, time.Minute) },
		"blank owner":    func() error { return shaper.Shape(t.Context(), " ", fine, time.Minute) },
		"endless lease":  func() error { return shaper.Shape(t.Context(), "me", fine, MaxLease+1) },
		"no pings": func() error {
			_, err := Measure(t.Context(), remotetest.NewFake(t, "host-a"), netip.MustParseAddr("198.18.0.2"), 0, time.Second)
			return err
		},
		"no address": func() error {
			_, err := Measure(t.Context(), remotetest.NewFake(t, "host-a"), netip.Addr{}, 5, time.Second)
			return err
		},
	} {
		if err := call(); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
}

func TestErrorsOfTheHost(t *testing.T) {
	host := remotetest.NewFake(t, "store")
	shaper := newShaper(host, "wan-test")
	host.On(remotetest.Prefix("/bin/sh", "-s", "--", "renew"), remotetest.Reply{Stderr: "the lease is over\n", ExitCode: lapsedCode},
		remotetest.Reply{Err: remote.ErrConnectionLost})
	if err := shaper.Renew(t.Context(), "me", Profile{}, time.Minute); !errors.Is(err, ErrLapsed) || !strings.Contains(err.Error(), "the lease is over") {
		t.Errorf("lapsed: got %v", err)
	}
	if err := shaper.Renew(t.Context(), "me", Profile{}, time.Minute); errors.Is(err, ErrLapsed) || !errors.Is(err, remote.ErrConnectionLost) {
		t.Errorf("connection lost: got %v", err)
	}
	host.On(remotetest.Prefix("/bin/sh", "-s", "--", "clear"), remotetest.Reply{ExitCode: lapsedCode})
	if err := shaper.Clear(t.Context(), "me"); err == nil || errors.Is(err, ErrLapsed) {
		t.Errorf("clear: got %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := shaper.State(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// TestScriptSyntax has a real shell read the script: it must stay plain POSIX.
func TestScriptSyntax(t *testing.T) {
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"busybox", "sh"}, {"bash", "--posix"}} {
		if _, err := exec.LookPath(shell[0]); err != nil {
			continue
		}
		command := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-n")...)
		command.Stdin = strings.NewReader(script)
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", shell, err, output)
		}
	}
}

func TestScriptRefusesUnknownOperation(t *testing.T) {
	result, err := remote.Local("here").Run(t.Context(), remote.Command{
		Args: []string{"/bin/sh", "-s", "--", "nonsense", "a", "b", "c", "d", "e"}, Stdin: strings.NewReader(script), Timeout: time.Minute,
	})
	if code, _ := remote.ExitCode(err); code != 1 || !strings.Contains(string(result.Stderr), "no operation nonsense") {
		t.Errorf("got %v, %s", err, result.Stderr)
	}
}

func TestParsePing(t *testing.T) {
	ms := func(value float64) time.Duration { return time.Duration(math.Round(value*1000)) * time.Microsecond }
	for file, want := range map[string]Ping{
		"ping-iputils.txt": {Sent: 3, Received: 3, Min: ms(4.763), Mean: ms(27.677), Median: ms(5.4), Max: ms(72.866)},
		"ping-busybox.txt": {Sent: 3, Received: 3, Min: ms(3.921), Mean: ms(8.153), Median: ms(8.535), Max: ms(12.003)},
		"ping-lost.txt":    {Sent: 2},
	} {
		got, err := parsePing(testdata(t, file))
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", file, got, err, want)
		}
	}
	for _, output := range []string{"", "PING x", "3 packets transmitted, 3 received, 0% packet loss"} {
		if ping, err := parsePing([]byte(output)); err == nil {
			t.Errorf("%q: got %+v", output, ping)
		}
	}
}

// TestMeasureOverIPv6: a ping's frame is as long as over IPv4, because the time of its transmission is part of
// what a certificate expects.
func TestMeasureOverIPv6(t *testing.T) {
	host := remotetest.NewFake(t, "host-a")
	host.On(remotetest.Exactly("/bin/ping", "-c", "3", "-i", "0.2", "-W", "5", "-s", "36", "-n", "fd00:198:18::2"),
		remotetest.Reply{Stdout: string(testdata(t, "ping-ipv6.txt"))})
	ping, err := Measure(t.Context(), host, netip.MustParseAddr("fd00:198:18::2"), 3, 200*time.Millisecond)
	if err != nil || ping.Received != 3 || ping.Median != 61300*time.Microsecond {
		t.Errorf("got %+v, %v", ping, err)
	}
}

func TestMeasure(t *testing.T) {
	to := netip.MustParseAddr("198.18.0.2")
	host := remotetest.NewFake(t, "host-a")
	command := remotetest.Exactly("/bin/ping", "-c", "3", "-i", "0.2", "-W", "5", "-s", "56", "-n", "198.18.0.2")
	host.On(command,
		remotetest.Reply{Stdout: string(testdata(t, "ping-iputils.txt"))},
		remotetest.Reply{Stdout: string(testdata(t, "ping-lost.txt")), ExitCode: 1},
		remotetest.Reply{Stderr: "ping: connect: Network is unreachable", ExitCode: 2},
		remotetest.Reply{Stderr: "ping: bad option", ExitCode: 1},
		remotetest.Reply{Err: remote.ErrConnectionLost},
	)
	ping, err := Measure(t.Context(), host, to, 3, 200*time.Millisecond)
	if err != nil || ping.Received != 3 || ping.LossPercent() != 0 {
		t.Errorf("got %+v, %v", ping, err)
	}
	ping, err = Measure(t.Context(), host, to, 3, 200*time.Millisecond)
	if err != nil || ping.LossPercent() != 100 {
		t.Errorf("all lost: got %+v, %v", ping, err)
	}
	for _, want := range []string{"Network is unreachable", "bad option", "connection lost"} {
		if _, err := Measure(t.Context(), host, to, 3, 200*time.Millisecond); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
}
