package freeport_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/freeport"
)

// TestLoopback returns ports that can be listened on, each only once, and none that the kernel
// uses for outgoing connections.
func TestLoopback(t *testing.T) {
	given := map[netip.AddrPort]bool{}
	for range 100 {
		at := freeport.Loopback(t)
		assert.Less(t, at.Port(), uint16(32768))
		assert.False(t, given[at], "%s was given twice", at)
		given[at] = true
		stream, err := net.Listen("tcp", at.String())
		require.NoError(t, err)
		require.NoError(t, stream.Close())
	}
}
