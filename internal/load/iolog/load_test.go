package iolog

import (
	"bytes"
	"cmp"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/load/spec"
)

const (
	beganWall = int64(1_795_000_000_000_000_000)
	beganMono = int64(77_000_000_123)
	token     = uint64(0xFEED_0000_0000_0001)
)

// load is a simulated load in virtual time: its submissions and completions go to the log, and
// the expected entries are remembered.
type load struct {
	replay   Replay
	budget   Budget
	response func(*rand.Rand) float64 // ns
	think    func(*rand.Rand) float64 // ns before a submission
	until    int                      // events of each worker
	forget   bool                     // remember no entries
	event    func(w *worker)          // before each event; it may change the clock

	store *Store
	want  []Entry
}

type worker struct {
	writer    *Writer
	sequence  *spec.Sequence
	random    *rand.Rand
	mono      int64
	ahead     int64
	flying    []inFlight // by end
	events    int
	submitted uint64
	number    int
	pending   []Entry
}

type inFlight struct {
	end   int64
	slot  int
	entry Entry
}

func lognormal(median, sigma float64) func(*rand.Rand) float64 {
	return func(r *rand.Rand) float64 { return median * math.Exp(sigma*r.NormFloat64()) }
}

func (w *worker) stamp() Stamp { return Stamp{WallNs: w.mono + w.ahead, MonoNs: w.mono} }

func plain() spec.Access {
	return spec.Access{Name: "plain", Lines: []spec.Line{{SizeBytes: 4096, SharePercent: 100, ReadPercent: 67, RandomPercent: 100}}}
}

// busy has several lines, workers and targets, bursts, delays and replies.
func busy() spec.Access {
	return spec.Access{Name: "busy", Workers: 2, Targets: 2, Outstanding: 3, Lines: []spec.Line{
		{SizeBytes: 4096, SharePercent: 60, ReadPercent: 50, RandomPercent: 100, Burst: 5, DelayMs: 2},
		{SizeBytes: 8192, SharePercent: 40, ReadPercent: 70, RandomPercent: 10, ReplyBytes: 512},
	}}
}

func of(access spec.Access, until int) *load {
	targets, err := spec.Slices(spec.Target{Device: "/dev/vdb", SizeBytes: 1 << 30}, max(access.Targets, 1))
	if err != nil {
		panic(err)
	}
	return &load{
		replay:   Replay{Access: access, Targets: targets, Seed: 42, Token: token},
		response: lognormal(100_000, .4), think: lognormal(2000, .4), until: until,
	}
}

// run writes the log of all workers, one after the other.
func (l *load) run(t testing.TB) *load {
	t.Helper()
	l.store = NewStore(l.budget)
	hash, err := ConfigHash(l.replay.Access, l.replay.Targets, l.replay.Seed)
	require.NoError(t, err)
	access := l.replay.Access.Complete()
	for number := range access.Workers {
		sequence, err := spec.NewSequence(l.replay.Access, l.replay.Targets, number, l.replay.Seed)
		require.NoError(t, err)
		began := Stamp{beganWall, beganMono}
		w := &worker{sequence: sequence, random: rand.New(rand.NewPCG(7, uint64(number))), mono: beganMono, ahead: began.ahead(), number: number}
		w.writer = NewWriter(Header{
			Token: l.replay.Token, Config: hash, Worker: number, Workers: access.Workers, RateIOPS: access.RateIOPS,
		}, sequence, began, l.store)
		for w.events < l.until {
			l.step(w)
		}
		for _, one := range w.flying {
			w.pending = append(w.pending, one.entry)
		}
		require.NoError(t, w.writer.Close(w.stamp()))
	}
	slices.SortStableFunc(l.want, func(a, b Entry) int { return cmp.Compare(a.CompletedNs, b.CompletedNs) })
	return l
}

