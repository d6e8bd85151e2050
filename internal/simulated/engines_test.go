package simulated

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/campaign"
	"heliotrope/internal/load"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// ownCell is a cell whose load our own engine runs.
func ownCell(access campaign.AccessSpec) campaign.Cell {
	c := cell(nfs, "rtt=20ms", 50, 1)
	access.Name, access.Engine = "test", spec.EngineOwn
	c.Access = access
	return c
}

// readOwn returns the I/Os of a trial as they are read from its log.
func (p played) readOwn(t *testing.T, faults ...Faults) ([]iolog.Entry, iolog.Account) {
	t.Helper()
	bed := Open(lane, p.ref, append(faults, Faults{})[0])
	recording, err := bed.Load(p.ref)
	require.NoError(t, err)
	folder := t.TempDir()
	_, err = recording.Fetch(t.Context(), folder, nil)
	require.NoError(t, err)
	config, err := bed.LoadConfig(p.ref)
	require.NoError(t, err)
	var entries []iolog.Entry
	account, err := load.Read(folder, nil, config.Replay(), p.mark(t, trial.WarmUp), func(entry iolog.Entry) error {
		entries = append(entries, entry)
		return nil
	})
	require.NoError(t, err)
	assert.Empty(t, account.Missing)
	assert.Empty(t, account.Steps)
	result, err := load.ResultOf(folder, config.Access)
	require.NoError(t, err)
	assert.Equal(t, result.IOs, account.IOs)
	assert.Len(t, account.Pending, result.Pending)
	require.NotEmpty(t, entries)
	return entries, account
}

// TestIometersLoads: loads that only our own engine can run are in the model's log too, also
// across a migration.
func TestIometersLoads(t *testing.T) {
	small := campaign.AccessLine{SizeBytes: 4096, SharePercent: 50, ReadPercent: 70, RandomPercent: 30}
	large := campaign.AccessLine{SizeBytes: 16384, SharePercent: 50, ReadPercent: 0, RandomPercent: 100, AlignBytes: 4096}
	delayed, replying := small, large
	delayed.Burst, delayed.DelayMs = 4, 20
	replying.ReplyBytes = 512
	for name, access := range map[string]campaign.AccessSpec{
		"several workers and targets": {Outstanding: 3, Workers: 2, Targets: 2, Lines: []campaign.AccessLine{small, large}},
		"bursts, delays and replies":  {Outstanding: 4, Lines: []campaign.AccessLine{delayed, replying}},
	} {
		t.Run(name, func(t *testing.T) {
			entries, account := play(t, reference(ownCell(access)), Faults{}).readOwn(t)
			workers, targets, replies := map[int16]bool{}, map[int16]bool{}, 0
			for _, entry := range entries {
				workers[entry.Worker], targets[entry.Target] = true, true
				if entry.Reply {
					replies++
				}
				require.Positive(t, entry.CompletedNs-entry.SubmittedNs)
				require.LessOrEqual(t, entry.OffsetBytes+int64(entry.SizeBytes), int64(diskBytes))
			}
			whole := access.Complete()
			assert.Len(t, workers, whole.Workers)
			assert.Len(t, targets, whole.Targets)
			assert.Equal(t, name == "bursts, delays and replies", replies > 0)
			assert.LessOrEqual(t, len(account.Pending), whole.Workers*whole.Targets*whole.Outstanding)
		})
	}
}

// TestOpenLoop: the rate decides when I/Os begin, and I/Os that waited for a slot during the
// stall are late.
func TestOpenLoop(t *testing.T) {
	access := campaign.AccessSpec{Outstanding: 4, RateIOPS: 50,
		Lines: []campaign.AccessLine{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 50, RandomPercent: 100}}}
	p := play(t, reference(ownCell(access)), Faults{})
	entries, _ := p.readOwn(t)
	began := entries[0].SubmittedNs - entries[0].LateNs
	late := 0
	for n, entry := range entries[:100] { // before the migration
		assert.Zero(t, entry.LateNs)
		off := time.Duration(entry.SubmittedNs - began - int64(access.Due(uint64(n))))
		assert.Less(t, off.Abs(), 2*time.Second/50, "I/O %d", n) // two may complete in another order
	}
	for _, entry := range entries {
		if entry.LateNs > 0 {
			late++
		}
	}
	assert.Positive(t, late)
}

// TestDiskThatDoesNotComeBack: I/Os in flight then are in flight at the end, and a failed one is
// reported.
func TestDiskThatDoesNotComeBack(t *testing.T) {
	access := campaign.AccessSpec{Outstanding: 2, Lines: []campaign.AccessLine{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 50, RandomPercent: 100}}}
	p := play(t, reference(ownCell(access)), Faults{})
	_, account := p.readOwn(t)
	assert.Zero(t, account.Errors)
	entries, account := p.readOwn(t, Faults{DiskStaysAway: 1})
	assert.Len(t, account.Pending, 2)
	suspended := p.mark(t, trial.After)
	assert.Less(t, entries[len(entries)-1].CompletedNs, suspended.UnixNano())
	entries, account = p.readOwn(t, Faults{TargetUnplugged: 1})
	assert.EqualValues(t, 1, account.Errors)
	assert.EqualValues(t, syscall.EIO, entries[len(entries)-1].Error)
}

// TestHeartbeatsTellOfTheLoad: what heartbeats say of the load agrees with its log.
func TestHeartbeatsTellOfTheLoad(t *testing.T) {
	p := play(t, reference(ownCell(campaign.AccessSpec{Outstanding: 2,
		Lines: []campaign.AccessLine{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 50, RandomPercent: 100}}})), Faults{})
	entries, _ := p.readOwn(t)
	recording, err := Open(lane, p.ref, Faults{}).Witness(p.ref, Open(lane, p.ref, Faults{}).HostNames()[0])
	require.NoError(t, err)
	folder := t.TempDir()
	_, err = recording.Fetch(t.Context(), folder, nil)
	require.NoError(t, err)
	done, beats := 0, 0
	require.NoError(t, witness.ReadHeartbeats(open(t, folder, witness.HeartbeatsFile), func(beat witness.Heartbeat) error {
		for done < len(entries) && entries[done].CompletedNs <= beat.Sent.UnixNano() {
			done++
		}
		require.InDelta(t, done, beat.Completed, 1, "heartbeat %d", beat.Sequence) // the log has 16 ns
		if beat.OldestNs != 0 && done < len(entries) {
			require.LessOrEqual(t, beat.OldestNs, beat.Sent.UnixNano(), "heartbeat %d", beat.Sequence)
		}
		beats++
		return nil
	}))
	assert.Positive(t, beats)
}
