package iolog

import (
	"bytes"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/load/spec"
)

func TestBuckets(t *testing.T) {
	assert.Equal(t, int64(0), Bucket(-5))
	before := int64(-1)
	for _, ns := range []int64{0, 1, 127, 128, 255, 256, 257, 258, 511, 512, 1000, 1e6, 5e9, 3600e9, math.MaxInt64} {
		bucket := Bucket(ns)
		from, to := BucketNs(bucket)
		assert.GreaterOrEqual(t, bucket, before)
		assert.LessOrEqual(t, from, ns)
		if to > 0 { // the last one's end is 2^63
			assert.Greater(t, to, ns)
			assert.LessOrEqual(t, float64(to-from-1)/2, 0.004*float64(from+to)/2, "%d ns", ns)
		}
		before = bucket
	}
	for bucket := range Bucket(1e12) {
		_, to := BucketNs(bucket)
		next, _ := BucketNs(bucket + 1)
		require.Equal(t, to, next)
		require.Equal(t, bucket, Bucket(to-1))
		require.Equal(t, bucket+1, Bucket(to))
	}
}

// TestHistograms holds that beyond the budget each I/O is counted once: in an
// entry or in a histogram, by operation, line and response time.
func TestHistograms(t *testing.T) {
	l := of(busy(), 300_000)
	l.budget.KeepBytes = 100 << 10
	l.run(t)
	got, account, err := l.reading(l.log(t))
	require.NoError(t, err)
	assert.Equal(t, DetailHistogram, account.Detail)
	assert.Empty(t, account.Missing)
	assert.Equal(t, int64(len(l.want)), account.IOs)
	require.Less(t, len(got), len(l.want))

	type key struct {
		worker, line int16
		write        bool
	}
	type sum struct{ ios, errors, bytes, longest int64 }
	want, sums := map[key]sum{}, map[key]sum{}
	counts := map[key]map[int64]int64{}
	add := func(to map[key]sum, k key, s sum) {
		old := to[k]
		to[k] = sum{old.ios + s.ios, old.errors + s.errors, old.bytes + s.bytes, max(old.longest, s.longest)}
	}
	of := map[Entry]bool{}
	for _, e := range got {
		of[Entry{Worker: e.Worker, OffsetBytes: e.OffsetBytes, SubmittedNs: e.SubmittedNs / 1000}] = true
	}
	wantErrors := int64(0)
	for _, e := range l.want {
		if e.Error != 0 {
			wantErrors++
		}
		if of[Entry{Worker: e.Worker, OffsetBytes: e.OffsetBytes, SubmittedNs: e.SubmittedNs / 1000}] ||
			of[Entry{Worker: e.Worker, OffsetBytes: e.OffsetBytes, SubmittedNs: (e.SubmittedNs - unitNs) / 1000}] {
			continue
		}
		one := sum{ios: 1, bytes: int64(e.SizeBytes), longest: e.CompletedNs - e.SubmittedNs}
		if e.Error != 0 {
			one.errors = 1
		}
		k := key{e.Worker, e.Line, e.Write}
		add(want, k, one)
		if counts[k] == nil {
			counts[k] = map[int64]int64{}
		}
		counts[k][Bucket(one.longest)]++
	}
	assert.Equal(t, wantErrors, account.Errors)
	for _, h := range account.Histograms {
		k := key{h.Worker, h.Line, h.Write}
		add(sums, k, sum{h.IOs, h.Errors, h.Bytes, h.LongestNs})
		for _, c := range h.Counts {
			counts[k][c.Bucket] -= c.IOs
		}
	}
	require.NotEmpty(t, want)
	for k, s := range want {
		assert.InDelta(t, s.longest, sums[k].longest, unitNs)
		s.longest = sums[k].longest
		assert.Equal(t, s, sums[k], "%+v", k)
	}
	strays := int64(0) // put into the neighbouring bucket by rounding
	for _, of := range counts {
		for _, left := range of {
			strays += max(left, -left)
		}
	}
	assert.Less(t, strays, int64(len(l.want)/100))
}

