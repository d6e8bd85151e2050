package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/inventory"
	"heliotrope/internal/owner"
	"heliotrope/internal/poll"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// sweptBed is a testbed of two hosts with things of ours.
type sweptBed struct {
	t       *testing.T
	host    *remotetest.Fake
	hosts   owner.Hosts
	things  map[string][]string
	problem error // of a host that is away
	stays   bool  // what is there cannot be removed
	slow    bool  // sweeping takes longer than a lease lasts
	swept   int
	forgo   map[string]error // the hosts on which nothing may be done
}

func newSweptBed(t *testing.T) *sweptBed {
	bed := &sweptBed{t: t, host: remotetest.NewFake(t, "host-a"), things: map[string][]string{
		"host-a": {"domain lab-1.vm", "loop: /dev/loop0 /var/lib/heliotrope/lab-1/d.img"}, "store": {"shaping of eth2"}}}
	bed.hosts = owner.Hosts{{Runner: bed.host}}
	for _, operation := range []string{"take", "release", "state"} {
		bed.host.On(remotetest.Prefix("/bin/sh", "-s", "--", operation))
	}
	return bed
}

func (b *sweptBed) Name() string        { return "lab-1" }
func (b *sweptBed) Leases() owner.Hosts { return b.hosts }
func (b *sweptBed) Close() error        { return nil }

func (b *sweptBed) Forgo(away map[string]error) { b.forgo = away }

func (b *sweptBed) Ours(context.Context) (map[string][]string, error) { return b.things, b.problem }

func (b *sweptBed) Sweep(ctx context.Context) error {
	b.swept++
	if b.slow {
		if err := poll.Pause(ctx, 2*owner.Lease); err != nil {
			return err
		}
	}
	if !b.stays {
		b.things = nil
	}
	return b.problem
}

// sweep runs the command on the bed.
func (b *sweptBed) sweep(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	cmd := (&sweeper{connect: func(*inventory.Inventory) (sweepBed, error) { return b, nil }}).command()
	cmd.SetArgs(append([]string{"../../internal/inventory/testdata/good.yaml"}, args...))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if err := cmd.ExecuteContext(b.t.Context()); err != nil {
		code = report(&errs, err)
	}
	return code, out.String(), errs.String()
}

// leases are the operations on the host's lease, and their owners.
func (b *sweptBed) leases() (operations []string) {
	for _, call := range b.host.Calls() {
		operations = append(operations, call.Args[3])
	}
	return operations
}

// TestSweepListsFirst: without --yes nothing is changed, and the next command is shown.
func TestSweepListsFirst(t *testing.T) {
	bed := newSweptBed(t)
	bed.host.On(remotetest.Prefix("/bin/sh", "-s", "--", "state"), remotetest.Reply{Stdout: "720\ncampaign night of controller 1a2b3c4d\n"})
	code, stdout, stderr := bed.sweep()
	assert.Zero(t, code, stderr)
	assert.Contains(t, stdout, "host-a\n  domain lab-1.vm\n  loop: /dev/loop0 /var/lib/heliotrope/lab-1/d.img\nstore\n  shaping of eth2\n"+
		"host-a is leased to campaign night of controller 1a2b3c4d until ")
	assert.Contains(t, stdout, "testbed lab-1: nothing was removed; `heliotrope sweep ../../internal/inventory/testdata/good.yaml --yes` removes 3 things\n")
	assert.Zero(t, bed.swept)
	assert.Equal(t, []string{"state"}, bed.leases())

	bed = newSweptBed(t)
	bed.things = map[string][]string{"host-a": {"file \x1b[2J/x"}}
	_, stdout, _ = bed.sweep()
	assert.Contains(t, stdout, "host-a\n  file  [2J/x\n")

	bed = newSweptBed(t)
	bed.things = nil
	_, stdout, _ = bed.sweep()
	assert.Equal(t, "testbed lab-1: nothing of ours is there\n", stdout)
}

// TestSweepRemoves: what was listed is removed, under a lease that is given back; doing it
// again is no error.
func TestSweepRemoves(t *testing.T) {
	bed := newSweptBed(t)
	code, stdout, stderr := bed.sweep("--yes")
	assert.Zero(t, code, stderr)
	assert.Contains(t, stdout, "  domain lab-1.vm\n")
	assert.Contains(t, stdout, "testbed lab-1: removed 3 things\n")
	assert.Equal(t, 1, bed.swept)
	assert.Equal(t, []string{"take", "release"}, bed.leases())
	for _, call := range bed.host.Calls() {
		assert.Equal(t, owner.Command("sweep", me(), os.Getpid()), call.Args[5], "its owner is this process")
	}
	code, stdout, stderr = bed.sweep("--yes")
	assert.Zero(t, code, stderr)
	assert.Equal(t, "testbed lab-1: removed 0 things\n", stdout)
}

// TestSweepRenewsItsLeases: a sweep that takes longer than a lease lasts keeps the hosts, and ends when it loses one.
func TestSweepRenewsItsLeases(t *testing.T) {
	renew := remotetest.Prefix("/bin/sh", "-s", "--", "renew")
	synctest.Test(t, func(t *testing.T) {
		bed := newSweptBed(t)
		bed.slow = true
		bed.host.On(renew)
		code, _, stderr := bed.sweep("--yes")
		assert.Zero(t, code, stderr)
		assert.Greater(t, len(bed.leases()), int(owner.Lease/owner.RenewEvery))
	})
	synctest.Test(t, func(t *testing.T) {
		bed := newSweptBed(t)
		bed.slow = true
		bed.host.OnFunc(renew, func(context.Context, remotetest.Call) remotetest.Reply { return remotetest.Reply{ExitCode: 3} })
		code, _, stderr := bed.sweep("--yes")
		assert.Equal(t, exitFailure, code)
		assert.Contains(t, stderr, owner.ErrLapsed.Error())
		assert.NotEmpty(t, bed.things, "nothing more is removed")
	})
}

