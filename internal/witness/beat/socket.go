package beat

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket sends and receives the datagrams of one attempt.
type socket struct {
	conn    *net.UDPConn // nil after detach
	file    *os.File     // the socket, after detach
	raw     syscall.RawConn
	token   uint64
	unsent  atomic.Int64            // datagrams that the kernel did not take
	problem atomic.Pointer[error]   // of the last of them
	dropped atomic.Int64            // datagrams that came and are not of this attempt
	input   [datagramBytes + 1]byte // one more, to see what is too long
	control [64]byte
}

// listen opens a socket for exchanges with another address, of the same family.
// Its datagrams get their time of arrival from the kernel, where it can do that.
func listen(address, other netip.AddrPort, token uint64) (*socket, error) {
	network := "udp4"
	if address.Addr().Is6() {
		network = "udp6"
	}
	if !address.IsValid() || !other.IsValid() || address.Addr().Is6() != other.Addr().Is6() {
		return nil, fmt.Errorf("heartbeats and clock exchanges between %v and %v: want two addresses of one family", address, other)
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(address))
	if err != nil {
		return nil, fmt.Errorf("listen for heartbeats and clock exchanges: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	// Without it, receive takes the time itself.
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	})
	return &socket{conn: conn, raw: raw, token: token}, nil
}

// endWith makes receive end when the context does.
func (s *socket) endWith(ctx context.Context) {
	context.AfterFunc(ctx, func() {
		// It fails only on a socket that is closed, whose receive has ended.
		_ = s.conn.SetReadDeadline(time.Unix(1, 0))
	})
}

// detach takes the socket away from Go's poller, which would wake the process
// for each datagram. From then on it is for drain and send.
func (s *socket) detach() error {
	file, err := s.conn.File()
	if err != nil {
		return errors.Join(err, s.conn.Close())
	}
	if err := s.conn.Close(); err != nil {
		return errors.Join(err, file.Close())
	}
	s.conn, s.file = nil, file
	s.raw, err = file.SyscallConn()
	return err
}

// drain gives the datagrams of the attempt that have arrived, with the kernel's
// time of each arrival, and does not wait for more. Only one goroutine may call
// it, after detach.
func (s *socket) drain(take func(d datagram, arrived int64) error) error {
	for {
		var n, controls int
		var failed error
		err := s.raw.Read(func(fd uintptr) bool {
			n, controls, _, _, failed = unix.Recvmsg(int(fd), s.input[:], s.control[:], unix.MSG_DONTWAIT)
			return true
		})
		switch {
		case err != nil:
			return fmt.Errorf("receive heartbeats and clock exchanges: %w", err)
		case errors.Is(failed, unix.EAGAIN):
			return nil
		case errors.Is(failed, unix.EINTR) || errors.Is(failed, unix.ECONNREFUSED):
			continue // the latter is about what was sent: nobody answers yet
		case failed != nil:
			return fmt.Errorf("receive heartbeats and clock exchanges: %w", failed)
		}
		if d, ours := parse(s.input[:n]); ours && d.token == s.token {
			if err := take(d, arrival(s.control[:controls])); err != nil {
				return err
			}
			continue
		}
		s.dropped.Add(1)
	}
}

// receive waits for the next datagram of the attempt and gives the time of its
// arrival, a Unix time in ns. Only one goroutine may call it. It ends with
// os.ErrDeadlineExceeded when the context of endWith has ended.
func (s *socket) receive() (datagram, int64, netip.AddrPort, error) {
	for {
		n, controls, _, from, err := s.conn.ReadMsgUDPAddrPort(s.input[:], s.control[:])
		if err != nil {
			return datagram{}, 0, from, fmt.Errorf("receive heartbeats and clock exchanges: %w", err)
		}
		if d, ours := parse(s.input[:n]); ours && d.token == s.token {
			return d, arrival(s.control[:controls]), from, nil
		}
		s.dropped.Add(1)
	}
}

// arrival is the kernel's time stamp of a datagram, or now.
func arrival(control []byte) int64 {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return now()
	}
	for _, message := range messages {
		// SO_TIMESTAMPNS gives a struct timespec (socket(7)): two words of 64 bits.
		if message.Header.Level == unix.SOL_SOCKET && message.Header.Type == unix.SCM_TIMESTAMPNS && len(message.Data) >= 16 {
			s, ns := binary.NativeEndian.Uint64(message.Data), binary.NativeEndian.Uint64(message.Data[8:])
			return int64(s)*int64(time.Second) + int64(ns) //nolint:gosec // the kernel's time_t is signed
		}
	}
	return now()
}

// sender sends datagrams. Only one goroutine may use it.
type sender struct {
	socket *socket
	to     netip.AddrPort
	addr   sockaddr // the same
	output [datagramBytes]byte
	result error
	try    func(fd uintptr) bool
}

func (s *socket) sender() *sender {
	o := &sender{socket: s}
	o.try = func(fd uintptr) bool {
		o.result = o.addr.send(fd, &o.output)
		return true // whatever came out: there is no second try
	}
	return o
}

// send gives a datagram to the kernel, which takes it at once or not at all: a
// network that is away for a while neither delays nor ends who sends. What it
// did not take is counted.
func (o *sender) send(to netip.AddrPort, d datagram) {
	if to != o.to {
		o.to, o.addr = to, newSockaddr(to)
	}
	d.token = o.socket.token
	d.put(o.output[:])
	err := o.socket.raw.Write(o.try)
	if err == nil {
		err = o.result
	}
	if err != nil {
		o.socket.unsent.Add(1)
		o.socket.problem.Store(&err)
	}
}

// sockaddr is an address as the kernel takes it: ip(7), ipv6(7).
type sockaddr struct {
	bytes  [unix.SizeofSockaddrInet6]byte
	length uintptr
}

func newSockaddr(to netip.AddrPort) (s sockaddr) {
	binary.BigEndian.PutUint16(s.bytes[2:], to.Port())
	if address := to.Addr().Unmap(); address.Is4() {
		binary.NativeEndian.PutUint16(s.bytes[:], unix.AF_INET)
		copy(s.bytes[4:], address.AsSlice())
		s.length = unix.SizeofSockaddrInet4
		return s
	}
	binary.NativeEndian.PutUint16(s.bytes[:], unix.AF_INET6)
	copy(s.bytes[8:], to.Addr().AsSlice())
	s.length = unix.SizeofSockaddrInet6
	return s
}

// send is a call that never blocks, made without a word to Go's scheduler: that
// would wake its watching thread with each heartbeat, which costs several times
// as much as the heartbeat.
func (s *sockaddr) send(fd uintptr, output *[datagramBytes]byte) error {
	data, to := unsafe.Pointer(output), unsafe.Pointer(&s.bytes) //nolint:gosec // arrays of the lengths that are given with them
	_, _, code := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(data), datagramBytes, unix.MSG_DONTWAIT, uintptr(to), s.length)
	if code != 0 {
		return code
	}
	return nil
}

// account says in a sentence what did not go as it should.
func (s *socket) account() string {
	text := fmt.Sprintf("datagrams that came and were not of this attempt: %d; that could not be sent: %d", s.dropped.Load(), s.unsent.Load())
	if problem := s.problem.Load(); problem != nil {
		text += fmt.Sprintf(", the last one for: %v", *problem)
	}
	return text
}
