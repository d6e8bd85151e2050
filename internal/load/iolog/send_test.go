package iolog

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// host is a site's host that takes blocks, in memory.
type host struct {
	address netip.AddrPort
	close   func() // ends it, and holds that it ends well

	mutex sync.Mutex
	bytes bytes.Buffer
}

func (h *host) Write(block []byte) (int, error) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return h.bytes.Write(block)
}

func (h *host) file() []byte {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return bytes.Clone(h.bytes.Bytes())
}

// freeAddress is one on which nobody listens.
func freeAddress(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return netip.MustParseAddrPort(listener.Addr().String())
}

func receiving(t *testing.T, from netip.Addr, token uint64) *host {
	t.Helper()
	h := &host{address: freeAddress(t)}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Receive(ctx, h.address, from, token, h) }()
	h.close = sync.OnceFunc(func() {
		end()
		assert.NoError(t, <-done)
	})
	t.Cleanup(h.close)
	h.ready(t)
	return h
}

// ready waits until it listens.
func (h *host) ready(t *testing.T) {
	t.Helper()
	for {
		connection, err := net.Dial("tcp", h.address.String())
		if err == nil {
			require.NoError(t, connection.Close())
			return
		}
		require.NoError(t, t.Context().Err())
	}
}

// sending sends a store's blocks until the function that it returns is called.
func sending(t *testing.T, store *Store, near func() netip.AddrPort) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- store.Send(ctx, near) }()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}

// until waits for something.
func until(t *testing.T, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 20*time.Second, time.Millisecond)
}

// TestMove holds that a guest that moves in the middle of its load sends to one host and then to
// the other, and that both hosts' files together with its own are the whole log.
func TestMove(t *testing.T) {
	a, b := receiving(t, loopback, token), receiving(t, loopback, token)
	var nearby atomic.Pointer[netip.AddrPort]
	nearby.Store(&a.address)
	var seen atomic.Int64 // that b is near
	l := of(busy(), 100_000)
	l.budget = Budget{StreamFromBytes: 0}
	var end func()
	l.event = func(w *worker) {
		switch {
		case end == nil:
			end = sending(t, l.store, func() netip.AddrPort {
				to := *nearby.Load()
				if to == b.address {
					seen.Add(1)
				}
				return to
			})
		case w.number == 0 && w.events == 60_000:
			until(t, func() bool { return len(a.file()) > 0 })
			nearby.Store(&b.address)
			until(t, func() bool { return seen.Load() > 0 })
		case w.number == 1 && w.events == l.until-1000 && len(b.file()) == 0:
			l.until += maxEvents // what was sealed until now may have gone to a
		}
	}
	l.run(t)
	end()
	require.NotEmpty(t, a.file())
	require.NotEmpty(t, b.file())
	got, account, err := l.reading(b.file(), l.log(t), a.file())
	require.NoError(t, err)
	near(t, l.want, got, unitNs)
	assert.Empty(t, account.Missing)
}

// TestSendsFromTheBudgetOn holds that blocks below StreamFromBytes stay with the guest, and that
// no blocks are taken when no host is near.
func TestSendsFromTheBudgetOn(t *testing.T) {
	l := of(plain(), 400_000)
	l.budget = Budget{KeepBytes: 1 << 20, StreamFromBytes: 128 << 10}
	l.run(t)
	before := len(l.store.blocks)
	var asked atomic.Int64
	h := receiving(t, loopback, token)
	nobody := sending(t, l.store, func() netip.AddrPort { asked.Add(1); return netip.AddrPort{} })
	nobody()
	require.Len(t, l.store.blocks, before)
	end := sending(t, l.store, func() netip.AddrPort { return h.address })
	until(t, func() bool { return l.store.used.Load() <= 128<<10 })
	end()
	assert.NotEmpty(t, l.store.blocks)
	got, account, err := l.reading(h.file(), l.log(t))
	require.NoError(t, err)
	near(t, l.want, got, unitNs)
	assert.Empty(t, account.Missing)
}

