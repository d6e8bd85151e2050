package wan

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/remote/remotetest"
)

// capturedProfile is what state-shaped.txt shows.
const capturedProfile = "rtt=60ms,jitter=2ms,loss=5%,rate=2mbit"

func mustParse(t *testing.T, text string) Profile {
	t.Helper()
	profile, err := ParseProfile(text)
	if err != nil {
		t.Fatal(err)
	}
	return profile
}

// renewing is the error of a renewal on a host that reports a state.
func renewing(t *testing.T, state string, profile Profile) error {
	t.Helper()
	host := remotetest.NewFake(t, "store")
	host.On(remotetest.Prefix("/bin/sh", "-s", "--", "renew"), remotetest.Reply{Stdout: state})
	return newShaper(host, "wan-test").Renew(t.Context(), "me", profile, time.Minute)
}

func TestRenewComparesThePath(t *testing.T) {
	captured, profile := string(testdata(t, "state-shaped.txt")), mustParse(t, capturedProfile)
	if err := renewing(t, captured, profile); err != nil {
		t.Errorf("nothing was changed: %v", err)
	}
	toB, toA, found := strings.Cut(captured, "\nup\n[")
	if !found {
		t.Fatal("not what is to be tested")
	}
	first, second, found := strings.Cut(toA, "\n\n[")
	if !found {
		t.Fatal("not what is to be tested")
	}
	join := func(first, second string) string { return toB + "\nup\n[" + first + "\n\n[" + second }
	replace := func(text, old, by string) string {
		t.Helper()
		if !strings.Contains(text, old) {
			t.Fatalf("%s is not in the captured state", old)
		}
		return strings.Replace(text, old, by, 1)
	}
	for name, test := range map[string]struct{ state, want string }{
		"delay to B": {join(replace(first, `"delay":0.03`, `"delay":0.002`), second), "to site B: delay 2ms instead of 30ms"},
		"rate to A":  {join(first, replace(second, `"rate":250000`, `"rate":2500`)), "to site A: rate in bit/s 20000 instead of 2000000"},
		"loss to A":  {join(first, replace(second, `"loss":0.05`, `"loss":1`)), "to site A: loss in percent 100 instead of 5"},
		"limit to B": {join(replace(first, `"limit":22491`, `"limit":10`), second), "to site B: limit in packets 10 instead of 22491"},
		"another's qdisc": {join(replace(first, `"kind":"netem","handle":"169a:"`, `"kind":"netem","handle":"8001:"`), second),
			"to site B: nothing is shaped: the root qdisc is netem 8001:"},
		"no redirection":  {toB + "\nup\n[" + first, "to site A: nothing is shaped"},
		"no link":         {replace(captured, "\nup\n", "\ndown\n"), "the interface to site B is down"},
		"merged packets":  {replace(captured, capturedProfile+"\n", capturedProfile+"\neth1 rx-gro-hw,"), "packets are merged: eth1 rx-gro-hw"},
		"another profile": {replace(captured, capturedProfile, "lan"), "it was shaped as lan instead of " + capturedProfile},
	} {
		err := renewing(t, test.state, profile)
		if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "store: ") || !strings.Contains(err.Error(), test.want) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		}
	}
	if err := renewing(t, captured, Profile{Name: "lan"}); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), "the WAN is still shaped") {
		t.Errorf("nothing should be shaped: got %v", err)
	}
	if err := renewing(t, "nonsense", profile); err == nil || errors.Is(err, ErrChanged) {
		t.Errorf("a host that cannot be understood: got %v", err)
	}
}

