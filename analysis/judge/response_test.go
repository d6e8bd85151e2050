package judge_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/trial"
)

// still is an attempt in which the guest's clock stood still while the guest was stopped,
// from 52 s to 55 s, so that it lost 3 s at 52 s. The clock is known to ± 3 ms, and the
// hypervisor's stall to ± 7 ms: the place of the step is known to 10 ms, and fio's times to
// 1 ms. Callers add the I/Os.
func still() (dataset.Trial, tables) {
	row, rows := attempt(trial.Teardown), migration()
	rows.io = nil
	for i := range rows.clocks {
		if c := &rows.clocks[i]; c.Machine == trial.Guest && c.TsNs >= at(55_000) {
			c.AheadNs = -3e9
		}
	}
	for i := range rows.heartbeats {
		if h := &rows.heartbeats[i]; h.SentTsNs >= at(55_000) {
			h.SentGuestNs -= 3e9
		}
	}
	return row, rows
}

// flew is an I/O with times of the guest's clock, in µs of the trial.
func flew(op string, fromUs, toUs int64) dataset.IO {
	ours := func(us int64) int64 {
		if us > 52_000_000 {
			us += 3_000_000
		}
		return at(0) + us*1000
	}
	return dataset.IO{TsNs: ours(toUs), GuestTsNs: at(0) + toUs*1000, LatencyNs: ours(toUs) - ours(fromUs), Op: op, SizeBytes: 4096}
}

// stream is one I/O after the other from 30 s to 72 s: of 20 ms each, and around 52 s of
// us.
func stream(op string, us int64) []dataset.IO {
	var ios []dataset.IO
	for from, step := int64(30_000_000), int64(0); from < 72_000_000; from += step {
		step = 20_000
		if from >= 51_800_000 && from < 52_200_000 {
			step = us
		}
		ios = append(ios, flew(op, from, from+step))
	}
	return ios
}

// is checks a longest response time and its uncertainty in ms, which drift makes slightly
// larger.
func is(t *testing.T, got dataset.Response, ms, uncertainty float64) {
	t.Helper()
	if !near(got.Ms, ms) || !about(got.UncertaintyMs, uncertainty) {
		t.Errorf("it is %v ± %v ms, want %v ± %v", value(got.Ms), value(got.UncertaintyMs), ms, uncertainty)
	}
}

func TestLongestResponse(t *testing.T) {
	for name, c := range map[string]struct {
		ios                   []dataset.IO
		ms, uncertainty       float64
		readMs, readUncertain float64
	}{
		// Whichever of them was in flight when the guest was stopped had all of the stall.
		"one at a time": {stream(dataset.OpRead, 20_000), 3020, 7, 3020, 7},
		// One of 0.2 ms had all of it, though its own stamps say 0.2 ms.
		"short ones": {stream(dataset.OpRead, 200), 3000.2, 7, 3000.2, 7},
		// A write was in flight all the time, and no read was in flight for longer than its own 0.2 ms and the stall.
		"a write beside it": {append(stream(dataset.OpRead, 200), flew(dataset.OpWrite, 51_500_000, 52_500_000)), 4000, 7, 3000.2, 7},
		// Where nothing was in flight for most of the time, nobody knows: from 1 ms to 3001 ms.
		"pauses": {[]dataset.IO{flew(dataset.OpRead, 50_000_000, 50_001_000), flew(dataset.OpRead, 51_998_000, 51_999_000),
			flew(dataset.OpRead, 52_500_000, 52_501_000), flew(dataset.OpRead, 68_000_000, 68_001_000)}, 1501, 1507, 1501, 1507},
		// The longest was another one, to 500 ppm.
		"longer elsewhere": {append(stream(dataset.OpRead, 200), flew(dataset.OpRead, 56_000_000, 64_000_000)), 8000, 4, 8000, 4},
		// It was submitted before the end of phase after, by the guest's clock at 67 s, and completed later.
		"beyond the end": {append(stream(dataset.OpRead, 200), flew(dataset.OpRead, 66_900_000, 71_900_000)), 5000, 2.5, 5000, 2.5},
		"before and after it all": {append(stream(dataset.OpRead, 200), flew(dataset.OpRead, 40_000_000, 49_999_000),
			flew(dataset.OpRead, 67_000_000, 77_000_000)), 3000.2, 7, 3000.2, 7},
		// Reads of 10 ms and of 30 ms in turn: from 3010 ms to 3030 ms.
		"short and long ones": {turns(), 3020, 17, 3020, 17},
	} {
		t.Run(name, func(t *testing.T) {
			row, rows := still()
			rows.io = c.ios
			run(t, &row, rows, judge.DefaultLimits())
			is(t, row.Response, c.ms, c.uncertainty)
			is(t, row.ReadResponse, c.readMs, c.readUncertain)
		})
	}
}

