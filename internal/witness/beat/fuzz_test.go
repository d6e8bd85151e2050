package beat

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDatagram: a datagram that is accepted, whatever its sender, is the same when it is written
// and read again.
func FuzzDatagram(f *testing.F) {
	for _, d := range []datagram{{kind: heartbeat, token: 7, number: 1, sent: 5, acked: 9, oldest: -1, completed: 3},
		{kind: ask, token: 7, number: 2, sent: 6, near: true}, {kind: answer, token: 7, number: 2, asked: 6, received: 7, sent: 8, raw: 99}} {
		buffer := make([]byte, datagramBytes)
		d.put(buffer)
		f.Add(buffer)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		first, ours := parse(content)
		if !ours {
			return
		}
		buffer := make([]byte, datagramBytes)
		first.put(buffer)
		again, ours := parse(buffer)
		require.True(t, ours)
		require.Equal(t, first, again)
	})
}
