package beat

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket sends and receives the datagrams of one attempt.
//
// It does not use Go's poller, which would wake the process for each datagram. Its calls never
// block, and are made without telling Go's scheduler: otherwise they would wake the scheduler's
// monitor thread each time, which costs several times as much as the call. For this reason close
// must be called after all other calls have returned.
type socket struct {
	fd      int
	token   uint64
	unsent  atomic.Int64          // datagrams that the kernel did not accept
	problem atomic.Pointer[error] // error of the last one
	dropped atomic.Int64          // datagrams that arrived and are not of this attempt

	// Buffers that recvmsg(2) fills.
	input   [datagramBytes + 1]byte // one byte more, to detect datagrams that are too long
	from    sockaddr
	control [64]byte
}

// listen opens a socket for exchanges with another address, which must be of the same family. The
// kernel stamps datagrams with their time of arrival, if it can.
func listen(address, other netip.AddrPort, token uint64) (*socket, error) {
	if !address.IsValid() || !other.IsValid() || address.Addr().Is6() != other.Addr().Is6() {
		return nil, fmt.Errorf("heartbeats and clock exchanges between %v and %v: want two addresses of one family", address, other)
	}
	family, port := unix.AF_INET6, int(address.Port())
	var place unix.Sockaddr = &unix.SockaddrInet6{Port: port, Addr: address.Addr().As16()}
	if address.Addr().Is4() {
		family, place = unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: address.Addr().As4()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("listen for heartbeats and clock exchanges: %w", err)
	}
	if err := unix.Bind(fd, place); err != nil {
		_ = unix.Close(fd) // the first error is returned
		return nil, fmt.Errorf("listen for heartbeats and clock exchanges on %v: %w", address, err)
	}
	// If this fails, drain takes the time of arrival itself.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	return &socket{fd: fd, token: token}, nil
}

func (s *socket) close() error { return unix.Close(s.fd) }

// received is a datagram with its time of arrival (Unix time in ns) and its sender.
type received struct {
	datagram
	arrived int64
	from    netip.AddrPort
}

// drain passes the attempt's datagrams that have arrived to take, and does not wait for more.
// Only one goroutine may call it.
func (s *socket) drain(take func(received) error) error {
	for {
		n, controls, code := s.receive()
		switch code {
		case 0:
		case unix.EAGAIN:
			return nil
		case unix.EINTR, unix.ECONNREFUSED:
			continue // ECONNREFUSED concerns a datagram that was sent: nobody listens there yet
		default:
			return fmt.Errorf("receive heartbeats and clock exchanges: %w", code)
		}
		if d, ours := parse(s.input[:n]); ours && d.token == s.token {
			if err := take(received{d, arrival(s.control[:controls]), s.from.addrPort()}); err != nil {
				return err
			}
			continue
		}
		s.dropped.Add(1)
	}
}

// receive calls recvmsg(2).
func (s *socket) receive() (n, controls int, code unix.Errno) {
	part := unix.Iovec{Base: &s.input[0], Len: uint64(len(s.input))}
	message := unix.Msghdr{Name: &s.from.bytes[0], Namelen: uint32(len(s.from.bytes)), Iov: &part, Iovlen: 1,
		Control: &s.control[0], Controllen: uint64(len(s.control))}
	got, _, code := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&message)), unix.MSG_DONTWAIT) //nolint:gosec // a message of the kernel's form, kept by this function
	if code != 0 {
		return 0, 0, code
	}
	return int(got), int(message.Controllen), 0 //nolint:gosec // lengths within the buffers
}

// arrival returns the kernel's time stamp of a datagram, or the present time.
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
	addr   sockaddr // to, in the kernel's form
	output [datagramBytes]byte
}

func (s *socket) sender() *sender { return &sender{socket: s} }

// send gives a datagram to the kernel, which accepts it at once or not at all: a network that is
// away for a while neither delays nor ends the sender. Datagrams that were not accepted are
// counted.
func (o *sender) send(to netip.AddrPort, d datagram) {
	if to != o.to {
		o.to, o.addr = to, newSockaddr(to)
	}
	d.token = o.socket.token
	d.put(o.output[:])
	if err := o.addr.send(o.socket.fd, &o.output); err != nil {
		o.socket.unsent.Add(1)
		o.socket.problem.Store(&err)
	}
}

// sockaddr is an address in the kernel's form: ip(7), ipv6(7).
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

func (s *sockaddr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(s.bytes[2:])
	if binary.NativeEndian.Uint16(s.bytes[:]) == unix.AF_INET6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(s.bytes[8:24])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s.bytes[4:8])), port)
}

// send calls sendto(2).
func (s *sockaddr) send(fd int, output *[datagramBytes]byte) error {
	data, to := unsafe.Pointer(output), unsafe.Pointer(&s.bytes) //nolint:gosec // arrays of the lengths that are given with them
	_, _, code := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(data), datagramBytes, unix.MSG_DONTWAIT, uintptr(to), s.length)
	if code != 0 {
		return code
	}
	return nil
}

// account describes in a sentence what went wrong.
func (s *socket) account() string {
	text := fmt.Sprintf("datagrams that came and were not of this attempt: %d; that could not be sent: %d", s.dropped.Load(), s.unsent.Load())
	if problem := s.problem.Load(); problem != nil {
		text += fmt.Sprintf(", the last one for: %v", *problem)
	}
	return text
}
