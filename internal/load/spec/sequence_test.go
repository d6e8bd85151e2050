package spec

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// busy is a specification that uses every setting.
func busy() Access { access := golden[2].access; access.Name = "busy"; return access }

const busyBytes = 16<<20 + 1536

// TestShares holds each share within three standard deviations of a million draws.
func TestShares(t *testing.T) {
	access := Access{Name: "shares", Lines: []Line{
		{SizeBytes: 512, SharePercent: 1, ReadPercent: 1, RandomPercent: 99},
		{SizeBytes: 4096, SharePercent: 66, ReadPercent: 67, RandomPercent: 33},
		{SizeBytes: 8192, SharePercent: 33, ReadPercent: 100, RandomPercent: 0},
	}}
	s := sequence(t, access, 1<<50) // so large that no target's end is reached
	const draws = 1_000_000
	var lines, reads, randoms [3]int
	next := int64(0) // where a sequential I/O would be
	drain(s, draws, func(io IO) {
		lines[io.Line]++
		if !io.Write {
			reads[io.Line]++
		}
		if io.OffsetBytes != next {
			randoms[io.Line]++
		}
		next = io.OffsetBytes + int64(io.SizeBytes)
	})
	within := func(what string, got, of, percent int) {
		share := float64(percent) / 100
		deviation := math.Sqrt(float64(of) * share * (1 - share))
		assert.InDelta(t, float64(of)*share, float64(got), 3*deviation+1e-9, what)
	}
	for i, line := range access.Lines {
		within("line", lines[i], draws, line.SharePercent)
		within("reads", reads[i], lines[i], line.ReadPercent)
		within("randoms", randoms[i], lines[i], line.RandomPercent)
	}
}

func TestStreamsDiffer(t *testing.T) {
	access := Access{Name: "own", Workers: 2, Targets: 2, Lines: []Line{{SizeBytes: 512, SharePercent: 100, RandomPercent: 100}}}
	targets, err := Slices(Target{SizeBytes: 1 << 40}, 2)
	require.NoError(t, err)
	offsets := map[int64]bool{}
	for worker := range 2 {
		for seed := range uint64(2) {
			s, err := NewSequence(access, targets, worker, seed)
			require.NoError(t, err)
			drain(s, 20, func(io IO) { offsets[io.OffsetBytes-targets[io.Target].OffsetBytes] = true })
		}
	}
	assert.Len(t, offsets, 80, "no worker, target or seed has another's places")
}

// TestBurst holds that a burst is counted over all targets together, and that its delay comes
// only before its first I/O.
func TestBurst(t *testing.T) {
	access := Access{Name: "burst", Targets: 2, Outstanding: 2, Lines: []Line{
		{SizeBytes: 512, SharePercent: 50, Burst: 4, DelayMs: 3}, {SizeBytes: 1024, SharePercent: 50, Burst: 3},
	}}
	s := sequence(t, access, 1<<20)
	left, line := 0, 0
	drain(s, 10_000, func(io IO) {
		want := time.Duration(0)
		if left == 0 {
			line, left = io.Line, access.Lines[io.Line].Burst
			want = time.Duration(access.Lines[io.Line].DelayMs) * time.Millisecond
		}
		left--
		require.Equal(t, line, io.Line)
		require.Equal(t, want, io.Delay)
		require.Equal(t, io.Slot%2, io.Target)
	})
}

// TestReply holds that a reply follows its request in the same slot in the other direction, and
// does not count as part of a burst.
func TestReply(t *testing.T) {
	s := sequence(t, busy(), busyBytes)
	last := map[int]IO{}
	left, replies := 0, 0
	drain(s, 50_000, func(io IO) {
		before, had := last[io.Slot]
		due := had && !before.Reply && busy().Lines[before.Line].ReplyBytes > 0
		require.Equal(t, due, io.Reply)
		if due {
			replies++
			require.Equal(t, before.Line, io.Line)
			require.Equal(t, !before.Write, io.Write)
			require.Equal(t, 4096, io.SizeBytes)
			require.Zero(t, io.Delay)
		} else if left == 0 {
			left = busy().Lines[io.Line].Burst - 1
		} else {
			left--
		}
		last[io.Slot] = io
	})
	assert.Greater(t, replies, 1000)
	assert.GreaterOrEqual(t, left, 0)
}

