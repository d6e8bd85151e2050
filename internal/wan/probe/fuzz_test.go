package probe

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/internal/testnet"
)

// FuzzDatagrams: whatever comes by UDP while a probe is received, no more datagrams are counted than were sent, and a
// stranger's are none of them.
func FuzzDatagrams(f *testing.F) {
	length := PayloadBytes(testnet.IPv4)
	plan := Plan{Token: 7, Loads: []Load{{Datagrams: 2, RateBits: 1e6}, {Datagrams: 3, RateBits: 1e6}}}
	for _, at := range [][2]int{{0, 0}, {0, 1}, {1, 2}, {2, 0}} {
		buffer := make([]byte, length)
		put(buffer, plan.Token, at[0], at[1], 1795374199532000000)
		f.Add(buffer[:sentAt+8], int64(1795374199533000000))
	}
	f.Fuzz(func(t *testing.T, head []byte, arrived int64) {
		if len(head) > length {
			return
		}
		datagram := append(make([]byte, 0, length), head...)[:length]
		account := newAccount(plan, testnet.IPv4)
		ended, err := account.take(datagram, arrived)
		if err != nil {
			require.ErrorIs(t, err, errForeign)
		} else {
			require.Equal(t, plan.Token, binary.BigEndian.Uint64(datagram[tokenAt:]))
			_, _ = account.take(datagram, arrived)
		}
		received, copies := 0, 0
		for i, result := range account.results() {
			require.LessOrEqual(t, result.Received, plan.Loads[i].Datagrams)
			received, copies = received+result.Received, copies+result.Copies
		}
		if err != nil || ended {
			require.Zero(t, received)
		} else {
			require.Equal(t, [2]int{1, 1}, [2]int{received, copies})
		}
	})
}
