package activities

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/testsuite"

	"heliotrope/activities/pulse"
	"heliotrope/activities/pulse/pulsetest"
	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/clock"
	"heliotrope/internal/fault"
	"heliotrope/internal/owner"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// leasedBed is a testbed of one host, which is leased.
type leasedBed struct {
	testbed.Bed
	host  *remotetest.Fake
	other *remotetest.Fake // a second host; nil where there is none
	calls []string         // what was done with the testbed
	fails error            // returned by a teardown
	forgo map[string]error // the hosts on which nothing may be done
}

func newLeasedBed(t *testing.T) *leasedBed {
	bed := &leasedBed{host: remotetest.NewFake(t, "host-a")}
	bed.host.On(lease("take"), remotetest.Reply{Stdout: "new\n"})
	bed.host.On(lease("renew"))
	bed.host.On(lease("release"))
	return bed
}

// lease matches an operation on a host's lease.
func lease(operation string) remotetest.Matcher {
	return remotetest.Prefix("/bin/sh", "-s", "--", operation)
}

// another is a host's answer when another owner has its lease.
var another = remotetest.Reply{ExitCode: 4, Stdout: "720\ncampaign day of controller 99887766\n"}

func (b *leasedBed) Leases() owner.Hosts {
	if b.other != nil {
		return owner.Hosts{{Runner: b.host}, {Runner: b.other}}
	}
	return owner.Hosts{{Runner: b.host}}
}

func (b *leasedBed) Forgo(away map[string]error) { b.forgo = away }

func (b *leasedBed) Machines() []trial.Machine { return []trial.Machine{{Name: "host-a", Clock: true}} }
func (b *leasedBed) Now() time.Time            { return time.Now() }
func (b *leasedBed) Close() error              { return nil }

func (b *leasedBed) Clock(context.Context, string) (clock.Offset, error) {
	b.calls = append(b.calls, "clock")
	return clock.Offset{At: time.Now()}, nil
}

func (b *leasedBed) Teardown(context.Context) error {
	b.calls = append(b.calls, "teardown")
	return b.fails
}

func (b *leasedBed) Facts(context.Context) (testbed.Facts, error) { return testbed.Facts{}, nil }

func (b *leasedBed) open(context.Context, trial.Lane, trial.Ref) (testbed.Bed, error) { return b, nil }

// did are the operations on the host's lease.
func (b *leasedBed) did() (operations []string) {
	for _, call := range b.host.Calls() {
		operations = append(operations, call.Args[3])
	}
	return operations
}

// night is an attempt of a campaign whose folder is there.
func night(t *testing.T) Target {
	t.Helper()
	target := Target{DataDir: t.TempDir(), Ref: trial.Ref{Campaign: "night", Trial: campaign.Trial{Sequence: 1}, Attempt: 1}}
	_, err := dataset.Create(t.Context(), dataset.CampaignFolder(target.DataDir, "night"), dataset.Identity{Campaign: "night", SpecSHA256: "spec"},
		dataset.Frozen{Trials: []campaign.Trial{target.Ref.Trial}})
	require.NoError(t, err)
	return target
}

// TestNothingIsTouchedOfAnother: work that would change a host of another owner fails, says
// for whom to wait, and is retried.
func TestNothingIsTouchedOfAnother(t *testing.T) {
	bed := newLeasedBed(t)
	bed.host.On(lease("take"), another)
	testbeds, links := &Testbed{Open: bed.open}, &Links{Open: bed.open}
	target := night(t)
	for what, do := range map[string]func(context.Context) error{
		"install": func(ctx context.Context) error { return links.Install(ctx, target) },
		"sweep": func(ctx context.Context) error {
			_, err := testbeds.Sweep(ctx, SweepInput{Target: target})
			return err
		},
		"provision": func(ctx context.Context) error {
			_, err := testbeds.Provision(ctx, ProvisionInput{Target: target})
			return err
		},
		"teardown": func(ctx context.Context) error {
			_, err := testbeds.Teardown(ctx, target)
			return err
		},
		"remove": func(ctx context.Context) error { return links.Remove(ctx, target) },
	} {
		_, err := pulsetest.Run(t.Context(), do)
		pulsetest.WantClass(t, err, fault.Infrastructure, "host-a is leased to campaign day of controller 99887766 until ")
		assert.Empty(t, bed.calls, what)
	}
}