// TestRoom holds that every I/O is aligned and within its target, whatever the
// region.
func TestRoom(t *testing.T) {
	for _, test := range []struct{ begin, size, bytes, align int64 }{
		{0, 4096, 4096, 0},           // nothing but one I/O fits
		{512, 4096, 4096, 0},         //
		{512, 8192, 4096, 4096},      // the region is not aligned
		{512, 5632, 512, 1536},       // no power of two
		{1 << 40, 10240, 3072, 1024}, // the end is less than an I/O away
		{0, 1 << 20, 1 << 19, 1536},
	} {
		access := Access{Name: "room", Lines: []Line{
			{SizeBytes: int(test.bytes), SharePercent: 100, ReadPercent: 50, RandomPercent: 50, AlignBytes: int(test.align)},
		}}
		s, err := NewSequence(access, []Target{{OffsetBytes: test.begin, SizeBytes: test.size}}, 0, 1)
		require.NoError(t, err)
		drain(s, 5000, func(io IO) {
			require.GreaterOrEqual(t, io.OffsetBytes, test.begin, test)
			require.LessOrEqual(t, io.OffsetBytes+test.bytes, test.begin+test.size, test)
			require.Zero(t, io.OffsetBytes%max(test.align, 512), test)
		})
	}
}

// TestWrap follows sequential I/Os around the region's end by hand.
func TestWrap(t *testing.T) {
	access := Access{Name: "wrap", Lines: []Line{{SizeBytes: 1536, SharePercent: 100, AlignBytes: 1024}}}
	s, err := NewSequence(access, []Target{{OffsetBytes: 512, SizeBytes: 7168}}, 0, 1)
	require.NoError(t, err)
	var offsets []int64
	drain(s, 5, func(io IO) { offsets = append(offsets, io.OffsetBytes) })
	// 512 is moved up to 1024. 1024 + 1536 = 2560 is moved up to 3072, and so on;
	// 7168 + 1536 would pass 7680.
	assert.Equal(t, []int64{1024, 3072, 5120, 1024, 3072}, offsets)
}

func TestNewSequenceRefuses(t *testing.T) {
	access := Access{Name: "own", Lines: []Line{{SizeBytes: 4096, SharePercent: 100, AlignBytes: 8192}}}
	for want, call := range map[string]func() (*Sequence, error){
		`the I/Os of "own": 0 targets are given: want 1`: func() (*Sequence, error) { return NewSequence(access, nil, 0, 1) },
		`the I/Os of "own": worker 1 of 1: want 0 to 0`:  func() (*Sequence, error) { return NewSequence(access, []Target{{SizeBytes: 8192}}, 1, 1) },
		`the I/Os of "own": target 0 begins at -1: want 0 or more`: func() (*Sequence, error) {
			return NewSequence(access, []Target{{OffsetBytes: -1, SizeBytes: 8192}}, 0, 1)
		},
		`the I/Os of "": name: "" is no name`: func() (*Sequence, error) { return NewSequence(Access{}, nil, 0, 1) },
		`lines[0].align_bytes: an I/O of 4096 bytes, moved to a multiple of`: func() (*Sequence, error) {
			return NewSequence(access, []Target{{OffsetBytes: 512, SizeBytes: 8192}}, 0, 1)
		},
		`lines[0].size_bytes: larger than the disk: 4096 bytes, target has 0`: func() (*Sequence, error) { return NewSequence(access, []Target{{}}, 0, 1) },
	} {
		_, err := call()
		assert.ErrorContains(t, err, want)
	}
}

// TestNextAndCompleteCommute holds what the log relies on: when a Next and a Complete happen at
// the same time, they may be recorded in either order.
func TestNextAndCompleteCommute(t *testing.T) {
	first, second := sequence(t, busy(), busyBytes), sequence(t, busy(), busyBytes)
	order := generator{state: 5}
	for range 50_000 {
		flying := first.InFlight()
		free := len(flying) < len(first.slots)
		switch {
		case !free:
			slot := flying[order.below(uint64(len(flying)))]
			first.Complete(slot)
			second.Complete(slot)
		case len(flying) == 0 || order.below(2) == 0:
			one, _ := first.Next()
			two, _ := second.Next()
			require.Equal(t, one, two)
		default:
			slot := flying[order.below(uint64(len(flying)))]
			one, _ := first.Next()
			first.Complete(slot)
			second.Complete(slot)
			two, _ := second.Next()
			require.Equal(t, one, two)
		}
		require.True(t, bytes.Equal(first.AppendState(nil), second.AppendState(nil)))
	}
}