// step submits into every slot that is free, or takes the next completion.
func (l *load) step(w *worker) {
	drawn, free := w.sequence.Next()
	if !free {
		w.mono = max(w.mono+100, w.flying[0].end)
		l.complete(w)
		return
	}
	due := w.mono + int64(l.think(w.random)) + int64(drawn.Delay)
	late := int64(0)
	if rate := l.replay.Access.RateIOPS; rate > 0 {
		access := l.replay.Access
		at := beganMono + int64(access.Due(w.submitted*uint64(access.Complete().Workers)+uint64(w.number)))
		due = max(at, w.mono)
		late = due - at
	}
	for len(w.flying) > 0 && w.flying[0].end <= due {
		w.mono = max(w.mono, w.flying[0].end)
		l.complete(w)
	}
	w.mono = due
	l.before(w)
	w.writer.Submitted(w.stamp())
	w.submitted++
	w.events++
	entry := Entry{
		SubmittedNs: w.mono + w.ahead, LateNs: late, OffsetBytes: drawn.OffsetBytes, SizeBytes: int32(drawn.SizeBytes),
		Worker: int16(w.number), Target: int16(drawn.Target), Line: int16(drawn.Line), Write: drawn.Write, Reply: drawn.Reply,
	}
	one := inFlight{end: w.mono + int64(l.response(w.random)), slot: drawn.Slot, entry: entry}
	at, _ := slices.BinarySearchFunc(w.flying, one, func(a, b inFlight) int { return cmp.Compare(a.end, b.end) })
	w.flying = slices.Insert(w.flying, at, one)
}

func (l *load) before(w *worker) {
	if l.event != nil {
		l.event(w)
	}
}

func (l *load) complete(w *worker) {
	one := w.flying[0]
	w.flying = slices.Delete(w.flying, 0, 1)
	l.before(w)
	errno := 0
	if w.random.IntN(1000) == 0 {
		errno = 5
	}
	w.writer.Completed(one.slot, errno, w.stamp())
	w.events++
	one.entry.CompletedNs, one.entry.Error = w.mono+w.ahead, int32(errno)
	if !l.forget {
		l.want = append(l.want, one.entry)
	}
}

// log returns what no host has taken.
func (l *load) log(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	_, err := l.store.WriteTo(&out)
	require.NoError(t, err)
	return out.Bytes()
}

// reading reads files.
func (l *load) reading(files ...[]byte) (got []Entry, account Account, err error) {
	var readers []io.Reader
	for _, file := range files {
		readers = append(readers, bytes.NewReader(file))
	}
	account, err = Read(readers, l.replay, func(e Entry) error { got = append(got, e); return nil })
	return got, account, err
}

// near holds that two lists of entries are the same, except that their times may differ by
// withinNs. It compares each worker separately, because the order of two I/Os that complete at
// the same time is not known.
func near(t testing.TB, want, got []Entry, withinNs int64) {
	t.Helper()
	require.Len(t, got, len(want))
	byWorker := func(a, b Entry) int { return cmp.Compare(a.Worker, b.Worker) }
	want, got = slices.SortedStableFunc(slices.Values(want), byWorker), slices.SortedStableFunc(slices.Values(got), byWorker)
	for i, w := range want {
		g := got[i]
		for _, times := range [][2]*int64{{&w.SubmittedNs, &g.SubmittedNs}, {&w.CompletedNs, &g.CompletedNs}, {&w.LateNs, &g.LateNs}} {
			if off := *times[0] - *times[1]; off >= -withinNs && off <= withinNs {
				*times[0] = *times[1]
			}
		}
		if w != g {
			require.Equal(t, w, g, "entry %d", i)
		}
	}
}

// inOrder holds that entries are in the order of their completion.
func inOrder(t testing.TB, entries []Entry) {
	t.Helper()
	require.True(t, slices.IsSortedFunc(entries, func(a, b Entry) int { return cmp.Compare(a.CompletedNs, b.CompletedNs) }))
}

// blocksOf cuts a log at its blocks.
func blocksOf(t testing.TB, log []byte) (all [][]byte) {
	t.Helper()
	require.NoError(t, scan(bytes.NewReader(log), func(b block) error {
		all = append(all, log[b.byte:b.byte+int64(b.length)])
		return nil
	}))
	require.Equal(t, log, slices.Concat(all...))
	return all
}

const second = int64(time.Second)