func turns() []dataset.IO {
	var ios []dataset.IO
	for from := int64(30_000_000); from < 70_000_000; from += 40_000 {
		ios = append(ios, flew(dataset.OpRead, from, from+10_000), flew(dataset.OpRead, from+10_000, from+40_000))
	}
	return ios
}

// The engine's own stamps are not rounded.
func TestLongestResponseOfTheEngine(t *testing.T) {
	row, rows := still()
	row.Engine, row.IOPending = ptr("heliotrope"), ptr(int64(0))
	rows.io = stream(dataset.OpWrite, 200)
	run(t, &row, rows, judge.DefaultLimits())
	is(t, row.Response, 3000.2, 6)
	is(t, row.WriteResponse, 3000.2, 6)
	require.Equal(t, dataset.Response{InFlight: ptr(false)}, row.ReadResponse, "there was no read")
	require.False(t, *row.Response.InFlight)
}

// A clock that went on during the stall needs no correction.
func TestLongestResponseByAClockThatGoesOn(t *testing.T) {
	row, rows := attempt(trial.Teardown), migration()
	rows.io = append(rows.io, dataset.IO{TsNs: at(55_001), GuestTsNs: at(55_001), LatencyNs: 3_101e6, Op: dataset.OpWrite})
	run(t, &row, rows, judge.DefaultLimits())
	is(t, row.Response, 3101, 7)
	is(t, row.WriteResponse, 3101, 7)
	require.Less(t, *row.ReadResponse.Ms, 1000.0)
}

// An I/O that never completed took at least until the guest was last heard.
func TestPendingResponse(t *testing.T) {
	row, rows := still()
	row.Engine, row.IOPending, row.PendingWriteTsNs = ptr("heliotrope"), ptr(int64(1)), ptr(at(56_000))
	rows.io = stream(dataset.OpRead, 200)
	for range 2 { // the second time judged again
		run(t, &row, rows, judge.DefaultLimits())
		is(t, row.Response, 14_000, 6) // until the end of phase after at 70 s
		is(t, row.WriteResponse, 14_000, 6)
		require.True(t, *row.Response.InFlight)
		require.True(t, *row.WriteResponse.InFlight)
		is(t, row.ReadResponse, 3000.2, 6)
		require.False(t, *row.ReadResponse.InFlight)
	}

	// The longest that is known was another one, but that it was the longest is not.
	row.PendingWriteTsNs = ptr(at(68_000))
	run(t, &row, rows, judge.DefaultLimits())
	is(t, row.Response, 3000.2, 6)
	require.True(t, *row.Response.InFlight)
	is(t, row.WriteResponse, 2000, 6)

	// It was submitted after all that is looked at.
	row.PendingWriteTsNs = ptr(at(71_000))
	run(t, &row, rows, judge.DefaultLimits())
	require.False(t, *row.Response.InFlight)
	require.Equal(t, dataset.Response{InFlight: ptr(false)}, row.WriteResponse)
}

// Where the end of the log is missing, heartbeats report what is in flight, but not whether
// it is a read.
func TestResponseToldByHeartbeats(t *testing.T) {
	row, rows := still()
	rows.io = remove(stream(dataset.OpRead, 200), func(x dataset.IO) bool { return x.TsNs > at(60_000) })
	for i := range rows.heartbeats {
		beat := &rows.heartbeats[i]
		beat.CompletedIOs = dataset.Known(int64(i))
		beat.OldestSubmittedTsNs = dataset.Known(min(beat.SentTsNs, at(60_000)))
	}
	run(t, &row, rows, judge.DefaultLimits())
	is(t, row.Response, 9990, 7) // the last heartbeat of phase after was sent at 69.99 s
	require.True(t, *row.Response.InFlight)
	require.Equal(t, dataset.Response{}, row.ReadResponse)

	// All that they told of has completed.
	row, rows.io = attempt(trial.Teardown), append(rows.io, dataset.IO{TsNs: at(72_000), GuestTsNs: at(69_000), LatencyNs: 12e9, Op: dataset.OpWrite})
	run(t, &row, rows, judge.DefaultLimits())
	is(t, row.Response, 12_000, 6)
	require.False(t, *row.Response.InFlight)
}

// When nothing reports the I/Os in flight, and the load did not go on until the end, the
// longest completed response time is not the longest one.
func TestResponseThatNobodyTold(t *testing.T) {
	row, rows := still()
	rows.io = remove(stream(dataset.OpRead, 200), func(x dataset.IO) bool { return x.TsNs > at(60_000) })
	run(t, &row, rows, judge.DefaultLimits())
	require.Equal(t, dataset.Response{}, row.Response)

	rows.io = stream(dataset.OpRead, 200)
	run(t, &row, rows, judge.DefaultLimits())
	require.Nil(t, row.Response.InFlight)
	is(t, row.Response, 3000.2, 7)
}
