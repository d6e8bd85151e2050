package beat

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/inflight"
	"heliotrope/internal/witness"
)

const token = 0x0123456789abcdef

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// peer is a socket at the other end.
type peer struct {
	t    *testing.T
	conn *net.UDPConn
}

func newPeer(t *testing.T) peer {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(anyPort))
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() }) // closed by some tests
	return peer{t, conn}
}

func (p peer) address() netip.AddrPort { return p.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func (p peer) sendBytes(to netip.AddrPort, data []byte) {
	p.t.Helper()
	_, err := p.conn.WriteToUDPAddrPort(data, to)
	must(p.t, err)
}

func (p peer) send(to netip.AddrPort, d datagram) {
	p.t.Helper()
	buffer := make([]byte, datagramBytes)
	d.put(buffer)
	p.sendBytes(to, buffer)
}

// next waits for a datagram of a kind.
func (p peer) next(want kind) (datagram, netip.AddrPort) {
	p.t.Helper()
	buffer := make([]byte, 1500)
	for {
		n, from, err := p.conn.ReadFromUDPAddrPort(buffer)
		must(p.t, err)
		d, ours := parse(buffer[:n])
		if !ours || d.token != token {
			p.t.Fatalf("%d bytes that are not ours: %x", n, buffer[:n])
		}
		if d.kind == want {
			return d, from
		}
	}
}

// lines receives each line that is written.
type lines chan string

func (l lines) Write(line []byte) (int, error) {
	l <- string(line)
	return len(line), nil
}

func (l lines) heartbeat(t *testing.T) (beat witness.Heartbeat) {
	t.Helper()
	must(t, witness.ReadHeartbeats(strings.NewReader(<-l), func(h witness.Heartbeat) error { beat = h; return nil }))
	return beat
}

func (l lines) exchange(t *testing.T) (exchange witness.Exchange) {
	t.Helper()
	must(t, witness.ReadExchanges(strings.NewReader(<-l), func(e witness.Exchange) error { exchange = e; return nil }))
	return exchange
}

// running is a part that is running, and ends with the test or earlier.
type running struct {
	cancel context.CancelFunc
	ended  chan error
}

func start(t *testing.T, run func(context.Context) error) running {
	ctx, cancel := context.WithCancel(context.Background())
	r := running{cancel, make(chan error, 1)}
	go func() { r.ended <- run(ctx) }()
	t.Cleanup(cancel)
	return r
}

func (r running) stop() error {
	r.cancel()
	return <-r.ended
}

type hostTest struct {
	*host
	running
	address               netip.AddrPort
	heartbeats, exchanges lines
}

func startHost(t *testing.T, guest netip.AddrPort) hostTest {
	t.Helper()
	return startHostNear(t, guest, nil)
}

func startHostNear(t *testing.T, guest netip.AddrPort, near func() bool) hostTest {
	t.Helper()
	// More room than any test needs, so that a Write never waits for the test.
	test := hostTest{heartbeats: make(lines, 1<<16), exchanges: make(lines, 1<<16)}
	var err error
	test.host, err = openHost(HostOptions{Config: witness.HostConfig{Listen: anyPort, Guest: guest, Token: token},
		Heartbeats: test.heartbeats, Exchanges: test.exchanges, Near: near})
	must(t, err)
	test.address = localAddress(t, test.socket)
	test.running = start(t, test.run)
	return test
}

// localAddress returns the address on which a socket listens.
func localAddress(t *testing.T, s *socket) (address netip.AddrPort) {
	t.Helper()
	bound, err := unix.Getsockname(s.fd)
	must(t, err)
	switch bound := bound.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(bound.Addr), uint16(bound.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(bound.Addr), uint16(bound.Port))
	}
	t.Fatalf("listens on %T", bound)
	return address
}