// TestState holds that a sequence continues identically from its state after any event.
func TestState(t *testing.T) {
	for name, fixed := range map[string]*uint64{"ours": nil, "Iometer's": new(uint64)} {
		t.Run(name, func(t *testing.T) {
			access := busy()
			access.FixedSeed, access.Pattern = fixed, PatternRandom
			s, other := sequence(t, access, busyBytes), sequence(t, access, busyBytes)
			order := generator{state: 9}
			var state []byte
			for range 100_000 {
				state = s.AppendState(state[:0])
				require.Len(t, state, s.stateBytes())
				require.NoError(t, other.SetState(state))
				flying := s.InFlight()
				require.True(t, slices.Equal(flying, other.InFlight()))
				if len(flying) == len(s.slots) || len(flying) > 0 && order.below(2) == 0 {
					slot := flying[order.below(uint64(len(flying)))]
					s.Complete(slot)
					other.Complete(slot)
				} else {
					want, _ := s.Next()
					got, free := other.Next()
					require.True(t, free)
					require.Equal(t, want, got)
					want.Delay = 0
					flight, ok := other.Flying(want.Slot)
					require.True(t, ok)
					require.Equal(t, want, flight)
				}
				require.True(t, bytes.Equal(s.AppendState(nil), other.AppendState(nil)))
			}
			_, ok := s.Flying(len(s.slots))
			assert.False(t, ok)
		})
	}
}

func TestAllocatesNothing(t *testing.T) {
	s := sequence(t, busy(), busyBytes)
	state := make([]byte, 0, s.stateBytes())
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		drain(s, 100, func(IO) {})
		state = s.AppendState(state[:0])
	}))
}

func TestSetStateRefuses(t *testing.T) {
	s := sequence(t, busy(), busyBytes)
	drain(s, 100, func(IO) {})
	state := s.AppendState(nil)
	for want, change := range map[string]func([]byte) []byte{
		"a state of the sequence: written by version 2, this is version 1": func(b []byte) []byte { b[0] = 2; return b },
		"a state of the sequence: 0 bytes, want":                           func([]byte) []byte { return nil },
		"more of line 200: there are 4 lines":                              func(b []byte) []byte { b[1] = 200; return b },
		"more of line 0: there":                                            func(b []byte) []byte { b[1], b[2] = 0, 5; return b },
		"target 0: ":                                                       func(b []byte) []byte { b[14+8+7] = 0x7f; return b },
		"slot 0: flags 255":                                                func(b []byte) []byte { b[14+2*20] = 255; return b },
		"in the wrong line, or in two":                                     func(b []byte) []byte { copy(b[len(b)-2:], b[len(b)-4:len(b)-2]); return b },
	} {
		before := s.AppendState(nil)
		err := s.SetState(change(append([]byte(nil), state...)))
		assert.ErrorContains(t, err, want)
		assert.Equal(t, before, s.AppendState(nil), "nothing has changed")
	}
}

// FuzzSequenceState holds that a state which SetState accepts is a state of the sequence:
// AppendState returns it again, and the sequence continues within its targets.
func FuzzSequenceState(f *testing.F) {
	s := sequence(f, busy(), busyBytes)
	f.Add(s.AppendState(nil))
	drain(s, 1000, func(IO) {})
	f.Add(s.AppendState(nil))
	f.Fuzz(func(t *testing.T, state []byte) {
		s := sequence(t, busy(), busyBytes)
		if s.SetState(state) != nil {
			return
		}
		require.Equal(t, state, s.AppendState(nil))
		drain(s, 100, func(io IO) {
			at := s.targets[io.Target]
			if io.OffsetBytes < at.start || io.OffsetBytes+int64(io.SizeBytes) > at.end {
				t.Fatalf("%+v is not within %d to %d", io, at.start, at.end)
			}
		})
	})
}

// BenchmarkSequence is the cost of drawing and completing an I/O.
func BenchmarkSequence(b *testing.B) {
	for _, depth := range []int{1, 32} {
		access := busy()
		access.Outstanding = depth
		b.Run(fmt.Sprint(2*depth), func(b *testing.B) {
			s := sequence(b, access, busyBytes)
			b.ReportAllocs()
			drain(s, b.N, func(IO) {})
		})
	}
}