// TestHostThatDies holds that a block whose answer was lost is sent again: it then exists twice
// and counts once.
func TestHostThatDies(t *testing.T) {
	l := of(plain(), 100_000)
	l.budget.StreamFromBytes = 0
	l.run(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	dead := netip.MustParseAddrPort(listener.Addr().String())
	var lost []byte
	var nearby atomic.Pointer[netip.AddrPort]
	nearby.Store(&dead)
	b := receiving(t, loopback, token)
	go func() { // takes a block and dies without an answer
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		lost = make([]byte, headerBytes)
		_, _ = io.ReadFull(connection, lost)
		h, _ := parseHeader(lost)
		lost = append(lost, make([]byte, h.length-headerBytes)...)
		_, _ = io.ReadFull(connection, lost[headerBytes:])
		nearby.Store(&b.address)
		_ = connection.Close()
		_ = listener.Close()
	}()
	end := sending(t, l.store, func() netip.AddrPort { return *nearby.Load() })
	until(t, func() bool { return l.store.used.Load() == 0 })
	end()
	got, account, err := l.reading(lost, b.file(), l.log(t))
	require.NoError(t, err)
	near(t, l.want, got, unitNs)
	assert.Empty(t, account.Missing)
}

// TestReceiverRefuses holds that only complete blocks of this guest and attempt
// are taken.
func TestReceiverRefuses(t *testing.T) {
	_, log := small(t)
	good := blocksOf(t, log)[0]
	other := of(busy(), 100)
	other.replay.Token = 1
	foreign := blocksOf(t, other.run(t).log(t))[0]
	flipped := bytes.Clone(good)
	flipped[200] ^= 1
	for name, sent := range map[string][]byte{
		"another attempt": foreign, "a flipped bit": flipped, "no block": bytes.Repeat([]byte("x"), 200), "half a block": good[:len(good)/2],
	} {
		t.Run(name, func(t *testing.T) {
			h := receiving(t, loopback, token)
			connection, err := net.Dial("tcp", h.address.String())
			require.NoError(t, err)
			defer connection.Close()
			_, err = connection.Write(sent)
			require.NoError(t, err)
			_ = connection.(*net.TCPConn).CloseWrite() // it may be closed already
			_, err = io.ReadFull(connection, make([]byte, 1))
			require.Error(t, err)
			h.close()
			assert.Empty(t, h.file())
		})
	}
	t.Run("another address", func(t *testing.T) {
		h := receiving(t, netip.MustParseAddr("127.0.0.2"), token)
		connection, err := net.Dial("tcp", h.address.String())
		require.NoError(t, err)
		defer connection.Close()
		_, _ = connection.Write(good)
		_, err = io.ReadFull(connection, make([]byte, 1))
		require.Error(t, err)
		assert.Empty(t, h.file())
	})
	t.Run("a good one", func(t *testing.T) {
		h := receiving(t, loopback, token)
		connection, err := net.Dial("tcp", h.address.String())
		require.NoError(t, err)
		defer connection.Close()
		_, err = connection.Write(good)
		require.NoError(t, err)
		answer := make([]byte, answerBytes)
		_, err = io.ReadFull(connection, answer)
		require.NoError(t, err)
		header, err := parseHeader(good)
		require.NoError(t, err)
		crc, _ := sum(good)
		want := answerTo(header.worker, header.number, crc)
		assert.Equal(t, want[:], answer)
		assert.Equal(t, good, h.file())
	})
}

// TestFileFails holds that the receiver ends when it cannot write.
func TestFileFails(t *testing.T) {
	_, log := small(t)
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	file, err := os.Open(path) // for reading
	require.NoError(t, err)
	defer file.Close()
	address := freeAddress(t)
	done := make(chan error, 1)
	go func() { done <- Receive(t.Context(), address, loopback, token, file) }()
	h := &host{address: address}
	h.ready(t)
	connection, err := net.Dial("tcp", address.String())
	require.NoError(t, err)
	defer connection.Close()
	_, err = connection.Write(log)
	require.NoError(t, err)
	assert.ErrorContains(t, <-done, "take the load's log on "+address.String())
}

func TestReceiveCannotListen(t *testing.T) {
	h := receiving(t, loopback, token)
	err := Receive(t.Context(), h.address, loopback, token, io.Discard)
	assert.ErrorContains(t, err, "take the load's log on "+h.address.String())
}

// TestFull holds that a receiver with a full file neither stores nor answers blocks.
func TestFull(t *testing.T) {
	r := &receiver{out: io.Discard, bytes: maxReceived - 10}
	taken, err := r.take(make([]byte, 11))
	require.NoError(t, err)
	assert.False(t, taken)
	taken, err = r.take(make([]byte, 10))
	require.NoError(t, err)
	assert.True(t, taken)
}
