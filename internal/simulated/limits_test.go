package simulated

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/alive"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/limits"
	"heliotrope/internal/poll"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// heard returns a context with a listener of the given patience, and what that listener was told.
func heard(t *testing.T, patience time.Duration) (ctx context.Context, told *int, percent *int64) {
	told, percent = new(int), new(int64)
	return alive.WithListener(t.Context(), alive.Listener{Patience: patience, Tell: func() { *told++ },
		Reached: func(done, total int64) { *percent = 100 * done / total }}), told, percent
}

// TestLargeDisk: filling and comparing 1 TiB takes hours of the model's time, and is reported
// each minute, so that no caller gives up.
func TestLargeDisk(t *testing.T) {
	ctx, told, percent := heard(t, 5*time.Minute)
	bed := Open(lane, reference(cell(replicated, "rtt=300ms", 50, 1)), Faults{})
	system, err := bed.Storage(replicated, nil)
	require.NoError(t, err)
	spec := storage.Spec{Name: "disk", SizeBytes: 1 << 40, Fill: storage.Fill{Seed: 1, Bytes: 1 << 40}, Path: limits.Path{RTT: 300 * time.Millisecond}}
	disk, err := system.Provision(ctx, spec, storage.SiteA)
	require.NoError(t, err)
	assert.Equal(t, provisionTime+10_485_760*time.Millisecond, bed.Now().Sub(began))
	assert.Equal(t, storage.Filled{Bytes: 1 << 40, Took: 10_485_760 * time.Millisecond}, disk.Filled)
	assert.Equal(t, 175, *told)
	assert.Equal(t, int64(100), *percent)
	filled := bed.Now()
	differ, err := system.(storage.Verifier).Verify(ctx, disk)
	require.NoError(t, err)
	assert.Zero(t, differ)
	assert.Equal(t, 19_660_800*time.Millisecond, bed.Now().Sub(filled))
}

// TestCutOff: a call that would be ended on real hosts is ended on the model too, by the model's
// own time.
func TestCutOff(t *testing.T) {
	bed := Open(lane, reference(cell(replicated, "lan", 50, 1)), Faults{})
	ctx, cancel := poll.WithTimeout(t.Context(), bed, time.Hour)
	defer cancel()
	system, err := bed.Storage(replicated, nil)
	require.NoError(t, err)
	_, err = system.(storage.Verifier).Verify(ctx, storage.Disk{Spec: storage.Spec{Name: "disk", SizeBytes: 1 << 40}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, time.Hour, bed.Now().Sub(began), "no longer than it may take")
	require.ErrorIs(t, bed.Wait(ctx, time.Second), context.DeadlineExceeded)

	quiet, _, _ := heard(t, time.Minute)
	require.NoError(t, bed.Wait(quiet, time.Minute))
	require.ErrorContains(t, bed.Wait(quiet, time.Minute+1), "nothing got done for 1m0s of the model's time")
}

// TestLargeGuest: the migration of 64 GiB reports its progress each half minute.
func TestLargeGuest(t *testing.T) {
	c := cell(replicated, "rtt=300ms", 50, 1)
	c.GuestMemoryMiB = 64 << 10
	ref := reference(c)
	for _, phase := range []trial.Phase{trial.Provision, trial.Shape, trial.Migrate} {
		ref.Timeline = append(ref.Timeline, trial.Mark{Phase: phase, At: began})
	}
	bed := Open(lane, ref, Faults{})
	ctx, _, _ := heard(t, 2*time.Minute)
	guest := testbed.Guest{MemoryMiB: c.GuestMemoryMiB}
	order := hypervisor.Order{Domain: bed.GuestAt(storage.SiteA, guest), AtTarget: bed.GuestAt(storage.SiteB, guest), Target: bed.Hypervisor(storage.SiteB)}
	last, longest := began, time.Duration(0)
	order.Progress = func(p hypervisor.Progress) { last, longest = p.At, max(longest, p.At.Sub(last)) }
	account, err := bed.Hypervisor(storage.SiteA).Migrate(ctx, order)
	require.NoError(t, err)
	assert.Greater(t, account.Finished.Sub(account.Started), 90*time.Minute)
	assert.LessOrEqual(t, longest, reportEvery+15*time.Second, "the first is after the set-up")
}

// TestMemoryIsAskedFor: a target without enough memory refuses the guest.
func TestMemoryIsAskedFor(t *testing.T) {
	ref := reference(cell(iscsi, "lan", 50, 1))
	for name, test := range map[string]struct {
		faults    Faults
		memoryMiB int
		attempt   int
		problem   string
	}{
		"it has it":               {Faults{}, 64 << 10, 1, ""},
		"too large":               {Faults{}, 128 << 10, 1, "simulated-1-b has 130048 MiB of free memory, and simulated-1.guest wants 131072"},
		"gone":                    {Faults{MemoryGone: 1}, 112, 1, "simulated-1-b has 0 MiB of free memory, and simulated-1.guest wants 112"},
		"back in another attempt": {Faults{MemoryGone: 1}, 112, 2, ""},
	} {
		ref.Attempt = test.attempt
		err := Open(lane, ref, test.faults).CheckMigration(t.Context(), testbed.Guest{MemoryMiB: test.memoryMiB}, storage.SiteA)
		if test.problem == "" {
			assert.NoError(t, err, name)
		} else {
			assert.EqualError(t, err, test.problem, name)
		}
	}
}