// TestHeartbeatsAreWrittenAsTheyCome: with repetitions and out of order, but without those of
// another attempt.
func TestHeartbeatsAreWrittenAsTheyCome(t *testing.T) {
	guest := newPeer(t)
	before := time.Now()
	h := startHost(t, guest.address())
	beat := func(number uint64) datagram {
		return datagram{kind: heartbeat, token: token, number: number, sent: int64(1000 + number), acked: number / 2,
			oldest: int64(number%3) - 1, completed: number / 4}
	}
	foreign := beat(7)
	foreign.token++
	guest.send(h.address, foreign)
	guest.sendBytes(h.address, []byte("something else"))
	guest.sendBytes(h.address, make([]byte, 1400))
	guest.send(h.address, beat(0))                                                    // numbers are from 1
	guest.send(h.address, datagram{kind: ask, token: token, number: 1, sent: 1})      // a host is not asked
	guest.send(h.address, datagram{kind: answer, token: token, number: 1, asked: -1}) // nor did it ask that
	order := []uint64{1, 2, 2, 5, 4, 1<<64 - 1}
	for _, number := range order {
		guest.send(h.address, beat(number))
	}
	for _, number := range order {
		got := h.heartbeats.heartbeat(t)
		if want := beat(number); got.Sequence != number || got.Sent.UnixNano() != want.sent || got.Acked != want.acked ||
			got.OldestNs != want.oldest || got.Completed != want.completed {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got.Arrived.Before(before.Round(0)) || got.Arrived.After(time.Now().Round(0)) {
			t.Errorf("arrived at %s, but it is %s", got.Arrived, time.Now())
		}
	}
	must(t, h.stop())
	if dropped := h.socket.dropped.Load(); dropped != 5 || h.dropped != 1 {
		t.Errorf("dropped %d datagrams and %d answers, want 5 and 1", dropped, h.dropped)
	}
	if len(h.heartbeats) != 0 {
		t.Errorf("a heartbeat more: %q", <-h.heartbeats)
	}
}

// TestGuestThatAnswersLate: the guest answers the second ask before the first, and then the
// third; its clock is an hour ahead.
func TestGuestThatAnswersLate(t *testing.T) {
	guest := newPeer(t)
	h := startHost(t, guest.address())
	answer := func(d datagram, from netip.AddrPort) {
		at := time.Now().Add(time.Hour).UnixNano()
		guest.send(from, datagram{kind: answer, token: token, number: d.number, asked: d.sent, received: at, sent: at})
	}
	var asked []datagram
	var from netip.AddrPort
	for number := uint64(1); number <= 3; number++ {
		var d datagram
		if d, from = guest.next(ask); d.number != number {
			t.Fatalf("ask %d, want %d", d.number, number)
		}
		asked = append(asked, d)
	}
	for _, i := range []int{1, 0, 2} {
		answer(asked[i], from)
	}
	// What the same socket sends afterwards arrives afterwards.
	guest.send(h.address, datagram{kind: heartbeat, token: token, number: 1, sent: 1})
	h.heartbeats.heartbeat(t)
	must(t, h.stop())
	for range 2 {
		got := h.exchanges.exchange(t)
		if off := (got.Ahead - time.Hour).Abs(); off > got.Uncertainty || got.Uncertainty <= 0 {
			t.Errorf("%+v is %s off", got, off)
		}
	}
	if h.dropped != 1 {
		t.Errorf("%d answers came too late, want the one to the first ask", h.dropped)
	}
	if len(h.exchanges) != 0 {
		t.Errorf("an exchange more: %q", <-h.exchanges)
	}
}

// TestNearAndInFlight: the guest's heartbeats report the state of its load once the load's page
// exists, and each ask tells the load at which site it runs.
func TestNearAndInFlight(t *testing.T) {
	siteB := newPeer(t)
	place := newPeer(t) // the guest's address: its port is known before it listens
	address := place.address()
	must(t, place.conn.Close())
	var near atomic.Bool
	h := startHostNear(t, address, near.Load)
	page := filepath.Join(t.TempDir(), "page")
	g := startGuest(t, witness.GuestConfig{Listen: address, SiteA: h.address, Token: token, Load: page}, nil)
	if got := h.heartbeats.heartbeat(t); got.OldestNs != witness.NotTold || got.Completed != 0 {
		t.Errorf("without a load: %+v", got)
	}
	load, err := inflight.Create(page, token, 1)
	must(t, err)
	t.Cleanup(func() { must(t, load.Close()) })
	load.Set(0, 123, 45)
	for got := h.heartbeats.heartbeat(t); got.OldestNs != 123 || got.Completed != 45; got = h.heartbeats.heartbeat(t) {
		if got.OldestNs != witness.NotTold {
			t.Fatalf("of the load: %+v", got)
		}
	}
	if site, _ := load.Near(); site != 0 {
		t.Errorf("the load is told that it is at %c", site)
	}
	near.Store(true)
	until := func(want byte) {
		for site, _ := load.Near(); site != want; site, _ = load.Near() {
			h.heartbeats.heartbeat(t) // it is sent before the answer to an ask
		}
	}
	until('a')
	near.Store(false)
	siteB.send(g.address, datagram{kind: ask, token: token, number: 1, sent: now(), near: true})
	until('b')
	must(t, g.stop())
	must(t, h.stop())
}

// full is a disk without room.
type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestLinesThatCannotBeWritten(t *testing.T) {
	for name, options := range map[string]HostOptions{
		"heartbeats": {Heartbeats: full{}, Exchanges: io.Discard},
		"exchanges":  {Heartbeats: io.Discard, Exchanges: full{}},
	} {
		t.Run(name, func(t *testing.T) {
			guest := newPeer(t)
			options.Config = witness.HostConfig{Listen: anyPort, Guest: guest.address(), Token: token}
			h, err := openHost(options)
			must(t, err)
			r := start(t, h.run)
			d, from := guest.next(ask)
			guest.send(from, datagram{kind: answer, token: token, number: d.number, asked: d.sent, received: now(), sent: now()})
			guest.send(from, datagram{kind: heartbeat, token: token, number: d.number, sent: now()})
			if err := <-r.ended; !errors.Is(err, errFull) {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// TestHostAndGuest has both ends on one clock: the offset is zero within the uncertainty, and the
// heartbeats arrive in order.
func TestHostAndGuest(t *testing.T) {
	place := newPeer(t) // the guest's address: its port is known before it listens
	address := place.address()
	must(t, place.conn.Close())
	h := startHost(t, address)
	g := startGuest(t, witness.GuestConfig{Listen: address, SiteA: h.address, Token: token}, nil)
	var numbers []uint64
	for range 5 {
		numbers = append(numbers, h.heartbeats.heartbeat(t).Sequence)
	}
	if !slices.Equal(numbers, []uint64{1, 2, 3, 4, 5}) {
		t.Errorf("heartbeats %v", numbers)
	}
	var last time.Time
	for range 2 {
		got := h.exchanges.exchange(t)
		if got.Ahead.Abs() > got.Uncertainty || got.Uncertainty <= 0 || !got.At.After(last) {
			t.Errorf("%+v, and before at %s", got, last)
		}
		last = got.At
	}
	must(t, g.stop())
	must(t, h.stop())
}

func TestAddressesAreChecked(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // a configuration that is accepted ends at once, without an error
	for _, config := range []witness.HostConfig{
		{Listen: anyPort},
		{Guest: anyPort},
		{Listen: anyPort, Guest: netip.MustParseAddrPort("[::1]:5")},
		{Listen: netip.MustParseAddrPort("192.0.2.1:17190"), Guest: anyPort}, // not ours: RFC 5737
	} {
		if err := Host(ctx, HostOptions{Config: config, Heartbeats: io.Discard, Exchanges: io.Discard}); err == nil {
			t.Errorf("%+v was accepted", config)
		}
	}
}

// TestBothFamilies sends from a socket to itself, in both address families.
func TestBothFamilies(t *testing.T) {
	for _, place := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(place, func(t *testing.T) {
			s, err := listen(netip.MustParseAddrPort(place), netip.MustParseAddrPort(place), token)
			must(t, err)
			defer func() { must(t, s.close()) }()
			own := localAddress(t, s)
			want := datagram{kind: heartbeat, token: token, number: 4, sent: 5}
			s.sender().send(own, want)
			if unsent := s.unsent.Load(); unsent != 0 {
				t.Fatal(s.account())
			}
			var got []received
			must(t, s.drain(func(r received) error { got = append(got, r); return nil }))
			if len(got) != 1 || got[0].datagram != want || got[0].from != own || got[0].arrived <= 0 {
				t.Errorf("got %+v, want %+v from %s", got, want, own)
			}
		})
	}
}
