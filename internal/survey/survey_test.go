package survey

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"

	"heliotrope/internal/clock"
	"heliotrope/internal/fault"
	"heliotrope/internal/folder"
	"heliotrope/internal/problem"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

const said = `system Debian GNU/Linux 12 (bookworm)
name Debian GNU/Linux
id debian
like 
kernel 6.1.0-28-amd64
boot 0e7f2a52-f2cb-4ad8-b0a8-9ac4e6b0e3f4
processor Intel(R) Xeon(R)   CPU
features fpu vme avx
available_mib 679
self 0
end 0 0 41ed /var/lib
way 0 0 41ed /var
way 0 0 41ed /
disk 250000 4096 /var/lib
writable
interface br0 1500
steering chronyd
`

func TestParse(t *testing.T) {
	s := State{Name: "host-a"}
	require.NoError(t, s.parse(said))
	require.Equal(t, State{Name: "host-a", System: "Debian GNU/Linux 12 (bookworm)", Family: problem.Debian, Kernel: "6.1.0-28-amd64", Processor: "Intel(R) Xeon(R) CPU",
		Features: []string{"fpu", "vme", "avx"}, AvailableMiB: 679, FreeDiskMiB: 976, Folder: "/var/lib", Writable: true, Steps: []folder.Step{{Path: "/var/lib", End: true, Mode: 0o40755}, {Path: "/var", Mode: 0o40755}, {Path: "/", Mode: 0o40755}}, Interface: "br0", MTU: 1500, Steering: "chronyd",
		boot: "0e7f2a52-f2cb-4ad8-b0a8-9ac4e6b0e3f4"}, s)
	for _, bad := range []string{"available_mib much\n", "disk 1 2\n", "disk a b /c\n", "disk 1 2 c\n", "self root\n", "end 0 0 x /\n", "way 0 0 41ed etc\n", "interface br0 many\n", "secret x\n"} {
		err := (&State{Name: "host-a"}).parse(bad)
		require.ErrorContains(t, err, "host-a: what it says of itself: ", bad)
	}
}

// TestAskThisMachine: the shells of hosts understand the questions, and a machine
// without the address still answers the others.
func TestAskThisMachine(t *testing.T) {
	place := t.TempDir()
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"busybox", "sh"}, {"bash"}} {
		t.Run(shell[0], func(t *testing.T) {
			command := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-c", questions, "survey", "127.0.0.1", place+"/not/there/yet")...)
			output, err := command.Output()
			require.NoError(t, err)
			s := State{Name: "here"}
			require.NoError(t, s.parse(string(output)))
			require.NotEmpty(t, s.Kernel)
			require.NotEmpty(t, s.boot)
			require.Positive(t, s.AvailableMiB)
			require.Equal(t, place, s.Folder)
			require.True(t, s.Writable)
			require.Equal(t, os.Getuid(), s.self)
			require.Equal(t, place, s.Steps[0].Path)
			require.True(t, s.Steps[0].End)
			require.Equal(t, "/", s.Steps[len(s.Steps)-1].Path)
			require.Equal(t, "lo", s.Interface)
			require.Positive(t, s.MTU)
		})
	}
	s, err := Ask(t.Context(), Machine{Host: remote.Local("here"), Address: netip.MustParseAddr("192.0.2.1"), DataDir: place})
	require.NoError(t, err)
	require.Empty(t, s.Interface)
	require.NotEmpty(t, s.Kernel)
	away := remotetest.NewFake(t, "away")
	away.On(remotetest.Prefix("sh"), remotetest.Reply{Err: remote.ErrConnectionLost})
	_, err = Ask(t.Context(), Machine{Host: away, Address: netip.MustParseAddr("192.0.2.1"), DataDir: place})
	require.ErrorIs(t, err, remote.ErrConnectionLost)
}

