// Package freeport gives tests a port to listen on later.
//
// A port that the kernel chose, and that was closed again, can be another process'
// outgoing connection a moment later, and tests of several packages run side by side.
// So the ports here are below those that Linux gives to outgoing connections
// (net.ipv4.ip_local_port_range, from 32768 on), and drawn by chance.
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

// Loopback is an address of 127.0.0.1 whose port nobody listens on, for TCP or UDP, and
// that this process gives to nobody else.
func Loopback(t *testing.T) netip.AddrPort {
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

// free says whether the port can be listened on.
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