// TestOldestInFlight holds that a histogram shows an I/O that hangs.
func TestOldestInFlight(t *testing.T) {
	l := of(plain(), 40_000)
	l.replay.Access.Outstanding = 2
	l.budget.KeepBytes = 1
	first := true
	l.response = func(r *rand.Rand) float64 {
		if first {
			first = false
			return 1e9
		}
		return 100_000
	}
	l.run(t)
	_, account, err := l.reading(l.log(t))
	require.NoError(t, err)
	oldest, longest := int64(0), int64(0)
	for _, h := range account.Histograms {
		oldest, longest = max(oldest, h.OldestInFlightNs), max(longest, h.LongestNs)
	}
	assert.InDelta(t, 1e9, oldest, 11e6)
	assert.InDelta(t, 1e9, longest, 1e6)
}

// TestDetailComesBack holds that events are written again once a host has taken blocks, and that
// each I/O is still there exactly once.
func TestDetailComesBack(t *testing.T) {
	l := of(plain(), 400_000)
	l.budget.KeepBytes = 200 << 10
	var taken []byte
	l.event = func(w *worker) {
		if w.events%200_000 == 150_000 { // somebody is near
			taken = append(taken, l.log(t)...)
			for len(l.store.blocks) > 0 {
				l.store.take()
			}
		}
	}
	l.run(t)
	got, account, err := l.reading(taken, l.log(t))
	require.NoError(t, err)
	assert.Empty(t, account.Missing)
	assert.Equal(t, int64(len(l.want)), account.IOs)
	inHistograms := int64(0)
	from, to := int64(math.MaxInt64), int64(0)
	for _, h := range account.Histograms {
		inHistograms += h.IOs
		from, to = min(from, h.AtNs), max(to, h.AtNs)
	}
	assert.Equal(t, account.IOs, inHistograms+int64(len(got)))
	assert.Greater(t, got[len(got)-1].CompletedNs, from, "detail came back")
	var sum time.Duration
	for _, step := range account.Steps {
		sum += step.By
	}
	assert.Zero(t, sum)
}

func TestStepInHistograms(t *testing.T) {
	l := of(plain(), 100_000)
	l.budget.KeepBytes = 1
	l.event = func(w *worker) {
		if w.events == 50_000 {
			w.ahead += 3 * second
		}
	}
	l.run(t)
	_, account, err := l.reading(l.log(t))
	require.NoError(t, err)
	require.Len(t, account.Steps, 1)
	assert.Equal(t, 3*time.Second, account.Steps[0].By)
}

// TestBudget holds that the memory of a long load whose log nobody takes is KeepBytes plus 3 MiB.
// With 5 MiB to keep, and 7 MiB for the program and its buffers, it is below 16 MiB.
func TestBudget(t *testing.T) {
	access := plain()
	access.Outstanding = 4
	l := of(access, 0)
	sequence, err := spec.NewSequence(access, l.replay.Targets, 0, 42)
	require.NoError(t, err)
	budget := Budget{KeepBytes: 2 << 20}
	store := NewStore(budget)
	hash, err := ConfigHash(access, l.replay.Targets, 42)
	require.NoError(t, err)
	at := Stamp{beganWall, beganMono}
	began := at
	random := rand.New(rand.NewPCG(1, 1))
	// Response times are drawn beforehand: only the log is under test.
	var responses [4096]int64
	for i := range responses {
		responses[i] = int64(lognormal(20_000, .5)(random))
	}
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	heap := func() int64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	before := heap()
	writer := NewWriter(Header{Token: token, Config: hash, Workers: 1}, sequence, at, store)
	const events = 6_000_000
	var most int64
	for n := range events / 2 {
		if _, free := sequence.Next(); !free {
			t.Fatal("no slot")
		}
		at.MonoNs += 300
		at.WallNs += 300
		writer.Submitted(at)
		step := responses[n%len(responses)]
		at.MonoNs += step
		at.WallNs += step
		if flying := sequence.InFlight(); len(flying) == 4 {
			writer.Completed(flying[n%4], 0, at)
		}
		if n%(events/20) == 0 {
			most = max(most, heap()-before)
		}
	}
	require.NoError(t, writer.Close(at))
	most = max(most, heap()-before)
	t.Logf("%d MiB at most, %d s of load", most>>20, (at.MonoNs-began.MonoNs)/second)
	assert.Less(t, most, budget.KeepBytes+3<<20)
	var log bytes.Buffer
	_, err = store.WriteTo(&log)
	require.NoError(t, err)
	l.replay.Access = access
	got := int64(0)
	account, err := Read([]io.Reader{&log}, l.replay, func(Entry) error { got++; return nil })
	require.NoError(t, err)
	assert.Equal(t, int64(events/2-3), account.IOs)
	assert.Equal(t, DetailHistogram, account.Detail)
	assert.Greater(t, got, int64(500_000))
}

