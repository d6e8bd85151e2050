package samples_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/samples"
	"heliotrope/internal/trial"
)

func ptr[T any](v T) *T { return &v }

const second = int64(1e9)

// write writes a trial with I/Os, and histograms, that begins at 100 s; its phases are 10
// s, 4 s and 10 s long, and the guest is suspended after 12 s.
func write(t testing.TB, folder, key string, verdict trial.Verdict, io []dataset.IO, histograms ...dataset.Histogram) samples.Trial {
	t.Helper()
	row := &dataset.Trial{Key: key, CellID: "cell", Counted: true, Verdict: string(verdict), Folder: dataset.TrialFolder("nfs", 0, key), MigrationStartedTsNs: ptr(110 * second)}
	written, err := dataset.WriteTrial(dataset.TrialFiles{CampaignFolder: folder, Folder: row.Folder, IO: dataset.Rows(io), Histograms: dataset.Rows(histograms),
		Provenance: dataset.Provenance{dataset.KeyCampaign: "c", dataset.KeyTestbedKind: "emulated"}})
	require.NoError(t, err)
	row.SetFiles(written)
	one := samples.Trial{Row: row, Witnesses: []dataset.Witness{{Witness: dataset.WitnessGuest, FromTsNs: ptr(111 * second)}, {Witness: dataset.WitnessHypervisor, FromTsNs: ptr(112 * second)}}}
	for _, phase := range []struct {
		name     string
		from, to int64
	}{{dataset.Before, 100, 110}, {dataset.During, 110, 114}, {dataset.After, 114, 124}} {
		one.Phases = append(one.Phases, dataset.Phase{Phase: phase.name, StartedTsNs: phase.from * second, EndedTsNs: phase.to * second, IOs: ptr(int64(1))})
	}
	return one
}

func io(tsNs int64, latencyMs float64, errno int32) dataset.IO {
	return dataset.IO{TsNs: tsNs, GuestTsNs: tsNs, LatencyNs: int64(latencyMs * 1e6), Op: dataset.OpRead, SizeBytes: 512, Error: errno}
}

// bin is the bin of a moment, in seconds from the trial's beginning: 240 bins cover 24 s.
func bin(seconds float64) int { return int(seconds * 10) }

// TestOf: each bin keeps its longest response time, phases have the I/Os that completed in
// them, and failed trials are only in the timeline.
func TestOf(t *testing.T) {
	folder := t.TempDir()
	trials := []samples.Trial{
		write(t, folder, "00001.1", trial.Valid, []dataset.IO{
			io(99*second, 9000, 0), // before the phases: in nothing
			io(100*second+10e6, 3, 0), io(100*second+20e6, 7, 0), io(100*second+30e6, 5, 0),
			io(105*second, 50, 5), // failed
			io(113*second+50e6, 1100, 0), io(124*second-1, 4, 0), io(124*second, 8000, 0),
		}),
		write(t, folder, "00002.1", trial.TargetFailed, []dataset.IO{io(101*second, 6, 0)}),
		write(t, folder, "00003.1", trial.Invalid, []dataset.IO{io(101*second, 600, 0)}),
	}
	cell, err := samples.Of(t.Context(), folder, trials)
	require.NoError(t, err)
	assert.InDelta(t, -12, cell.FromS, 1e-9)
	assert.InDelta(t, 0.1, cell.BinS, 1e-9)
	require.Len(t, cell.Trials, 2, "an invalid trial shows nothing")
	first := cell.Trials[0]
	assert.Equal(t, 7.0, first.MaxMs[bin(0)])
	assert.True(t, math.IsNaN(first.MaxMs[bin(0.1)]))
	assert.Equal(t, 50.0, first.MaxMs[bin(5)])
	assert.Equal(t, 1100.0, first.MaxMs[bin(13)])
	assert.Equal(t, 4.0, first.MaxMs[samples.Bins-1])
	assert.Equal(t, []bool{false, true}, []bool{first.Failed, cell.Trials[1].Failed})
	assert.Equal(t, 1, cell.Valid)
	assert.Equal(t, []int64{3, 1, 1}, []int64{cell.Slower[dataset.Before].Count, cell.Slower[dataset.During].Count, cell.Slower[dataset.After].Count})
	assert.Equal(t, int64(1100e6), cell.Slower[dataset.During].LongestNs)
	assert.Equal(t, map[samples.Moment]int{samples.BySuspension: 2}, cell.Aligned)
}

// TestHistograms: I/Os for which a load's log had no room are counted, too.
func TestHistograms(t *testing.T) {
	folder := t.TempDir()
	cell, err := samples.Of(t.Context(), folder, []samples.Trial{write(t, folder, "00001.1", trial.Valid, []dataset.IO{io(101*second, 6, 0)},
		dataset.Histogram{TsNs: 102 * second, LengthNs: 10e6, Op: dataset.OpRead, IOs: 3, MaxNs: 100, Counts: "5:2 100:1"})})
	require.NoError(t, err)
	assert.Equal(t, int64(4), cell.Slower[dataset.Before].Count)
	assert.Equal(t, 100e-6, cell.Trials[0].MaxMs[bin(2.001)])
}

// TestSwitchover: the best known moment is used.
func TestSwitchover(t *testing.T) {
	one := write(t, t.TempDir(), "00001.1", trial.Valid, nil)
	for _, want := range []struct {
		at      int64
		moment  samples.Moment
		without func()
	}{
		{112 * second, samples.BySuspension, func() { one.Witnesses = one.Witnesses[:1] }},
		{111 * second, samples.ByStall, func() { one.Witnesses = nil }},
		{110 * second, samples.ByMigration, func() { one.Row.MigrationStartedTsNs = nil; one.Row.PhaseTsNs[5] = ptr(109 * second) }},
		{109 * second, samples.ByPhase, func() { one.Row.PhaseTsNs[5] = nil }},
	} {
		at, moment, ok := one.Switchover()
		require.True(t, ok)
		assert.Equal(t, want.at, at)
		assert.Equal(t, want.moment, moment)
		want.without()
	}
	_, _, ok := one.Switchover()
	assert.False(t, ok)
}

// TestSort: a sentinel, and an attempt that was tried again, belong to no group.
func TestSort(t *testing.T) {
	rows := []dataset.Trial{
		{Key: "00001.1", CellID: "a", Verdict: "invalid"}, {Key: "00001.2", CellID: "a", Counted: true, Verdict: "valid"},
		{Key: "00002.1", CellID: "a", Counted: true, Sentinel: true, Verdict: "valid"},
		{Key: "00003.1", CellID: "a", Counted: true, Direction: "return", Verdict: "valid"},
	}
	sorted := samples.Sort(rows, []dataset.Phase{{Trial: "00001.2"}, {Trial: "00001.1"}}, []dataset.Witness{{Trial: "00003.1"}})
	require.Len(t, sorted, 2)
	outbound, back := sorted[group.Key{CellID: "a", Direction: "outbound"}], sorted[group.Key{CellID: "a", Direction: "return"}]
	require.Len(t, outbound, 1)
	require.Len(t, back, 1)
	assert.Equal(t, []any{"00001.2", 1, "00003.1", 1}, []any{outbound[0].Row.Key, len(outbound[0].Phases), back[0].Row.Key, len(back[0].Witnesses)})
}
