package wan

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/inventory"
	"heliotrope/internal/remote/remotetest"
)

// FuzzState: whatever the bridging host says of its queues and its lease (tc's JSON, ethtool's words), what is taken of it
// can be, and can be compared with a profile.
func FuzzState(f *testing.F) {
	profile, err := ParseProfile("rtt=60ms,jitter=2ms,loss=5%,rate=2mbit")
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, text []byte) {
		state, err := parseState(text, "169a:")
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		for _, queue := range []*Queue{state.ToA, state.ToB} {
			if queue == nil {
				continue
			}
			require.True(t, queue.LossPercent >= 0 && queue.LossPercent <= 100, queue)
			require.GreaterOrEqual(t, min(queue.Delay, queue.Jitter), time.Duration(0))
			require.GreaterOrEqual(t, min(queue.RateBits, int64(queue.LimitPackets), queue.SentBytes, queue.SentPackets,
				queue.DroppedPackets, queue.BacklogBytes, queue.BacklogPackets), int64(0))
		}
		require.True(t, state.LeaseHeld || state.LeaseLeft == 0, state)
		if err := state.Check(profile); err != nil {
			require.NotContains(t, err.Error(), "\n")
		}
	})
}

// FuzzFacts: whatever the bridging host's check prints, each problem of it is one line.
func FuzzFacts(f *testing.F) {
	shaper := New(&inventory.Inventory{WAN: inventory.WAN{Device: "eth1"}}, remotetest.NewFake(f, "store"))
	f.Fuzz(func(t *testing.T, fact string) {
		fact, _, _ = strings.Cut(fact, "\n") // Check has taken the lines apart
		if err := shaper.problem(fact); err != nil {
			require.NotContains(t, err.Error(), "\n")
		}
	})
}

// FuzzPing: whatever ping prints, no more came back than was sent, and the shortest round trip is not the longest one.
func FuzzPing(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		ping, err := parsePing(text)
		if err != nil {
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.True(t, ping.Received >= 0 && ping.Received <= ping.Sent && ping.Copies >= 0, ping)
		require.True(t, ping.Min >= 0 && ping.Min <= ping.Mean && ping.Mean <= ping.Max && ping.Max <= longestTrip, ping)
		require.True(t, ping.Median >= 0 && ping.Median <= longestTrip, ping)
		require.True(t, ping.LossPercent() >= 0 && ping.LossPercent() <= 100, ping)
	})
}