// TestSweepRefusesLeasedHosts: they are refused unless the owner is named.
func TestSweepRefusesLeasedHosts(t *testing.T) {
	bed := newSweptBed(t)
	const holder = "campaign night of controller 1a2b3c4d"
	bed.host.OnFunc(remotetest.Prefix("/bin/sh", "-s", "--", "take"), func(_ context.Context, call remotetest.Call) remotetest.Reply {
		if call.Args[8] == holder { // whose lease does not count
			return remotetest.Reply{Stdout: "new\n"}
		}
		return remotetest.Reply{ExitCode: 4, Stdout: "720\n" + holder + "\n"}
	})
	for _, args := range [][]string{{"--yes"}, {"--yes", "--force", "campaign day of controller 1a2b3c4d"}} {
		code, _, stderr := bed.sweep(args...)
		assert.Equal(t, exitFailure, code)
		assert.Contains(t, stderr, "testbed lab-1: nothing was removed: host-a is leased to "+holder+" until ")
		assert.Contains(t, stderr, `or end its lease with --force "`+holder+`"`)
		assert.Zero(t, bed.swept)
		assert.NotEmpty(t, bed.things)
	}
	code, _, stderr := bed.sweep("--yes", "--force", holder)
	assert.Zero(t, code, stderr)
	assert.Empty(t, bed.things)
}

// TestSweepLeavesHostsThatCannotBeAsked: they are left alone, because they may belong to
// another owner.
func TestSweepLeavesHostsThatCannotBeAsked(t *testing.T) {
	bed := newSweptBed(t)
	hostB := remotetest.NewFake(t, "host-b")
	hostB.On(remotetest.Prefix("/bin/sh", "-s", "--", "take"), remotetest.Reply{Err: remote.ErrConnectionLost})
	bed.hosts = append(bed.hosts, owner.Host{Runner: hostB})
	code, stdout, stderr := bed.sweep("--yes")
	assert.Equal(t, exitFailure, code)
	assert.Contains(t, stderr, "lease the hosts: host-b: ")
	assert.NotContains(t, stdout, "removed 3")
	assert.Equal(t, 1, bed.swept, "the host that was leased")
	require.ErrorIs(t, bed.forgo["host-b"], remote.ErrConnectionLost)
	assert.Len(t, hostB.Calls(), 1)
	bed.hosts = bed.hosts[1:]
	code, _, stderr = bed.sweep("--yes")
	assert.Equal(t, exitFailure, code)
	assert.Contains(t, stderr, "testbed lab-1: nothing was removed: lease the hosts: host-b: ")
	assert.Equal(t, 1, bed.swept)
}

// TestSweepSaysWhatIsLeft: it reports hosts that are away, and what cannot be removed.
func TestSweepSaysWhatIsLeft(t *testing.T) {
	bed := newSweptBed(t)
	bed.problem = errors.New("host-b: no route to host")
	for _, args := range [][]string{nil, {"--yes"}} {
		code, stdout, stderr := bed.sweep(args...)
		assert.Equal(t, exitFailure, code)
		assert.Contains(t, stderr, "host-b: no route to host")
		assert.NotContains(t, stdout, "removed 3")
	}
	assert.Equal(t, 1, bed.swept, "what can be reached is swept")
	bed = newSweptBed(t)
	bed.stays = true
	code, _, stderr := bed.sweep("--yes")
	assert.Equal(t, exitFailure, code)
	assert.Contains(t, stderr, "testbed lab-1: host-a still has domain lab-1.vm after the sweep")
}

// TestSweepOfACampaign: a campaign file stands for the testbeds that it names.
func TestSweepOfACampaign(t *testing.T) {
	ownHome(t)
	s := &sweeper{testbed: "default"}
	paths, err := s.inventories("../../internal/inventory/testdata/good.yaml")
	require.NoError(t, err)
	assert.Equal(t, []string{"../../internal/inventory/testdata/good.yaml"}, paths)
	for file, want := range map[string]string{
		"../../examples/simulated.yaml": "its testbed is simulated: there is no host to sweep",
		"../../examples/quick.yaml":     "the emulated testbed default was never up: there is nothing to sweep",
		"/nowhere.yaml":                 "no such file",
	} {
		_, err := s.inventories(file)
		require.ErrorContains(t, err, want)
		assert.Equal(t, exitBadInput, report(&bytes.Buffer{}, err), file)
	}
	text, err := os.ReadFile("../../examples/quick.yaml")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "campaign.yaml")
	text = bytes.Replace(text, []byte("testbed: emulated"), []byte("testbed: hosts\ninventories: [lab-1.yaml, /etc/lab-2.yaml]"), 1)
	require.NoError(t, os.WriteFile(file, text, 0o644))
	paths, err = s.inventories(file)
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(filepath.Dir(file), "lab-1.yaml"), "/etc/lab-2.yaml"}, paths)
}
