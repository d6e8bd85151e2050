package activities_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/campaign"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/simulated"
	"heliotrope/internal/trial"
)

// ran is an attempt whose load was run by an engine.
func ran(t *testing.T, engine string) *attempt {
	t.Helper()
	a := newAttempt(t, simulated.Faults{})
	a.target.Ref.Trial.Cell.Access = campaign.AccessSpec{Name: "mixed", Engine: engine, Outstanding: 4, Lines: []campaign.AccessLine{
		{SizeBytes: 4096, SharePercent: 60, ReadPercent: 50, RandomPercent: 100, AlignBytes: 4096},
		{SizeBytes: 65536, SharePercent: 40, ReadPercent: 50, RandomPercent: 100, AlignBytes: 4096}}}
	return a.collected(t).torn(t, trial.Valid)
}

// TestBothEnginesGiveTheSameTables: except for times, which fio's log has in ms, and for
// values that fio does not report.
func TestBothEnginesGiveTheSameTables(t *testing.T) {
	var tables [2][]dataset.IO
	var beats [2][]dataset.Heartbeat
	for i, engine := range []string{spec.EngineOwn, spec.EngineFio} {
		a := ran(t, engine)
		concluded := a.conclude(t)
		require.Equal(t, trial.Valid, concluded.Verdict, "%+v", concluded)
		var err error
		tables[i], err = dataset.All(dataset.ReadIO(a.file("io.parquet")))
		require.NoError(t, err)
		beats[i], err = dataset.All(dataset.ReadHeartbeats(a.file("heartbeats.parquet")))
		require.NoError(t, err)
	}
	require.Len(t, tables[1], len(tables[0]))
	require.NotEmpty(t, tables[0])
	lines := map[int32]int{}
	for i, own := range tables[0] {
		fio := tables[1][i]
		require.Less(t, own.TsNs-fio.TsNs, int64(1e6), "row %d", i)
		require.GreaterOrEqual(t, own.TsNs, fio.TsNs, "row %d", i)
		// The guest's clock is read a little elsewhere.
		require.LessOrEqual(t, max(own.LatencyNs-fio.LatencyNs, fio.LatencyNs-own.LatencyNs), int64(1000), "row %d", i)
		require.True(t, own.Line.Known && own.Worker.Known && own.Target.Known && !own.LateNs.Known, "row %d: %+v", i, own)
		lines[own.Line.Value]++
		own.TsNs, own.GuestTsNs, own.LatencyNs = fio.TsNs, fio.GuestTsNs, fio.LatencyNs
		own.Line, own.Worker, own.Target = fio.Line, fio.Worker, fio.Target
		require.Equal(t, fio, own, "row %d", i)
		require.False(t, fio.Line.Known, "row %d", i)
	}
	assert.Len(t, lines, 2)
	require.Len(t, beats[1], len(beats[0]))
	last := beats[0][len(beats[0])-1]
	assert.True(t, last.CompletedIOs.Known && last.CompletedIOs.Value > 0 && last.OldestSubmittedTsNs.Known, "%+v", last)
	assert.False(t, beats[1][len(beats[1])-1].CompletedIOs.Known)
}

// TestDamagedLogOfBlocks: damage of our own engine's log is reported.
func TestDamagedLogOfBlocks(t *testing.T) {
	for name, c := range map[string]struct {
		file   string
		change func(string) string
		want   string
	}{
		"a cut log":     {engine.LogFile, func(text string) string { return text[:len(text)-5] }, "lacks worker 0: the end"},
		"an empty log":  {engine.LogFile, func(string) string { return "" }, "all blocks"},
		"a missing log": {engine.LogFile, nil, "no such file"},
		"another count": {engine.ResultFile, func(string) string { return `{"ios": 1}` }, "its engine counted 1"},
		"no result":     {engine.ResultFile, nil, "no such file"},
		"a failed I/O":  {engine.ResultFile, func(string) string { return `{"ios": 1, "errors": 1, "first_errno": 5}` }, "input/output error"},
	} {
		t.Run(name, func(t *testing.T) {
			a := ran(t, spec.EngineOwn)
			path := a.raw(trial.Guest, c.file)
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			if c.change == nil {
				require.NoError(t, os.Remove(path))
			} else {
				require.NoError(t, os.WriteFile(path, []byte(c.change(string(text))), 0o600))
			}
			concluded := a.conclude(t)
			assert.NotEqual(t, trial.Valid, concluded.Verdict)
			assert.Contains(t, concluded.Reason, c.want)
		})
	}
}

// TestEngineInTheRow checks what the row says about the load: what each engine reports, and
// null for the rest.
func TestEngineInTheRow(t *testing.T) {
	own := ran(t, spec.EngineOwn)
	own.conclude(t)
	row := own.row(t)
	require.NotNil(t, row.IOPending)
	assert.Equal(t, spec.EngineOwn, *row.Engine)
	assert.Equal(t, "all", *row.IODetail)
	assert.Equal(t, int64(0), *row.IOErrors)
	assert.Equal(t, int64(0), *row.HistogramRows)
	assert.NotNil(t, row.IOMethod)
	assert.Nil(t, row.FirstErrno)
	assert.Nil(t, row.IOViolations, "it was not verified")
	assert.Nil(t, row.OfferedShort, "the loop is closed")
	assert.Equal(t, *row.IOPending > 0, row.PendingReadTsNs != nil || row.PendingWriteTsNs != nil)

	fio := ran(t, spec.EngineFio)
	fio.conclude(t)
	row = fio.row(t)
	assert.Equal(t, spec.EngineFio, *row.Engine)
	assert.Equal(t, int64(0), *row.IOErrors)
	assert.Nil(t, row.IOMethod)
	assert.Nil(t, row.IOPending)
}