// healthy are three machines with nothing wrong: two sites and a storage server.
func healthy(t *testing.T) []State {
	var all []State
	for i, name := range []string{"host-a", "host-b", "store"} {
		s := State{Name: name, isSite: i < 2, address: netip.AddrFrom4([4]byte{198, 18, 0, byte(i + 1)}), hostKeys: []string{"SHA256:" + name}}
		require.NoError(t, s.parse(strings.Replace(said, "0e7f2a52", name, 1)))
		all = append(all, s)
	}
	return all
}

func TestJudge(t *testing.T) {
	require.Empty(t, Judge(healthy(t), 1500))
	const problems, warnings = false, true
	for name, c := range map[string]struct {
		change  func(all []State)
		warning bool
		want    []string // a part of each, in order
	}{
		"no such address":        {func(all []State) { all[2].Interface, all[2].MTU = "", 0 }, problems, []string{"store: ip addr show to 198.18.0.3: no network interface has this address: "}},
		"a small MTU":            {func(all []State) { all[1].MTU = 1400 }, problems, []string{"host-b: /sys/class/net/br0/mtu: it carries frames of 1400 bytes, and the guest sends up to 1500: ip link set br0 mtu 1500"}},
		"a small MTU at no site": {func(all []State) { all[2].MTU = 1400 }, problems, nil},
		"a folder of somebody's": {func(all []State) { all[0].Writable = false }, problems, []string{"host-a: test -w /var/lib: the inventory's user may not make anything there"}},
		"a full folder":          {func(all []State) { all[1].FreeDiskMiB = 63 }, problems, []string{"host-b: df /var/lib: 63 MiB are free: free 64 MiB there"}},
		"somebody owns the way": {func(all []State) { all[0].Steps[1].Owner = 1000 }, problems,
			[]string{"host-a: /var: it belongs to the user with the number 1000, and Heliotrope's programs, which root starts, are in the data folder: they could be exchanged: give the folder to root"}},
		"nobody steers": {func(all []State) { all[0].Steering = "" }, warnings, []string{"host-a: /proc/*/comm: neither chronyd nor ntpd nor systemd-timesyncd runs"}},
		"minutes off":   {func(all []State) { all[0].ClockAhead = -3 * time.Minute }, warnings, []string{"host-a: its clock, read over SSH: it is 3m0s behind the controller's"}},
		"hours off":     {func(all []State) { all[0].ClockAhead = 3 * time.Hour }, problems, []string{"host-a: its clock, read over SSH: it is 3h0m0s ahead of the controller's: set it, and "}},
		"as far as can be told": {func(all []State) {
			all[0].ClockAhead, all[0].ClockUncertainty = 1100*time.Millisecond, 200*time.Millisecond
		}, problems, nil},
		"one machine twice":       {func(all []State) { all[1].boot = all[0].boot; all[1].hostKeys = all[0].hostKeys }, problems, []string{"host-b: /proc/sys/kernel/random/boot_id: it is host-a-f2cb-4ad8-b0a8-9ac4e6b0e3f4, as that of host-a: both names are of one machine"}},
		"a copy of a machine":     {func(all []State) { all[2].hostKeys = append(all[2].hostKeys, all[0].hostKeys...) }, warnings, []string{"store: host_keys in the inventory: SHA256:host-a is also host-a's"}},
		"another processor":       {func(all []State) { all[1].Processor = "AMD EPYC" }, warnings, []string{"host-b: /proc/cpuinfo: its processor is AMD EPYC, and Intel(R) Xeon(R) CPU of host-a"}},
		"other features":          {func(all []State) { all[1].Features = []string{"fpu", "sse", "vme", "aes"} }, warnings, []string{"host-b: /proc/cpuinfo: its processor lacks what that of host-a has: avx: ", "host-a: /proc/cpuinfo: its processor lacks what that of host-b has: aes, sse: "}},
		"a server's own":          {func(all []State) { all[2].Processor, all[2].Features = "AMD EPYC", nil }, warnings, nil},
		"features that none tell": {func(all []State) { all[1].Features = nil }, warnings, nil},
	} {
		t.Run(name, func(t *testing.T) {
			all := healthy(t)
			c.change(all)
			found := Judge(all, 1500)
			require.Len(t, found, len(c.want), "%v", found)
			for i, want := range c.want {
				require.Contains(t, found[i].Error(), want)
				require.Equal(t, c.warning, found[i].Warning)
				require.NotEmpty(t, found[i].Fix)
			}
		})
	}
	s := State{}
	s.SetClock(clock.Offset{Ahead: time.Second, Uncertainty: time.Millisecond})
	require.Equal(t, State{ClockAhead: time.Second, ClockUncertainty: time.Millisecond}, s)
}