// TestNotAskedIsNotOurs: a host that could not be asked for its lease may belong to another
// owner. Work that needs the whole testbed then does nothing, and keeps no host from
// others.
func TestNotAskedIsNotOurs(t *testing.T) {
	target := night(t)
	for what, do := range map[string]func(context.Context, *leasedBed) error{
		"install": func(ctx context.Context, bed *leasedBed) error { return (&Links{Open: bed.open}).Install(ctx, target) },
		"sweep": func(ctx context.Context, bed *leasedBed) error {
			_, err := (&Testbed{Open: bed.open}).Sweep(ctx, SweepInput{Target: target})
			return err
		},
		"provision": func(ctx context.Context, bed *leasedBed) error {
			_, err := (&Testbed{Open: bed.open}).Provision(ctx, ProvisionInput{Target: target})
			return err
		},
		"retain": func(ctx context.Context, bed *leasedBed) error {
			return (&Testbed{Open: bed.open}).Retain(ctx, RetainInput{Target: target, Length: 2 * time.Hour})
		},
	} {
		bed := newLeasedBed(t)
		bed.other = remotetest.NewFake(t, "host-b")
		bed.other.On(lease("take"), remotetest.Reply{Err: remote.ErrConnectionLost})
		_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error { return do(ctx, bed) })
		pulsetest.WantClass(t, err, fault.Infrastructure, "lease the hosts: host-b: ")
		assert.Empty(t, bed.calls, what)
		assert.Equal(t, []string{"take", "release"}, bed.did(), what)
		assert.Len(t, bed.other.Calls(), 1, what)
	}
}

// TestClearedButForHostsThatAreAway: a teardown works on the hosts whose leases were taken,
// leaves the others alone, and is not finished until all hosts were cleared.
func TestClearedButForHostsThatAreAway(t *testing.T) {
	bed := newLeasedBed(t)
	bed.other = remotetest.NewFake(t, "host-b")
	bed.other.On(lease("take"), remotetest.Reply{Err: remote.ErrConnectionLost})
	testbeds, target := &Testbed{Open: bed.open}, night(t)
	tearDown := func() error {
		_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error {
			_, err := testbeds.Teardown(ctx, target)
			return err
		})
		return err
	}
	pulsetest.WantClass(t, tearDown(), fault.Infrastructure, "lease the hosts: host-b: ")
	assert.Equal(t, []string{"teardown"}, bed.calls)
	require.ErrorIs(t, bed.forgo["host-b"], remote.ErrConnectionLost)
	assert.Len(t, bed.forgo, 1)

	bed.calls = nil
	bed.host.On(lease("take"), remotetest.Reply{Err: remote.ErrConnectionLost})
	pulsetest.WantClass(t, tearDown(), fault.Infrastructure, "lease the hosts: host-a: ")
	assert.Empty(t, bed.calls, "nobody was asked: all of it may be another's")

	bed.host.On(lease("take"), remotetest.Reply{Stdout: "kept\n"})
	bed.other.On(lease("take"), remotetest.Reply{Stdout: "new\n"})
	require.NoError(t, tearDown())
	assert.Empty(t, bed.forgo)
}

// TestOwnedMeanwhile: work is done under the campaign's lease, with the controller's queue
// as the owner, and renews the lease meanwhile; losing the lease cuts the work off.
func TestOwnedMeanwhile(t *testing.T) {
	bed := newLeasedBed(t)
	target := night(t)
	testbeds := &Testbed{Open: bed.open}
	var torn TornDown
	_, err := pulsetest.Run(t.Context(), func(ctx context.Context) (err error) {
		torn, err = testbeds.Teardown(ctx, target)
		return err
	})
	require.NoError(t, err)
	require.Equal(t, []string{"teardown"}, bed.calls)
	assert.False(t, torn.Now.IsZero())
	taken := bed.host.Calls()[0].Args
	assert.Equal(t, "campaign night of controller default-test-taskqueue", taken[5])

	bed.host.On(lease("renew"), remotetest.Reply{}, remotetest.Reply{}, another)
	synctest.Test(t, func(t *testing.T) {
		lost := inActivity(t, func(ctx context.Context) error {
			return owning(target, func(ctx context.Context, _ testbed.Bed, _ *pulse.Pulse) error {
				<-ctx.Done()
				return ctx.Err()
			})(ctx, bed, &pulse.Pulse{})
		})
		require.ErrorContains(t, lost, "host-a is leased to campaign day")
	})
	assert.Equal(t, []string{"take", "take", "renew", "renew", "renew"}, bed.did())
}

