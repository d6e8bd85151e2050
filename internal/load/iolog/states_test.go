package iolog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// small is a log of a dozen blocks of each of two workers.
func small(t testing.TB) (*load, []byte) {
	l := of(busy(), 400)
	l.response = lognormal(4e9, .5) // 10 s are few events
	l.run(t)
	log := l.log(t)
	require.Greater(t, len(blocksOf(t, log)), 20)
	return l, log
}

// again gives a block another CRC, after a change.
func again(block []byte) []byte {
	end := len(block) - trailerBytes
	return binary.LittleEndian.AppendUint32(slices.Clone(block[:end]), crc32.Checksum(block[:end], castagnoli))
}

// TestCut cuts a log at any place: exactly the complete blocks are read, and what is missing is
// reported.
func TestCut(t *testing.T) {
	l, log := small(t)
	blocks := blocksOf(t, log)
	random := rand.New(rand.NewPCG(1, 2))
	known := map[int][2]int{} // by complete blocks: entries, pending
	for range 4000 {
		cut := random.IntN(len(log) + 1)
		complete, ends, total := 0, [2]bool{}, 0
		for ; complete < len(blocks) && total+len(blocks[complete]) <= cut; complete++ {
			h, err := parseHeader(blocks[complete])
			require.NoError(t, err)
			ends[h.worker] = h.kind == kindEnd
			total += len(blocks[complete])
		}
		got, account, err := l.reading(log[:cut])
		require.NoError(t, err)
		want, seen := known[complete]
		if !seen {
			whole, of, err := l.reading(slices.Concat(blocks[:complete]...))
			require.NoError(t, err)
			want = [2]int{len(whole), len(of.Pending)}
			known[complete] = want
			near(t, entriesOf(l, blocks[:complete]), whole, unitNs)
		}
		require.Equal(t, want, [2]int{len(got), len(account.Pending)}, "cut at %d", cut)
		missing := 0
		for _, end := range ends {
			if !end {
				missing++
			}
		}
		require.Len(t, account.Missing, missing, "cut at %d: %v", cut, account.Missing)
	}
}

// entriesOf are the wanted entries of blocks, by the numbers of completions.
func entriesOf(l *load, blocks [][]byte) (all []Entry) {
	var until [2]uint64
	for _, block := range blocks {
		h, err := parseHeader(block)
		if err != nil {
			panic(err)
		}
		until[h.worker] = h.complete + completions(block)
	}
	for worker := range 2 {
		n := uint64(0)
		for _, entry := range l.want {
			if int(entry.Worker) == worker && n < until[worker] {
				all = append(all, entry)
				n++
			}
		}
	}
	return all
}

// completions counts those of a block of events.
func completions(block []byte) (n uint64) {
	h, err := parseHeader(block)
	if err != nil {
		panic(err)
	}
	var u unpacker
	if err := u.unpack(block[headerBytes+h.stateBytes : h.length-trailerBytes]); err != nil {
		panic(err)
	}
	for event := range h.events {
		if plane := u.planes[planeKinds]; len(plane) > 0 {
			n += uint64(plane[event/8] >> (event % 8) & 1)
		}
	}
	return n
}

// TestPendingAtACut holds that it is known exactly which I/Os were in flight where a log is cut.
func TestPendingAtACut(t *testing.T) {
	l := of(plain(), 3*maxEvents)
	l.replay.Access.Outstanding = 8
	l.run(t)
	blocks := blocksOf(t, l.log(t))
	got, account, err := l.reading(blocks[0])
	require.NoError(t, err)
	near(t, l.want[:len(got)], got, unitNs)
	require.Equal(t, []string{"worker 0: the end, after block 0"}, account.Missing)
	require.Len(t, account.Pending, maxEvents-2*len(got))
	for _, pending := range account.Pending {
		found := slices.ContainsFunc(l.want[len(got):], func(e Entry) bool {
			return e.OffsetBytes == pending.OffsetBytes && e.Write == pending.Write && e.SubmittedNs-pending.SubmittedNs < 17
		})
		assert.True(t, found, "%+v", pending)
	}
}

