package owner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/fault"
	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

const (
	ours   = "campaign night of controller 1a2b3c4d"
	theirs = "campaign day of controller 99887766"
)

// machine is a host on which a real shell runs the script with another folder.
type machine struct {
	remote.Runner
	folder string
}

func newMachine(t *testing.T, name string) Host {
	m := machine{remote.Local(name), filepath.Join(t.TempDir(), "heliotrope", "owner")}
	host := Host{Runner: m, Ending: `echo "ended $2" >> "$1"`, Args: []string{m.ended(), "it's all"}}
	t.Cleanup(func() { // its watchdog
		states, _ := Hosts{host}.State(context.Background())
		for _, held := range states {
			_ = Hosts{host}.Release(context.Background(), held.Owner)
		}
	})
	return host
}

// ended is the file that the machine's ending writes.
func (m machine) ended() string { return filepath.Join(filepath.Dir(filepath.Dir(m.folder)), "ended") }

func (m machine) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	for i, arg := range command.Args {
		if inside, is := strings.CutPrefix(arg, root+"/"); is {
			command.Args[i] = filepath.Join(filepath.Dir(m.folder), inside)
		}
	}
	return m.Runner.Run(ctx, command)
}

// writes leaves a lease on the machine: of a boot, with so many seconds left.
func (h Host) writes(t *testing.T, boot string, left time.Duration, holder string) {
	t.Helper()
	uptime, err := os.ReadFile("/proc/uptime")
	require.NoError(t, err)
	var now float64
	_, err = fmt.Sscan(string(uptime), &now)
	require.NoError(t, err)
	at := h.Runner.(machine).folder
	require.NoError(t, os.MkdirAll(at, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(at, "ending"), []byte(h.Ending+"\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(at, "arguments"), []byte(strings.Join(h.Args, "\n")+"\n"), 0o644))
	text := fmt.Sprintf("%s %d word\n%s\n", boot, int(now+left.Seconds()), holder)
	require.NoError(t, os.WriteFile(filepath.Join(at, "lease"), []byte(text), 0o644))
}

// hasEnded is how often the machine's ending was run.
func (h Host) hasEnded(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(h.Runner.(machine).ended())
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(t, err)
	}
	return strings.Count(string(text), "ended it's all\n")
}

func thisBoot(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	require.NoError(t, err)
	return strings.TrimSpace(string(text))
}

// holders are who has which host.
func holders(t *testing.T, hosts Hosts) map[string]string {
	t.Helper()
	states, err := hosts.State(t.Context())
	require.NoError(t, err)
	all := map[string]string{}
	for _, held := range states {
		all[held.Host] = held.Owner
	}
	return all
}

// TestOneOwner: the second owner is told who has the host and until when, and changes
// nothing; a host that the first one gives back is free.
func TestOneOwner(t *testing.T) {
	hosts := Hosts{newMachine(t, "host-a"), newMachine(t, "host-b")}
	require.NoError(t, hosts.Take(t.Context(), ours, Lease))
	require.NoError(t, hosts.Take(t.Context(), ours, Lease), "twice is once")
	for what, do := range map[string]func() error{
		"take":  func() error { return hosts.Take(t.Context(), theirs, Lease) },
		"renew": func() error { return hosts.Renew(t.Context(), theirs, Lease) },
	} {
		err := do()
		var held *HeldError
		require.ErrorIs(t, err, ErrHeld, what)
		require.ErrorAs(t, err, &held, what)
		assert.Equal(t, "host-a", held.Host)
		assert.Equal(t, ours, held.Owner)
		assert.WithinDuration(t, time.Now().Add(Lease), held.Until, 5*time.Minute)
		assert.ErrorContains(t, err, "host-a is leased to "+ours+" until "+held.Until.Format(time.TimeOnly))
		assert.Equal(t, fault.Infrastructure, fault.Of(err), "a campaign waits for it")
	}
	require.NoError(t, hosts.Release(t.Context(), theirs), "another's stays")
	assert.Equal(t, map[string]string{"host-a": ours, "host-b": ours}, holders(t, hosts))
	require.NoError(t, hosts.Renew(t.Context(), ours, Lease))
	require.NoError(t, hosts.Release(t.Context(), ours))
	require.NoError(t, hosts.Release(t.Context(), ours))
	assert.Empty(t, holders(t, hosts))
	for _, host := range hosts {
		assert.NoDirExists(t, filepath.Dir(host.Runner.(machine).folder), "nothing is left")
		assert.Zero(t, host.hasEnded(t), "it was given back")
	}
	require.ErrorIs(t, hosts.Renew(t.Context(), ours, Lease), ErrLapsed)
	require.NoError(t, hosts.Take(t.Context(), theirs, Lease))
}

// TestTwoCommandsOfOnePerson: the second of two commands of a person that run at the same time is refused and told which
// process has the host. When the first was killed, the second gets the host after the lease has ended.
func TestTwoCommandsOfOnePerson(t *testing.T) {
	host := newMachine(t, "host-a")
	hosts, first, second := Hosts{host}, Command("sweep", "ada@desk", 4711), Command("sweep", "ada@desk", 4712)
	require.NoError(t, hosts.Take(t.Context(), first, Lease))
	require.ErrorContains(t, hosts.Take(t.Context(), second, Lease), "leased to heliotrope sweep of ada@desk, process 4711 until ")
	require.NoError(t, hosts.Release(t.Context(), second))
	assert.Equal(t, first, holders(t, hosts)["host-a"], "the second gives nothing back")
	require.NoError(t, hosts.Release(t.Context(), first))
	host.writes(t, thisBoot(t), -time.Second, first)
	require.NoError(t, hosts.Take(t.Context(), second, Lease))
	assert.Equal(t, second, holders(t, hosts)["host-a"])
}

// TestIsCampaign tells the names of campaigns from those of commands.
func TestIsCampaign(t *testing.T) {
	assert.True(t, IsCampaign(ours))
	for _, name := range []string{Command("sweep", "ada@desk", 4711), "campaign night", "a campaign night of controller 1a2b3c4d", ""} {
		assert.False(t, IsCampaign(name), name)
	}
}

// TestHeldIsPlausible: what a host reports about its owner is shown to people, and
// decides how long others wait.
func TestHeldIsPlausible(t *testing.T) {
	for _, output := range []string{"", "60", "x\n" + ours, "-1\n" + ours, "86401\n" + ours, "60\n", "60\n\x1b[2Jcleared", "60\n" + ours + "\nand more"} {
		_, err := parse("host-a", output)
		assert.ErrorContains(t, err, "unexpected output", "%q", output)
	}
	held, err := parse("host-a", "60\n"+ours)
	require.NoError(t, err)
	assert.Equal(t, ours, held.Owner)
}

// TestTakenOverWhenLapsed: a lease that has ended, or is from another boot, does not
// count.
func TestTakenOverWhenLapsed(t *testing.T) {
	host := newMachine(t, "host-a")
	hosts := Hosts{host}
	host.writes(t, thisBoot(t), 10*time.Minute, ours)
	require.ErrorIs(t, hosts.Take(t.Context(), theirs, Lease), ErrHeld)
	host.writes(t, thisBoot(t), -time.Second, ours)
	assert.Empty(t, holders(t, hosts))
	require.ErrorIs(t, hosts.Renew(t.Context(), ours, Lease), ErrLapsed)
	require.NoError(t, hosts.Take(t.Context(), theirs, Lease))
	assert.Equal(t, theirs, holders(t, hosts)["host-a"])
	assert.Equal(t, 1, host.hasEnded(t), "what ran for the other, before anything else")
	require.NoError(t, hosts.Release(t.Context(), theirs))
	host.writes(t, "another-boot", 10*time.Minute, ours)
	require.NoError(t, hosts.Take(t.Context(), theirs, Lease))
	assert.Equal(t, theirs, holders(t, hosts)["host-a"])
}

// TestSameOwnerComesBack: what runs for an owner goes on when he takes the host again
// after his lease has ended.
func TestSameOwnerComesBack(t *testing.T) {
	host := newMachine(t, "host-a")
	host.writes(t, thisBoot(t), -time.Second, ours)
	require.NoError(t, Hosts{host}.Take(t.Context(), ours, Lease))
	assert.Equal(t, ours, holders(t, Hosts{host})["host-a"])
	assert.Zero(t, host.hasEnded(t))
}

// TestWatchdogEndsWhatRuns when nobody renews the lease, with no controller at all.
func TestWatchdogEndsWhatRuns(t *testing.T) {
	host := newMachine(t, "host-a")
	require.NoError(t, Hosts{host}.Take(t.Context(), ours, time.Second))
	require.NoError(t, poll.Until(t.Context(), 50*time.Millisecond, func(context.Context) (bool, error) {
		_, err := os.Stat(filepath.Dir(host.Runner.(machine).folder))
		return errors.Is(err, fs.ErrNotExist), nil
	}))
	assert.Equal(t, 1, host.hasEnded(t))
	assert.Empty(t, holders(t, Hosts{host}))
}

// TestAllOrNone: an owner who cannot have all hosts keeps those that he had, and no
// more.
func TestAllOrNone(t *testing.T) {
	a, b, c := newMachine(t, "a"), newMachine(t, "b"), newMachine(t, "c")
	require.NoError(t, Hosts{a}.Take(t.Context(), ours, Lease))
	require.NoError(t, Hosts{c}.Take(t.Context(), theirs, Lease))
	require.ErrorIs(t, Hosts{a, b, c}.Take(t.Context(), ours, Lease), ErrHeld)
	assert.Equal(t, map[string]string{"a": ours, "c": theirs}, holders(t, Hosts{a, b, c}))
}

// TestLongerLeaseStays: a renewal does not shorten a longer lease.
func TestLongerLeaseStays(t *testing.T) {
	hosts := Hosts{newMachine(t, "host-a")}
	require.NoError(t, hosts.Take(t.Context(), ours, 2*time.Hour))
	require.NoError(t, hosts.Renew(t.Context(), ours, time.Minute))
	require.NoError(t, hosts.Take(t.Context(), ours, time.Minute))
	states, err := hosts.State(t.Context())
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(2*time.Hour), states[0].Until, 10*time.Minute)
}

// takeFrom takes hosts that another owner may have.
func takeFrom(t *testing.T, hosts Hosts, other string) error {
	t.Helper()
	taken, err := hosts.TakeAnswering(t.Context(), ours, time.Minute, other)
	return errors.Join(err, taken.Err())
}

// TestTakenFromAnOwnerByName: a lease is ended only if it is the named owner's.
func TestTakenFromAnOwnerByName(t *testing.T) {
	hosts := Hosts{newMachine(t, "host-a")}
	require.NoError(t, hosts.Take(t.Context(), theirs, 2*time.Hour))
	require.ErrorIs(t, takeFrom(t, hosts, "campaign other of controller 1"), ErrHeld)
	require.NoError(t, takeFrom(t, hosts, theirs))
	states, err := hosts.State(t.Context())
	require.NoError(t, err)
	assert.Equal(t, ours, states[0].Owner)
	assert.WithinDuration(t, time.Now(), states[0].Until, 10*time.Minute, "the other's time does not count")
	assert.Equal(t, 1, hosts[0].hasEnded(t), "what ran for the other")
}

// TestOneOrderForAll: by address, whatever the hosts are called.
func TestOneOrderForAll(t *testing.T) {
	one := Of(map[string]Host{"10.0.0.2:22": {Runner: remote.Local("host-a")}, "10.0.0.1:22": {Runner: remote.Local("host-b")}})
	require.Len(t, one, 2)
	assert.Equal(t, "host-b", one[0].Name())
}

// TestHostThatIsAway: Take keeps the hosts that the owner had and gets no more;
// TakeAnswering gets the other hosts, and says which are missing and why.
func TestHostThatIsAway(t *testing.T) {
	fake := remotetest.NewFake(t, "b")
	a, away, c := newMachine(t, "a"), Host{Runner: fake}, newMachine(t, "c")
	fake.On(remotetest.Prefix("/bin/sh"), remotetest.Reply{Err: remote.ErrConnectionLost})
	require.NoError(t, Hosts{c}.Take(t.Context(), ours, Lease))
	err := Hosts{a, away, c}.Take(t.Context(), ours, Lease)
	require.ErrorIs(t, err, remote.ErrConnectionLost)
	require.NotErrorIs(t, err, ErrHeld)
	assert.Equal(t, map[string]string{"c": ours}, holders(t, Hosts{a, c}))
	taken, err := Hosts{away, a}.TakeAnswering(t.Context(), ours, Lease, "")
	require.NoError(t, err)
	require.Len(t, taken.Leased, 1)
	assert.Equal(t, "a", taken.Leased[0].Name())
	require.ErrorIs(t, taken.Away["b"], remote.ErrConnectionLost)
	require.ErrorContains(t, taken.Err(), "lease the hosts: b: ")
	states, err := Hosts{away, a}.State(t.Context())
	require.ErrorContains(t, err, "b: ")
	require.Len(t, states, 1)
	assert.Equal(t, ours, states[0].Owner)
}

func TestNonsense(t *testing.T) {
	fake := remotetest.NewFake(t, "a")
	host := Host{Runner: fake}
	fake.On(remotetest.Prefix("/bin/sh"), remotetest.Reply{Stdout: "?", ExitCode: heldCode}, remotetest.Reply{Stdout: "soon\nme"})
	require.ErrorContains(t, Hosts{host}.Take(t.Context(), ours, Lease), `a: unexpected output "?"`)
	_, err := Hosts{host}.State(t.Context())
	require.ErrorContains(t, err, "a: unexpected output")
	for _, bad := range []string{"", " a", "a\nb", strings.Repeat("a", maxOwner+1)} {
		require.ErrorContains(t, Hosts{}.Take(t.Context(), bad, Lease), "want a name on one line")
	}
	require.ErrorContains(t, Hosts{}.Renew(t.Context(), ours, time.Millisecond), "want at least 1s")
	require.ErrorContains(t, Hosts{}.Take(t.Context(), ours, 25*time.Hour), "at most 24h")
	require.False(t, errors.Is(err, ErrHeld))
}

// TestController: the controller is found by each of its task queues.
func TestController(t *testing.T) {
	for queue, want := range map[string]string{
		"heliotrope.1a2b3c4d":            "1a2b3c4d",
		"heliotrope.1a2b3c4d.lab.host-a": "1a2b3c4d",
		"heliotrope":                     "heliotrope",
	} {
		assert.Equal(t, want, Controller(queue))
	}
	assert.Equal(t, ours, Campaign("heliotrope.1a2b3c4d", "night"))
}

// TestScriptSyntax has real shells read the scripts: they must stay plain POSIX.
func TestScriptSyntax(t *testing.T) {
	for _, shell := range [][]string{{"sh"}, {"dash"}, {"busybox", "sh"}, {"bash", "--posix"}} {
		if _, err := exec.LookPath(shell[0]); err != nil {
			continue
		}
		command := exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-n")...)
		command.Stdin = strings.NewReader(Host{Ending: GivingBack}.script())
		output, err := command.CombinedOutput()
		require.NoError(t, err, "%s: %s", shell, output)
		command = exec.CommandContext(t.Context(), shell[0], append(shell[1:], "-n", "-c", GivingBack)...)
		output, err = command.CombinedOutput()
		require.NoError(t, err, "%s: %s", shell, output)
	}
}