// TestGivenBackWhenCleared: hosts on which something may be left keep their leases, and end
// it themselves when the leases expire.
func TestGivenBackWhenCleared(t *testing.T) {
	bed := newLeasedBed(t)
	links, target := &Links{Open: bed.open}, night(t)
	remove := func() error {
		_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error { return links.Remove(ctx, target) })
		return err
	}
	bed.fails = errors.New("the guest does not end")
	require.ErrorContains(t, remove(), "the guest does not end")
	assert.Equal(t, []string{"take"}, bed.did())

	bed.fails = nil
	require.NoError(t, remove())
	assert.Equal(t, []string{"take", "take", "release"}, bed.did())
}

// inActivity runs do as an activity, and returns its own error.
func inActivity(t *testing.T, do func(context.Context) error) (err error) {
	t.Helper()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivityWithOptions(func(ctx context.Context) error {
		err = do(ctx)
		return nil
	}, activity.RegisterOptions{Name: "do"})
	_, failed := env.ExecuteActivity("do")
	require.NoError(t, failed)
	return err
}

// TestFollowClocksRenews: an attempt on hosts that were lost to another owner cannot
// be trusted.
func TestFollowClocksRenews(t *testing.T) {
	bed := newLeasedBed(t)
	bed.host.On(lease("renew"), another)
	certifier := &Certifier{Open: bed.open}
	target := night(t)
	_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error { return certifier.FollowClocks(ctx, target) })
	pulsetest.WantClass(t, err, fault.Invalid, "host-a is leased to campaign day of controller 99887766")
	bed.host.On(lease("renew"), remotetest.Reply{ExitCode: 3})
	_, err = pulsetest.Run(t.Context(), func(ctx context.Context) error { return certifier.FollowClocks(ctx, target) })
	pulsetest.WantClass(t, err, fault.Invalid, "the lease of the host has lapsed")
	assert.DirExists(t, filepath.Join(target.DataDir, "work"))
}

// TestReadyLeasesNothing: checking whether a testbed is fit asks whose the hosts are, but
// leases none; a host of another owner is not fit.
func TestReadyLeasesNothing(t *testing.T) {
	target := night(t)
	ready := func(bed *leasedBed) error {
		_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error {
			return (&Testbed{Open: bed.open}).Ready(ctx, ReadyInput{Target: target})
		})
		return err
	}
	for name, state := range map[string]remotetest.Reply{
		"nobody's": {},
		"ours":     {Stdout: "720\ncampaign night of controller default-test-taskqueue\n"},
	} {
		bed := newLeasedBed(t)
		bed.host.On(lease("state"), state)
		require.NoError(t, ready(bed), name)
		assert.Equal(t, []string{"state"}, bed.did(), name)
		assert.Contains(t, bed.calls, "clock", name)
	}
	bed := newLeasedBed(t)
	bed.host.On(lease("state"), remotetest.Reply{Stdout: another.Stdout})
	pulsetest.WantClass(t, ready(bed), fault.Infrastructure, "host-a is leased to campaign day of controller 99887766 until ")
	bed.host.On(lease("state"), remotetest.Reply{Err: remote.ErrConnectionLost})
	pulsetest.WantClass(t, ready(bed), fault.Infrastructure, "ask whose the hosts are: host-a: ")
	assert.Empty(t, bed.calls)
}

// TestRetainLeases: the hosts are leased for as long as the setup is kept.
func TestRetainLeases(t *testing.T) {
	bed := newLeasedBed(t)
	testbeds, target := &Testbed{Open: bed.open}, night(t)
	_, err := pulsetest.Run(t.Context(), func(ctx context.Context) error {
		return testbeds.Retain(ctx, RetainInput{Target: target, Length: 2 * time.Hour})
	})
	require.NoError(t, err)
	calls := bed.host.Calls()
	assert.Equal(t, []string{"campaign night of controller default-test-taskqueue", "7200"}, calls[len(calls)-1].Args[5:7])
	assert.Empty(t, bed.calls)
}
