package iolog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
)

const (
	dialLimit   = 2 * time.Second
	answerLimit = 10 * time.Second
	sendBuffer  = 64 << 10               // what may be under way when the guest moves
	nearPause   = 100 * time.Millisecond // between two calls of near
	retryPause  = 500 * time.Millisecond // after a failed connection

	answerMagic = "HIOA"
	answerBytes = 16
)

// errMoved ends a connection to a host that is no longer near.
var errMoved = errors.New("the host is not near any more")

// Send sends blocks, oldest first, to the host that is near, for as long as the store has more
// than StreamFromBytes of them, until the context ends. It calls near ten times a second; an
// invalid address means that no host is near. Blocks that no host takes stay in the store: a
// failure of a host or of the network is no error.
func (s *Store) Send(ctx context.Context, near func() netip.AddrPort) error {
	for s.wait(ctx, near) {
		to := near()
		if !to.IsValid() {
			continue
		}
		if err := s.sendTo(ctx, to, near); err != nil && !errors.Is(err, errMoved) {
			pause(ctx, retryPause)
		}
	}
	return nil
}

// wait returns true when there is a block to send and a host is near, and false when the context
// has ended.
func (s *Store) wait(ctx context.Context, near func() netip.AddrPort) bool {
	for ctx.Err() == nil {
		if _, ok := s.oldest(); !ok {
			select {
			case <-ctx.Done():
			case <-s.more:
			}
			continue
		}
		if near().IsValid() {
			return ctx.Err() == nil
		}
		pause(ctx, nearPause)
	}
	return false
}

func pause(ctx context.Context, length time.Duration) {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// sendTo sends to one host as long as it is near and there is something to send.
func (s *Store) sendTo(ctx context.Context, to netip.AddrPort, near func() netip.AddrPort) error {
	dialer := net.Dialer{Timeout: dialLimit}
	made, err := dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	connection := made.(*net.TCPConn)
	// Data in the send buffer is discarded when the connection is closed.
	_ = connection.SetLinger(0)
	_ = connection.SetWriteBuffer(sendBuffer)
	watched, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for watched.Err() == nil {
			if near() != to {
				cancel(errMoved)
			}
			pause(watched, nearPause)
		}
		_ = connection.Close()
	}()
	defer func() { cancel(nil); <-done }()
	for s.wait(watched, near) {
		block, ok := s.oldest()
		if !ok {
			continue
		}
		if err := block.sendOn(connection); err != nil {
			return errors.Join(context.Cause(watched), err)
		}
		s.take()
	}
	return context.Cause(watched)
}

// sendOn sends a block and waits for the answer.
func (b *sealed) sendOn(connection net.Conn) error {
	if err := connection.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return err
	}
	if _, err := b.writeTo(connection); err != nil {
		return err
	}
	var answer [answerBytes]byte
	if _, err := io.ReadFull(connection, answer[:]); err != nil {
		return err
	}
	if want := answerTo(b.worker, b.number, b.crc); answer != want {
		return fmt.Errorf("the answer to block %d of worker %d is %x, want %x", b.number, b.worker, answer, want)
	}
	return nil
}

// answerTo returns the answer to a block that has been stored in the file.
func answerTo(worker int, number, crc uint32) (answer [answerBytes]byte) {
	order := binary.LittleEndian
	copy(answer[:], answerMagic)
	order.PutUint16(answer[4:], uint16(worker)) //nolint:gosec // 2 bytes of a header
	order.PutUint32(answer[8:], number)
	order.PutUint32(answer[12:], crc)
	return answer
}