// dialled is a machine whose connections end with the given error.
func dialled(t *testing.T, err error) Machine {
	fake := remotetest.NewFake(t, "host-a")
	fake.Dial = func(ctx context.Context, _, address string) (net.Conn, error) {
		require.Equal(t, "198.18.0.3:3260", address)
		if err != nil {
			return nil, err
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return Machine{Host: fake}
}

func TestTry(t *testing.T) {
	way := Way{From: "host-a", To: "store", At: netip.MustParseAddrPort("198.18.0.3:3260"), For: "disks"}
	for name, c := range map[string]struct {
		err     error
		want    string
		warning bool
	}{
		"nobody listens":  {err: &ssh.OpenChannelError{Reason: ssh.ConnectionFailed, Message: "Connection refused"}},
		"a firewall":      {&ssh.OpenChannelError{Reason: ssh.ConnectionFailed, Message: "No route to host"}, "host-a: connect to TCP port 3260 of store (disks): No route to host: let TCP port 3260 through from host-a to store", false},
		"no forwards":     {&ssh.OpenChannelError{Reason: ssh.Prohibited, Message: "open failed"}, "AllowTcpForwarding yes", true},
		"the line breaks": {remote.ErrConnectionLost, "connection lost", false},
	} {
		t.Run(name, func(t *testing.T) {
			err := Try(t.Context(), dialled(t, c.err), way)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			found := problem.Of(err)
			require.Len(t, found, 1)
			require.Contains(t, found[0].Error(), c.want)
			require.Equal(t, c.warning, found[0].Warning)
		})
	}
	defer func(limit time.Duration) { tryLimit = limit }(tryLimit)
	tryLimit = time.Millisecond
	require.ErrorContains(t, Try(t.Context(), dialled(t, nil), way), "no answer within 1ms: somebody drops it: let TCP port 3260 through")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, Try(ended, dialled(t, nil), way), context.Canceled, "whoever ends it is told of no firewall")
	require.NoError(t, TryAll(t.Context(), nil, []Way{way}), "nobody can try it")
}

// TestTryThroughSSH: a real connection by way of a host, to a port on which somebody
// listens, and to one on which nobody does.
func TestTryThroughSSH(t *testing.T) {
	server := remotetest.NewServer(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	machine := Machine{Host: server.Connect(t, "host-a")}
	way := Way{From: "host-a", To: "store", At: listener.Addr().(*net.TCPAddr).AddrPort()}
	require.NoError(t, TryAll(t.Context(), []Machine{machine}, []Way{way}))
	require.NoError(t, listener.Close())
	require.NoError(t, TryAll(t.Context(), []Machine{machine}, []Way{way}))
}

func TestPings(t *testing.T) {
	states := healthy(t)
	states[0].MTU, states[1].MTU = 9000, 4000
	isEnd := func(name string) bool { return name != "store" }
	for answer, want := range map[string]string{
		"whole 198.18.0.2\nwhole 198.18.0.3\n": "",
		"no-ping\n":                            "host-a: command -v /bin/ping: there is no program /bin/ping: install the package iputils-ping",
		"small 198.18.0.2\n": "host-a: ping -M do -s 3972 198.18.0.2: no answer from host-b, and to small packets there is one: what is between them carries less than the 4000 bytes of their interfaces: " +
			"an MTU of 4000 on all that is between them",
		"none 198.18.0.2\n":            "host-a: ping 198.18.0.2: no answer from host-b, and the WAN's certificate pings it",
		"none 198.18.0.3\n":            "host-a: ping 198.18.0.3: no answer from store, so that the MTU between them could not be tried",
		"from 198.18.0.2 198.18.0.1\n": "",
		"from 198.18.0.2 198.18.0.7\n": "host-a: ip route get 198.18.0.2: it would send to host-b from 198.18.0.7, and its address in the inventory is 198.18.0.1: give that address in the inventory, or ",
		"from 192.0.2.1 198.18.0.1\n":  `unexpected output "from 192.0.2.1 198.18.0.1\n"`,
		"what\n":                       `unexpected output "what\n"`,
	} {
		fake := remotetest.NewFake(t, "host-a")
		fake.On(remotetest.Exactly("sh", "-c", pings, "pings", "198.18.0.2", "3972", "198.18.0.3", "1472"), remotetest.Reply{Stdout: answer})
		err := Pings(t.Context(), Machine{Host: fake}, states, isEnd)
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
		require.Equal(t, strings.HasPrefix(answer, "none 198.18.0.3"), problem.Of(err)[0].Warning)
	}
	states[0].isSite = false // a helper shares its machine with a site's host, and sends from that one's address
	fake := remotetest.NewFake(t, "host-a")
	fake.On(remotetest.Prefix("sh"), remotetest.Reply{Stdout: "from 198.18.0.2 198.18.0.7\n"}, remotetest.Reply{Err: remote.ErrConnectionLost})
	require.NoError(t, Pings(t.Context(), Machine{Host: fake}, states, isEnd))
	err := Pings(t.Context(), Machine{Host: fake}, states, isEnd)
	require.ErrorIs(t, err, remote.ErrConnectionLost)
	require.Equal(t, fault.Infrastructure, fault.Of(err))
	require.NoError(t, Pings(t.Context(), Machine{Host: remotetest.NewFake(t, "host-x")}, states, isEnd), "one that did not answer pings nobody")
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"busybox", "sh"}, {"bash"}} { // without arguments it pings nobody
		output, err := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-c", pings, "pings")...).Output()
		require.NoError(t, err)
		require.True(t, slices.Contains([]string{"", "no-ping\n"}, string(output)), output)
		for _, address := range []string{"127.0.0.1", "::1"} {
			output, err := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-c", "PATH=$PATH:/sbin; "+sourceOf, "sh", address)...).Output()
			require.NoError(t, err)
			require.Equal(t, "from "+address+" "+address+"\n", string(output))
		}
	}
}

