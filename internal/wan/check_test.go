package wan

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"heliotrope/internal/remote/remotetest"
)

const goodTC = "tc tc utility, iproute2-6.1.0, libbpf 1.1.0\n"

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		facts string
		want  []string // a line each, without the host
	}{
		"as it should be": {facts: goodTC + "bridge linux br0\n"},
		"Open vSwitch":    {facts: goodTC + "bridge openvswitch br-wan\n"},
		"segmentation that is fixed": {
			facts: goodTC + "bridge linux br0\nfixed br0 tx-tcp-segmentation bridge N/A\n",
		},
		"no device": {facts: goodTC + "no-device\n", want: []string{"/sys/class/net/eth2: there is no such network interface: name"}},
		"no bridge": {facts: goodTC + "bridge  \n", want: []string{"eth2 is a port of no bridge"}},
		"a bond":    {facts: goodTC + "bridge other bond0\n", want: []string{"eth2 is part of bond0, which is no bridge"}},
		"Open vSwitch that does not answer": {
			facts: goodTC + "bridge openvswitch \n", want: []string{"ovs-vsctl port-to-br eth2: eth2 is a port of Open vSwitch, which does not say"},
		},
		"modules": {
			facts: goodTC + "no-module sch_netem\nno-module ifb\nbridge linux br0\n",
			want:  []string{"modprobe --dry-run sch_netem: the running kernel has no module sch_netem", "linux-modules-extra-$(uname -r) (Ubuntu)"},
		},
		"a stranger's netem": {
			facts: goodTC + "bridge linux br0\nroot netem 8001:\n",
			want:  []string{"tc qdisc show dev eth2: the root qdisc is netem 8001:, which is not ours"},
		},
		"a stranger's ingress": {facts: goodTC + "bridge linux br0\ningress\n", want: []string{"there is an ingress qdisc that is not ours"}},
		"no ethtool":           {facts: goodTC + "bridge linux br0\nno-ethtool\n", want: []string{"install the package ethtool"}},
		"no tc":                {facts: "tc /bin/sh: 1: /sbin/tc: not found\nbridge linux br0\n", want: []string{"install the package iproute2"}},
		"tc of iproute2 4.15":  {facts: "tc tc utility, iproute2-ss180129\nbridge linux br0\n", want: []string{"does not show netem as JSON"}},
		"tc of iproute2 5.3":   {facts: "tc tc utility, iproute2-ss190924\nbridge linux br0\n"},
		"offloads of a card": {
			facts: goodTC + "bridge linux br0\nfixed eth1 rx-gro-hw mlx5_core 0000:3b:00.0 \nfixed eth2 large-receive-offload \n",
			want: []string{"ethtool -k eth1: rx-gro-hw is on [fixed] (driver mlx5_core, 0000:3b:00.0): the card hands over packets that it has merged",
				"ethtool -k eth2: large-receive-offload is on [fixed] (no driver named)"},
		},
		"not understood": {facts: goodTC + "bridge linux br0\nwhat is this\n", want: []string{`"what is this" is not understood`}},
	} {
		host := remotetest.NewFake(t, "store")
		host.On(remotetest.Prefix("/bin/sh", "-s", "--", "check", "wan-test", "eth2"), remotetest.Reply{Stdout: test.facts})
		err := newShaper(host, "wan-test").Check(t.Context())
		if (err == nil) != (len(test.want) == 0) {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if err == nil {
			continue
		}
		for line := range strings.Lines(err.Error()) {
			if !strings.HasPrefix(line, "store: ") {
				t.Errorf("%s: no host in %q", name, line)
			}
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %s", name, err, want)
			}
		}
	}
}

// inScript runs some of the script's functions in a shell, on a host whose
// interfaces are files in a folder.
func inScript(t *testing.T, net, text string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", commonScript + "\nnet=$1 device=eth2\nshift\n" + text, "test", net}, args...)...)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return string(output)
}

// The forms that "ethtool -k" has (ethtool(8) and its source, features.c): fixed,
// requested, and features within features.
const someFeatures = `Features for eth1:
rx-checksumming: on
tx-checksumming: on
	tx-checksum-ipv4: off [fixed]
tcp-segmentation-offload: on
	tx-tcp-segmentation: on
	tx-tcp-ecn-segmentation: off [requested on]
	tx-tcp-mangleid-segmentation: off
	tx-tcp6-segmentation: on [fixed]
generic-segmentation-offload: on
generic-receive-offload: on
large-receive-offload: off [fixed]
rx-gro-hw: on [fixed]
rx-gro-list: off
`

func TestFixedOffloadsAreKeptApart(t *testing.T) {
	const script = `
features() { printf '%s' "$offloads"; }
offloads=$1 kind=''
find_bridge() { kind=linux bridge=br0; }
ports() { echo eth1; }
echo merging; merging; echo always; always_merging`
	want := `merging
eth1 generic-receive-offload
br0 tx-tcp-segmentation
br0 generic-segmentation-offload
always
eth1 rx-gro-hw fixed
br0 tx-tcp6-segmentation fixed
`
	if got := inScript(t, t.TempDir(), script, someFeatures); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	state, err := parseState([]byte("1 60 me\nlan\neth1 generic-receive-offload,eth1 rx-gro-hw fixed,\nup\n[]"), "169a:")
	if err != nil || len(state.Offloads) != 1 || len(state.Fixed) != 1 || state.Fixed[0] != "eth1 rx-gro-hw" {
		t.Errorf("got %+v, %v", state, err)
	}
}

func TestBridges(t *testing.T) {
	const script = `
open_vswitch() {
	case $* in
	'port-to-br eth2') echo br-wan ;;
	'list-ports br-wan') printf '%s\n' eth1 eth2 patch-tun ;;
	*) return 1 ;;
	esac
}
find_bridge
echo "$kind $bridge"
ports`
	for name, test := range map[string]struct {
		master string
		want   string
	}{
		"on its own":   {"", " \neth2\n"},
		"linux":        {"br0", "linux br0\neth1\neth2\n"},
		"Open vSwitch": {"ovs-system", "openvswitch br-wan\neth1\neth2\n"},
		"a bond":       {"bond0", "other bond0\neth2\n"},
	} {
		net := t.TempDir()
		for _, folder := range []string{"eth1", "eth2", "eth3", "ovs-system", "bond0", "br0/brif/eth1", "br0/brif/eth2"} {
			if err := os.MkdirAll(filepath.Join(net, folder), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if test.master != "" {
			if err := os.Symlink("../"+test.master, filepath.Join(net, "eth2/master")); err != nil {
				t.Fatal(err)
			}
		}
		if got := inScript(t, net, script); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