// TestFlippedBit holds that a block with a flipped bit is missing, and the others are not.
func TestFlippedBit(t *testing.T) {
	l, log := small(t)
	blocks := blocksOf(t, log)
	whole, _, err := l.reading(log)
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		bit := random.IntN(8 * len(log))
		bad := slices.Clone(log)
		bad[bit/8] ^= 1 << (bit % 8)
		hit, start := 0, 0
		for ; start+len(blocks[hit]) <= bit/8; hit++ {
			start += len(blocks[hit])
		}
		h, err := parseHeader(blocks[hit])
		require.NoError(t, err)
		got, account, err := l.reading(bad)
		require.NoError(t, err)
		want := fmt.Sprintf("worker %d: blocks %d to %d, with %d I/Os", h.worker, h.number, h.number, len(whole)-len(got))
		if h.kind == kindEnd {
			want = fmt.Sprintf("worker %d: the end, after block %d", h.worker, h.number-1)
		} else {
			require.Equal(t, completions(blocks[hit]), uint64(len(whole)-len(got)))
		}
		require.Equal(t, []string{want}, account.Missing, "bit %d", bit)
	}
}

// TestHole holds that after a missing block the I/Os are exactly those of the other blocks, with
// their times; also those that were submitted before the missing block.
func TestHole(t *testing.T) {
	open := busy()
	open.RateIOPS = 12
	for i := range open.Lines {
		open.Lines[i].Burst, open.Lines[i].DelayMs, open.Lines[i].ReplyBytes = 0, 0, 0
	}
	for name, access := range map[string]func() *load{
		"closed loop": func() *load { l := of(busy(), 900); l.response = lognormal(3e8, .5); return l },
		"open loop":   func() *load { l := of(open, 900); l.response = lognormal(8e8, .5); return l },
	} {
		t.Run(name, func(t *testing.T) {
			l := access().run(t)
			blocks := blocksOf(t, l.log(t))
			for hole, block := range blocks {
				h, err := parseHeader(block)
				require.NoError(t, err)
				if h.kind == kindEnd {
					continue
				}
				got, account, err := l.reading(slices.Concat(slices.Delete(slices.Clone(blocks), hole, hole+1)...))
				require.NoError(t, err)
				require.Len(t, account.Missing, 1)
				var want []Entry
				n := uint64(0)
				for _, entry := range l.want {
					if int(entry.Worker) == h.worker {
						n++
						if n > h.complete && n <= h.complete+completions(block) {
							continue
						}
					}
					want = append(want, entry)
				}
				near(t, want, got, 2*unitNs)
				require.Equal(t, completions(block), uint64(len(l.want)-len(got)))
			}
		})
	}
}

