package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/testnet"
)

const (
	// bufferBytes is the size of the kernel's buffer for a receiver that is held
	// up: it takes all datagrams of a usual probe, with the kernel's own overhead.
	bufferBytes = 16 << 20
	// silenceLimit is how long a receiver waits for the first datagram, and between
	// two datagrams in addition to the plan's pause.
	silenceLimit = 30 * time.Second
	// afterwards is how long it waits for copies and late datagrams after the
	// sender has announced the end.
	afterwards = 100 * time.Millisecond
	// The end is announced several times, with pauses, because an announcement may
	// get lost.
	ends        = 5
	endInterval = 20 * time.Millisecond
)

// Receive receives the datagrams of a plan until the sender announces the end, and
// returns the result of each load. It calls ready once a sender can begin.
func Receive(ctx context.Context, listen netip.AddrPort, plan Plan, ready func()) ([]Result, error) {
	if err := plan.Check(); err != nil {
		return nil, err
	}
	connection, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(listen))
	if err != nil {
		return nil, fmt.Errorf("receive a probe on %s: %w", listen, err)
	}
	defer connection.Close()
	stop := context.AfterFunc(ctx, func() { _ = connection.Close() })
	defer stop()
	if err := prepare(connection); err != nil {
		return nil, fmt.Errorf("receive a probe on %s: %w", listen, err)
	}
	ready()
	account := newAccount(plan, testnet.FamilyOf(listen.Addr()))
	if err := account.receive(connection); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("receive a probe on %s: %w", listen, err)
	}
	return account.results(), nil
}

// prepare asks for a large receive buffer, which only root gets in full, and for
// the kernel's time stamps.
func prepare(connection *net.UDPConn) error {
	raw, err := connection.SyscallConn()
	if err != nil {
		return err
	}
	var problem error
	err = raw.Control(func(fd uintptr) {
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferBytes) != nil {
			problem = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bufferBytes)
		}
		if problem == nil {
			problem = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
		}
	})
	return errors.Join(err, problem)
}

// receive reads until the end of the probe. When every announcement of the end is
// lost, silence ends it.
func (a *account) receive(connection *net.UDPConn) error {
	buffer, control := make([]byte, a.payloadBytes+1), make([]byte, 64)
	limit, heard, ended := silenceLimit+a.plan.Pause, false, false
	for {
		if err := connection.SetReadDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		n, controls, _, _, err := connection.ReadMsgUDPAddrPort(buffer, control)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && (heard || ended):
			return nil
		case err != nil:
			return err
		}
		done, err := a.take(buffer[:n], arrival(control[:controls]))
		if err != nil {
			continue // a foreign datagram
		}
		heard, ended = true, ended || done
		if ended {
			limit = afterwards
		}
	}
}

// arrival is the kernel's time stamp of a datagram, or the time now when there is
// none.
func arrival(control []byte) int64 {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now().UnixNano()
	}
	for _, message := range messages {
		// SO_TIMESTAMPNS gives a struct timespec (socket(7)): two words of 64 bits.
		if message.Header.Level == unix.SOL_SOCKET && message.Header.Type == unix.SCM_TIMESTAMPNS && len(message.Data) >= 16 {
			s, ns := binary.NativeEndian.Uint64(message.Data), binary.NativeEndian.Uint64(message.Data[8:])
			return int64(s)*int64(time.Second) + int64(ns) //nolint:gosec // the kernel's time_t is signed
		}
	}
	return time.Now().UnixNano()
}

// Send sends the datagrams of a plan to an address on which Receive listens.
func Send(ctx context.Context, to netip.AddrPort, plan Plan) error {
	if err := plan.Check(); err != nil {
		return err
	}
	connection, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return fmt.Errorf("send a probe to %s: %w", to, err)
	}
	defer connection.Close()
	if err := send(ctx, connection, plan, make([]byte, PayloadBytes(testnet.FamilyOf(to.Addr())))); err != nil {
		return fmt.Errorf("send a probe to %s: %w", to, err)
	}
	return nil
}

// send sends the datagrams of a plan; the buffer is as long as each of them.
func send(ctx context.Context, connection *net.UDPConn, plan Plan, buffer []byte) error {
	for i, load := range plan.Loads {
		interval := time.Duration(float64(load.Length()) / float64(load.Datagrams))
		due := time.Now()
		for number := range load.Datagrams {
			if err := until(ctx, due); err != nil {
				return err
			}
			now := time.Now()
			put(buffer, plan.Token, i, number, now.UnixNano())
			if _, err := connection.Write(buffer); err != nil {
				return err
			}
			if due = due.Add(interval); due.Before(now.Add(-load.Burst)) {
				due = now.Add(-load.Burst)
			}
		}
		if err := until(ctx, time.Now().Add(plan.Pause)); err != nil {
			return err
		}
	}
	for number := range ends {
		put(buffer, plan.Token, len(plan.Loads), number, time.Now().UnixNano())
		if _, err := connection.Write(buffer); err != nil {
			// A receiver that has heard one announcement and is gone refuses the
			// next ones.
			if number > 0 && errors.Is(err, unix.ECONNREFUSED) {
				return nil
			}
			return err
		}
		if err := until(ctx, time.Now().Add(endInterval)); err != nil {
			return err
		}
	}
	return nil
}

// until sleeps by the kernel's clock: Go's own timers are milliseconds apart when
// nothing else happens.
func until(ctx context.Context, due time.Time) error {
	for left := time.Until(due); left > 0; left = time.Until(due) {
		for part := unix.NsecToTimespec(int64(min(left, endInterval))); ; {
			if err := unix.Nanosleep(&part, &part); !errors.Is(err, unix.EINTR) {
				break
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return ctx.Err()
}
