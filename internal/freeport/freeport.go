// Package freeport gives tests a port to listen on later.
//
// A port that the kernel chose and that was closed again may become another process's outgoing
// connection a moment later, and tests of several packages run side by side. So these ports are
// below the range from which Linux takes ports for outgoing connections
// (net.ipv4.ip_local_port_range, from 32768 on), and are drawn at random.
package freeport

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
)

const (
	lowest   = 20_000
	highest  = 32_767
	attempts = 1_000
)

var (
	mu    sync.Mutex
	given = map[uint16]bool{}
)

// Loopback returns an address on 127.0.0.1 whose port nobody listens on, for TCP or UDP. This
// process returns each port only once.
func Loopback(t testing.TB) netip.AddrPort {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	for range attempts {
		port := uint16(lowest + rand.IntN(highest-lowest+1)) //nolint:gosec // to differ, not to be secret
		if !given[port] && free(port) {
			given[port] = true
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
		}
	}
	t.Fatalf("no port of 127.0.0.1 from %d to %d was free in %d attempts", lowest, highest, attempts)
	return netip.AddrPort{}
}

// free reports whether the port can be listened on.
func free(port uint16) bool {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port)))
	stream, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	defer stream.Close()
	datagrams, err := net.ListenPacket("udp", address)
	if err != nil {
		return false
	}
	return datagrams.Close() == nil
}