func TestAllocatesNothing(t *testing.T) {
	l := of(plain(), 0)
	sequence, err := spec.NewSequence(l.replay.Access, l.replay.Targets, 0, 42)
	require.NoError(t, err)
	at := Stamp{beganWall, beganMono}
	writer := NewWriter(Header{Workers: 1}, sequence, at, NewStore(Budget{}))
	assert.Zero(t, testing.AllocsPerRun(2000, func() {
		sequence.Next()
		at.MonoNs += 1000
		writer.Submitted(at)
		at.MonoNs += 1000
		writer.Completed(0, 0, at)
	}))
}

func BenchmarkWriter(b *testing.B) {
	l := of(plain(), 0)
	sequence, err := spec.NewSequence(l.replay.Access, l.replay.Targets, 0, 42)
	require.NoError(b, err)
	at := Stamp{beganWall, beganMono}
	writer := NewWriter(Header{Workers: 1}, sequence, at, NewStore(Budget{}))
	for b.Loop() { // an I/O
		sequence.Next()
		at.MonoNs += 1000
		writer.Submitted(at)
		at.MonoNs += 5000 + at.MonoNs*7919%4000
		writer.Completed(0, 0, at)
	}
}

// TestWideHistograms: an interval that alone is longer than the limit of all keeps its time,
// because joining it with others would not make it shorter.
func TestWideHistograms(t *testing.T) {
	const workers, lines, responses, intervals = 16, 50, 400, 64
	f := newFolding(workers)
	none := func(int64, func(*spec.IO, int64)) {}
	for at := range int64(intervals) {
		f.advance(at*intervalNs, none)
		for line := range lines {
			for response := range int64(responses) {
				f.completed(&spec.IO{Line: line, SizeBytes: 512}, 1000+response*response*10, 0)
			}
		}
	}
	f.flush(none)
	var account Account
	require.NoError(t, histogramsOf(&header{}, f.appendTo(nil), &account))
	assert.Equal(t, int64(intervals*lines*responses), account.IOs)
	assert.LessOrEqual(t, f.joined, int64(intervals))
	for _, h := range account.Histograms {
		assert.LessOrEqual(t, h.Length, 2*intervals*time.Duration(intervalNs))
	}
}

// TestHistogramPercentiles holds that percentiles from histograms differ by no more than 1 % from
// those of the I/Os themselves, for response times above 10 µs: of a fast disk, of a slow disk,
// and of a disk with a bimodal distribution.
func TestHistogramPercentiles(t *testing.T) {
	normal, slow := lognormal(14_000, .1), lognormal(5e6, .8)
	fast := func(r *rand.Rand) float64 { return max(10_000, normal(r)) }
	for name, response := range map[string]func(*rand.Rand) float64{
		"fast": fast, "slow": slow,
		"two humps": func(r *rand.Rand) float64 {
			if r.IntN(100) < 2 {
				return slow(r)
			}
			return fast(r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := of(plain(), 200_000)
			l.response = response
			l.budget.KeepBytes = 1 // after the first block there are histograms only
			l.run(t)
			got, account, err := l.reading(l.log(t))
			require.NoError(t, err)
			var exact []int64
			for _, entry := range l.want[len(got):] {
				exact = append(exact, entry.CompletedNs-entry.SubmittedNs)
			}
			slices.Sort(exact)
			require.Greater(t, len(exact), 50_000)
			for _, perMille := range []int{500, 990, 999} {
				rank := (len(exact)*perMille + 999) / 1000
				want, counted := exact[rank-1], atRank(account.Histograms, int64(rank))
				t.Logf("%d of 1000: %d ns, by histograms %+.2f %%", perMille, want, 100*(float64(counted)/float64(want)-1))
				assert.InEpsilon(t, want, counted, 0.01)
			}
		})
	}
}

// atRank returns the middle of the bucket with the response time of a rank, counted from 1.
func atRank(histograms []Histogram, rank int64) int64 {
	ios := map[int64]int64{}
	for _, histogram := range histograms {
		for _, count := range histogram.Counts {
			ios[count.Bucket] += count.IOs
		}
	}
	for _, bucket := range slices.Sorted(maps.Keys(ios)) {
		if rank -= ios[bucket]; rank <= 0 {
			from, to := BucketNs(bucket)
			return from + (to-1-from)/2
		}
	}
	return -1
}
