package iolog

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCompleteLog(t *testing.T) {
	deep := plain()
	deep.Outstanding, deep.Targets = 256, 4
	open := busy()
	open.RateIOPS = 5000
	for i := range open.Lines {
		open.Lines[i].Burst, open.Lines[i].DelayMs, open.Lines[i].ReplyBytes = 0, 0, 0
	}
	for name, l := range map[string]*load{
		"one slot": of(plain(), 40_000), "busy": of(busy(), 60_000), "1024 slots": of(deep, 60_000), "open loop": of(open, 40_000),
		"slow": func() *load { l := of(busy(), 2000); l.response = lognormal(4e7, .5); return l }(),
	} {
		t.Run(name, func(t *testing.T) {
			l.run(t)
			got, account, err := l.reading(l.log(t))
			require.NoError(t, err)
			near(t, l.want, got, unitNs)
			inOrder(t, got)
			assert.Equal(t, int64(len(got)), account.IOs)
			assert.Equal(t, DetailAll, account.Detail)
			assert.Empty(t, account.Missing)
			assert.Empty(t, account.Steps)
			assert.Empty(t, account.Histograms)
		})
	}
}

func TestPending(t *testing.T) {
	l := of(busy(), 30_000)
	var last [2]*worker
	l.event = func(w *worker) { last[w.number] = w }
	l.run(t)
	_, account, err := l.reading(l.log(t))
	require.NoError(t, err)
	want := slices.Concat(last[0].pending, last[1].pending)
	require.NotEmpty(t, want)
	byTime := func(a, b Entry) int {
		if a.Worker != b.Worker {
			return int(a.Worker - b.Worker)
		}
		return int(a.SubmittedNs - b.SubmittedNs)
	}
	slices.SortFunc(want, byTime)
	near(t, want, account.Pending, unitNs)
	var errors int64
	for _, entry := range l.want {
		if entry.Error != 0 {
			errors++
		}
	}
	assert.Equal(t, errors, account.Errors)
	assert.Equal(t, 5, account.FirstError)
}

// TestBytes holds the log within its budget of 6 bytes an I/O on response times
// of the kinds that disks have.
func TestBytes(t *testing.T) {
	for _, test := range []struct {
		name            string
		depth           int
		response, think func(*rand.Rand) float64
		slow            int
	}{
		{"RAM, 5 us, depth 1", 1, lognormal(5000, .2), lognormal(1200, .3), 1},
		{"RAM, 60 us, depth 32", 32, lognormal(60000, .3), lognormal(1200, .3), 1},
		{"SSD, 100 us, depth 8", 8, lognormal(100000, .4), lognormal(2000, .4), 1},
		{"guest, 5 ms, depth 1", 1, lognormal(5e6, .4), lognormal(60000, .5), 1},
		{"guest, 40 ms, depth 16", 16, lognormal(4e7, .5), lognormal(60000, .5), 1},
	} {
		l := of(plain(), 4*maxEvents)
		l.replay.Access.Outstanding = test.depth
		l.response, l.think = test.response, test.think
		l.run(t)
		bytes := float64(len(l.log(t))) / float64(len(l.want))
		t.Logf("%-24s %.2f bytes an I/O", test.name, bytes)
		assert.Less(t, bytes, 6.0, test.name)
	}
}