// TestDoubled holds that blocks may occur twice, in any order and in several files, none of which
// need be complete.
func TestDoubled(t *testing.T) {
	l, log := small(t)
	blocks := blocksOf(t, log)
	want, _, err := l.reading(log)
	require.NoError(t, err)
	random := rand.New(rand.NewPCG(5, 6))
	var files [3][]byte
	for _, at := range random.Perm(2 * len(blocks)) {
		file := &files[random.IntN(3)]
		*file = append(*file, blocks[at%len(blocks)]...)
	}
	files[1] = slices.Concat([]byte("noise "), blocks[3][:200], files[1], blocks[4][:50])
	got, account, err := l.reading(files[:]...)
	require.NoError(t, err)
	require.Equal(t, want, got)
	assert.Empty(t, account.Missing)

	// As files, which are not read into memory as a whole.
	path := filepath.Join(t.TempDir(), "load.iolog")
	require.NoError(t, os.WriteFile(path, log, 0o600))
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	got = nil
	_, err = Read([]io.Reader{file, bytes.NewReader(files[0])}, l.replay, func(e Entry) error { got = append(got, e); return nil })
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestRefused(t *testing.T) {
	l, log := small(t)
	blocks := blocksOf(t, log)
	change := func(number int, change func(block []byte)) []byte {
		bad := slices.Clone(blocks[number])
		change(bad)
		return again(bad)
	}
	other := of(busy(), 900)
	other.replay.Token = 0xBEEF
	foreign := other.run(t).log(t)
	seed := of(busy(), 900)
	seed.replay.Seed = 43
	elsewhere := seed.run(t).log(t)
	for name, test := range map[string]struct {
		log  []byte
		is   error
		text string
	}{
		"another content":       {slices.Concat(log, change(3, func(b []byte) { b[48]++ })), ErrDamaged, "worker 0: block 3 is there with two contents (CRCs "},
		"another attempt":       {slices.Concat(log, foreign), ErrForeign, "it is of the attempt with token 000000000000beef, not feed000000000001"},
		"another configuration": {elsewhere, ErrForeign, "it is of configuration "},
		"another version": {slices.Concat(log, change(2, func(b []byte) { b[13] = 9 })), ErrForeign,
			"written by version 9 of the sequence, this program has version 1"},
		"not after the one before": {slices.Concat(blocks[0], change(1, func(b []byte) { b[80]++ })), ErrDamaged,
			"worker 0: block 0 is not what block 1 was written after"},
		"another kind":   {change(0, func(b []byte) { b[12] = 7 }), ErrDamaged, "kind 7 of a block is not known"},
		"more workers":   {change(0, func(b []byte) { b[26] = 3 }), ErrDamaged, "a block of 3 workers, where there are 2"},
		"another worker": {change(0, func(b []byte) { b[24] = 2 }), ErrDamaged, "worker 2 of 2"},
		"unknown plane": {change(0, func(b []byte) {
			h, _ := parseHeader(b)
			b[headerBytes+h.stateBytes] = 77
		}), ErrDamaged, "worker 0, block 0: the log of the load is damaged: plane 77"},
		"unknown mode": {change(0, func(b []byte) {
			h, _ := parseHeader(b)
			b[headerBytes+h.stateBytes+1] = 5
		}), ErrDamaged, "mode 5"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := l.reading(test.log)
			require.ErrorIs(t, err, test.is)
			assert.ErrorContains(t, err, test.text)
		})
	}
}

// TestAnotherSequence holds that a state to which the previous I/Os do not lead is refused, even
// if CRC, version and configuration are right.
func TestAnotherSequence(t *testing.T) {
	l, log := small(t)
	blocks := blocksOf(t, log)
	bad := slices.Clone(blocks[1])
	bad[headerBytes+6]++ // the worker's stream
	_, _, err := l.reading(blocks[0], again(bad))
	require.ErrorIs(t, err, ErrForeign)
	assert.ErrorContains(t, err, "worker 0, block 1: the log is not of this load: the I/Os before it do not lead to it")
}

func TestNothing(t *testing.T) {
	l, _ := small(t)
	got, account, err := l.reading()
	require.NoError(t, err)
	assert.Empty(t, got)
	assert.Equal(t, []string{"worker 0: all blocks", "worker 1: all blocks"}, account.Missing)
}

func FuzzBlock(f *testing.F) {
	l := of(busy(), 40)
	for _, block := range blocksOf(f, l.run(f).log(f)) {
		f.Add(block)
	}
	full := of(busy(), 2000)
	full.budget.KeepBytes = 1
	for _, block := range blocksOf(f, full.run(f).log(f)) {
		f.Add(block)
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		if _, err := parseHeader(block); err != nil {
			return
		}
		// A block that a machine could have written: everything but its contents is right.
		block = binary.LittleEndian.AppendUint32(slices.Clone(block[:max(len(block)-trailerBytes, headerBytes)]), 0)
		binary.LittleEndian.PutUint32(block[8:], uint32(len(block)))
		_, account, err := l.reading(again(block))
		if err == nil && len(account.Missing) == 0 {
			t.Error("a block is no log")
		}
	})
}

func FuzzRead(f *testing.F) {
	l := of(busy(), 40)
	l.run(f)
	log := l.log(f)
	f.Add(log)
	f.Add(log[:len(log)/2])
	f.Fuzz(func(t *testing.T, log []byte) {
		got, account, err := l.reading(log)
		if err == nil && account.IOs < int64(len(got)) {
			t.Error("less I/Os than entries")
		}
	})
}