func TestHeldByAnother(t *testing.T) {
	host := remotetest.NewFake(t, "store")
	held := remotetest.Reply{ExitCode: heldCode, Stdout: "215\nrtt=80ms\ncampaign night of controller 1a2b3c4d, trial 00007.1\n", Stderr: "the path is held"}
	host.On(remotetest.Prefix("/bin/sh"), held, held, held, remotetest.Reply{ExitCode: heldCode, Stdout: "?"})
	shaper := newShaper(host, "wan-test")
	for name, err := range map[string]error{
		"shape": shaper.Shape(t.Context(), "me", Profile{Name: "lan"}, time.Minute),
		"clear": shaper.Clear(t.Context(), "me"),
		"renew": shaper.Renew(t.Context(), "me", Profile{Name: "lan"}, time.Minute),
	} {
		var who *HeldError
		want := HeldError{Host: "store", Owner: "campaign night of controller 1a2b3c4d, trial 00007.1", Profile: "rtt=80ms", Left: 215 * time.Second}
		if !errors.Is(err, ErrHeld) || !errors.As(err, &who) || *who != want {
			t.Errorf("%s: got %v, want %+v", name, err, want)
		}
		text := "store: the path is held by campaign night of controller 1a2b3c4d, trial 00007.1, as rtt=80ms, for another 3m35s"
		if err == nil || !strings.Contains(err.Error(), text) || errors.Is(err, ErrChanged) != (name == "renew") {
			t.Errorf("%s: got %v, want %s", name, err, text)
		}
	}
	if err := shaper.Clear(t.Context(), "me"); err == nil || errors.Is(err, ErrHeld) {
		t.Errorf("not understood: got %v", err)
	}
}

// TestLeaseInTheScript: a real shell writes a lease, and then other owners ask for
// it.
func TestLeaseInTheScript(t *testing.T) {
	functions, _, found := strings.Cut(script, "\nmain \"$@\"\nexit $?")
	if !found {
		t.Fatal("the script does not end as this test thinks")
	}
	const text = `
folder=$1 token=TOKEN lease_owner='campaign a, trial 1' lease_profile='rtt=80ms,rate=2mbit'
alive=0
watchdog_lives() { return $alive; }
write_lease 60
read_lease
echo "$lease_token $((left >= 60)) $lease_owner $lease_profile"
come() { (owner=$1; refuse_others && echo welcome) 2>&1; echo "$?"; }
come 'campaign a, trial 1'
come 'campaign b' | sed 's/^6[01]$/SECONDS/'
alive=1
come 'campaign b'
`
	command := exec.CommandContext(t.Context(), "/bin/sh", "-c", functions+text, "test", t.TempDir())
	output, err := command.CombinedOutput()
	want := `TOKEN 1 campaign a, trial 1 rtt=80ms,rate=2mbit
welcome
0
SECONDS
rtt=80ms,rate=2mbit
campaign a, trial 1
the path is held by campaign a, trial 1
4
welcome
0
`
	if err != nil || string(output) != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, output, want)
	}
}

// TestClearLeavesOthers: only qdiscs and interfaces with our handle and our name are
// removed. A real shell runs the script.
func TestClearLeavesOthers(t *testing.T) {
	for name, test := range map[string]struct {
		root string // that tc shows of the device
		ifb  bool   // ours is there
		want string // what is done
	}{
		"ours":                              {"netem 169a:", true, "tc qdisc del dev eth1 root\ntc qdisc del dev eth1 ingress\nip link del hlt-lab\n"},
		"a stranger's, and nothing of us":   {"netem 8001:", false, ""},
		"a stranger's in the place of ours": {"tbf 1:", true, "tc qdisc del dev eth1 ingress\nip link del hlt-lab\n"},
		"another testbed's":                 {"netem 169b:", false, ""},
		"the kernel's own":                  {"fq_codel 0:", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, folder := range []string{"eth1", "hlt-lab-2"} {
				if err := os.MkdirAll(filepath.Join(root, "net", folder), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if test.ifb {
				if err := os.MkdirAll(filepath.Join(root, "net", "hlt-lab"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			text := strings.NewReplacer("/sbin/tc", "tc", "/sbin/ip", "ip", "/sys/class/net", root+"/net").Replace(commonScript) + `
tc() {
	case $* in
	"qdisc show dev eth1") echo "qdisc $root_is root refcnt 2"; echo "qdisc ingress ffff: parent ffff:fff1" ;;
	*) echo "tc $*" ;;
	esac
}
ip() { echo "ip $*"; }
root_is=$1 device=eth1 ifb=hlt-lab handle=169a: folder=$2/run
clear_shaping
`
			output, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", text, "test", test.root, root).CombinedOutput()
			if err != nil || string(output) != test.want {
				t.Errorf("%v, got\n%swant\n%s", err, output, test.want)
			}
		})
	}
}