// TestSteps holds that a step of the wall clock is reported at its place, and that times are
// those of the clock at the moment.
func TestSteps(t *testing.T) {
	l := of(busy(), 40_000)
	var want []Step
	l.event = func(w *worker) {
		if w.events == 10_000 || w.events == maxEvents+1 || w.events == 30_000 {
			by := time.Duration(w.events-20_000) * time.Millisecond
			w.ahead += int64(by)
			want = append(want, Step{AtNs: w.mono + w.ahead, By: by})
		}
	}
	l.run(t)
	got, account, err := l.reading(l.log(t))
	require.NoError(t, err)
	byCompletion := func(a, b Entry) int { return int(a.Worker - b.Worker) }
	slices.SortStableFunc(got, byCompletion)
	slices.SortStableFunc(l.want, byCompletion)
	require.Len(t, account.Steps, 6)
	slices.SortFunc(account.Steps, func(a, b Step) int { return int(a.AtNs - b.AtNs) })
	slices.SortFunc(want, func(a, b Step) int { return int(a.AtNs - b.AtNs) })
	for i, step := range account.Steps {
		assert.Equal(t, want[i].By, step.By)
		assert.InDelta(t, 0, want[i].AtNs-step.AtNs, 16)
		assert.Less(t, step.BeforeNs, step.AtNs-int64(step.By))
		assert.InDelta(t, step.AtNs-int64(step.By), step.BeforeNs, 1e9)
	}
	require.Len(t, got, len(l.want))
}

// TestSlewing holds that a wall clock that is being slewed is followed within 50 us.
func TestSlewing(t *testing.T) {
	l := of(plain(), 40_000)
	l.event = func(w *worker) { w.ahead = beganWall - beganMono + (w.mono-beganMono)/2000 } // 500 ppm
	l.run(t)
	got, account, err := l.reading(l.log(t))
	require.NoError(t, err)
	near(t, l.want, got, stepNs+unitNs)
	var all time.Duration
	for _, step := range account.Steps {
		all += step.By
	}
	last := l.want[len(l.want)-1].CompletedNs - beganWall
	assert.InDelta(t, float64(last)/2000, float64(all), 100_000)
}

// TestDelay holds that a block can begin and end while an I/O waits for its delay: the I/O is
// drawn but not submitted.
func TestDelay(t *testing.T) {
	access := plain()
	access.Outstanding = 4
	access.Lines[0].Burst, access.Lines[0].DelayMs = 3, 30_000
	l := of(access, 500)
	l.response = lognormal(8e9, .5)
	l.run(t)
	log := l.log(t)
	assert.Greater(t, len(blocksOf(t, log)), 100)
	got, account, err := l.reading(log)
	require.NoError(t, err)
	near(t, l.want, got, unitNs)
	assert.Empty(t, account.Missing)
}

func TestViolations(t *testing.T) {
	l := of(plain(), 40_000)
	want := 0
	l.event = func(w *worker) {
		if w.events%100 == 1 && w.events > 1 { // directly after a completion or a submission
			w.writer.Violation(3)
			want++
		}
	}
	l.run(t)
	_, account, err := l.reading(l.log(t))
	require.NoError(t, err)
	assert.Equal(t, int64(want), account.Violations)
}

func TestTickSeals(t *testing.T) {
	l := of(plain(), 11)
	l.event = func(w *worker) {
		if w.events == 10 {
			w.writer.Tick(w.stamp())
			assert.Empty(t, l.store.blocks)
			w.mono += 10 * second
			w.writer.Tick(w.stamp())
			assert.Len(t, l.store.blocks, 1)
		}
	}
	l.run(t)
	assert.Len(t, blocksOf(t, l.log(t)), 3)
}

func TestStampsOutOfOrder(t *testing.T) {
	l := of(plain(), 1000)
	l.event = func(w *worker) {
		if w.events == 500 {
			w.writer.last += 100_000
		}
	}
	l.run(t)
	got, _, err := l.reading(l.log(t))
	require.NoError(t, err)
	require.Len(t, got, len(l.want))
	for i := 1; i < len(got); i++ {
		require.GreaterOrEqual(t, got[i].CompletedNs, got[i-1].CompletedNs)
		require.GreaterOrEqual(t, got[i].CompletedNs, got[i].SubmittedNs)
	}
}

func TestWriterEndsOnce(t *testing.T) {
	l := of(plain(), 10)
	var writer *Writer
	l.event = func(w *worker) { writer = w.writer }
	l.run(t)
	require.Error(t, writer.Close(Stamp{}))
	assert.Panics(t, func() { writer.Submitted(Stamp{}) })
}
