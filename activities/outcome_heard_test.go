package activities

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/clock"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// hearingBed is a testbed at whose end A heartbeats have arrived.
type hearingBed struct {
	testbed.Bed
	hears *hearing
	now   time.Time
}

func (b hearingBed) Now() time.Time { return b.now }

func (b hearingBed) Machines() []trial.Machine {
	return []trial.Machine{{Name: "host-a", End: string(storage.SiteA)}}
}

func (b hearingBed) Witness(trial.Ref, string) (record.Recording, error) { return b.hears, nil }

func (b hearingBed) Clock(context.Context, string) (clock.Offset, error) { return clock.Offset{}, nil }

// hearing is what a receiver has written, and how much of its end was asked for.
type hearing struct {
	record.Recording
	text  []byte
	asked []int64
}

func (h *hearing) Tail(_ context.Context, _ string, size int64) ([]byte, error) {
	h.asked = append(h.asked, size)
	return h.text[max(0, int64(len(h.text))-size):], nil
}

// TestHeardFarEnough: whatever the interval of the heartbeats, twice the quiet time of them is read, which tells that I/Os
// completed 3 s ago. No more is read than that takes, and never more than mostTailBytes at once.
func TestHeardFarEnough(t *testing.T) {
	const all, stuck = 30 * time.Second, 3 * time.Second
	began := time.Unix(1_800_000_000, 0)
	for _, test := range []struct {
		interval, quiet time.Duration
		reads           int
	}{
		{time.Millisecond, 5 * time.Second, 3},
		{time.Millisecond, time.Minute, 1},
		{witness.HeartbeatInterval, 5 * time.Second, 1},
		{100 * time.Millisecond, 5 * time.Second, 1},
	} {
		var text bytes.Buffer
		require.NoError(t, witness.WriteHeartbeats(&text, func(yield func(witness.Heartbeat) bool) {
			for at := time.Duration(0); at <= all; at += test.interval {
				sequence := uint64(1 + at/test.interval)
				beat := witness.Heartbeat{Arrived: began.Add(at), Sent: began.Add(at), Sequence: sequence,
					Completed: min(sequence, uint64(1+(all-stuck)/test.interval))}
				if !yield(beat) {
					return
				}
			}
		}))
		hears := &hearing{text: text.Bytes()}
		l := looking{LookInput: LookInput{Quiet: test.quiet}, bed: hearingBed{hears: hears, now: began.Add(all + time.Second)}}
		heard, err := l.heard(t.Context())
		require.NoError(t, err)
		require.Equal(t, heardOf{ago: time.Second, counts: true, grew: true, stuck: stuck}, heard, "each %s", test.interval)
		require.Len(t, hears.asked, test.reads, "each %s: %v", test.interval, hears.asked)
		for _, size := range hears.asked {
			require.LessOrEqual(t, size, int64(mostTailBytes))
		}
	}
}

// TestHeardNothing: without any heartbeat nothing can be said of the guest.
func TestHeardNothing(t *testing.T) {
	l := looking{LookInput: LookInput{Quiet: time.Second}, bed: hearingBed{hears: &hearing{}}}
	_, err := l.heard(t.Context())
	require.ErrorContains(t, err, "no heartbeat of the guest has ever arrived at host-a")
}