// TestOverIPv6: the interface is found by an IPv6 address, too, and the longer header leaves a ping less data.
func TestOverIPv6(t *testing.T) {
	own, err := Ask(t.Context(), Machine{Host: remote.Local("here"), Address: netip.IPv6Loopback(), DataDir: t.TempDir()})
	require.NoError(t, err)
	require.Equal(t, "lo", own.Interface)
	states := healthy(t)
	for i, address := range []string{"fd00:198:18::1", "fd00:198:18::2", "fd00:198:18::3"} {
		states[i].address = netip.MustParseAddr(address)
	}
	fake := remotetest.NewFake(t, "host-a")
	fake.On(remotetest.Exactly("sh", "-c", pings, "pings", "fd00:198:18::2", "1452", "fd00:198:18::3", "1452"), remotetest.Reply{Stdout: "from fd00:198:18::2 fd00:198:18::1\nsmall fd00:198:18::2\nwhole fd00:198:18::3\n"})
	err = Pings(t.Context(), Machine{Host: fake}, states, func(string) bool { return true })
	require.ErrorContains(t, err, "host-a: ping -M do -s 1452 fd00:198:18::2: no answer from host-b")
	require.Len(t, problem.Of(err), 1)
}

// FuzzParse: whatever a machine says of itself, it is read or refused.
func FuzzParse(f *testing.F) {
	f.Add(said)
	f.Add("disk 1 2 3\ninterface \n")
	f.Fuzz(func(_ *testing.T, text string) { _ = (&State{Name: "host-a"}).parse(text) })
}
