package iolog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	maxReceived  = int64(4 << 30) // bytes of one attempt
	leaveFree    = 64 << 20       // bytes of the file system
	maxSenders   = 8              // simultaneous connections: the old one may still exist when the guest has moved
	receiveLimit = 30 * time.Second
)

// receiver takes the blocks of one attempt.
type receiver struct {
	from  netip.Addr
	token uint64

	mutex sync.Mutex // guards the fields below
	out   io.Writer
	bytes int64
	err   error // the failure of out
}

// Receive takes the blocks of one attempt, on a site's host, until the context ends. It closes
// connections from other addresses than from, and those that send anything but complete blocks of
// this token. When the file has 4 GiB, or the file system of an *os.File would be left with less
// than 64 MiB, blocks are neither stored nor answered: the guest keeps them. A failure of out is
// an error.
func Receive(ctx context.Context, listen netip.AddrPort, from netip.Addr, token uint64, out io.Writer) error {
	config := net.ListenConfig{}
	listener, err := config.Listen(ctx, "tcp", listen.String())
	if err != nil {
		return fmt.Errorf("take the load's log on %s: %w", listen, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	r := &receiver{from: from.Unmap(), token: token, out: out}
	slots := make(chan struct{}, maxSenders)
	var senders sync.WaitGroup
	for {
		connection, err := listener.Accept()
		if err != nil {
			cancel(err)
			senders.Wait()
			if cause := context.Cause(ctx); errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
				return nil
			}
			return fmt.Errorf("take the load's log on %s: %w", listen, context.Cause(ctx))
		}
		select {
		case slots <- struct{}{}:
		default:
			_ = connection.Close()
			continue
		}
		senders.Go(func() {
			defer func() { <-slots }()
			if err := r.serve(ctx, connection); err != nil {
				cancel(err)
			}
		})
	}
}

// serve takes blocks from one connection. It returns an error only when the file fails.
func (r *receiver) serve(ctx context.Context, connection net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = connection.Close() })
	defer stop()
	defer connection.Close()
	peer, err := netip.ParseAddrPort(connection.RemoteAddr().String())
	if err != nil || peer.Addr().Unmap() != r.from {
		return nil
	}
	var block []byte
	for {
		// The next block may take long to come; once it has begun it must arrive in time.
		block = slices.Grow(block[:0], headerBytes)[:headerBytes]
		if _, err := io.ReadFull(connection, block); err != nil {
			return nil //nolint:nilerr // the guest has moved, or ended
		}
		h, err := parseHeader(block)
		if err != nil || h.token != r.token || connection.SetReadDeadline(time.Now().Add(receiveLimit)) != nil {
			return nil //nolint:nilerr // not ours
		}
		block = slices.Grow(block, h.length)[:h.length]
		if _, err := io.ReadFull(connection, block[headerBytes:]); err != nil {
			return nil //nolint:nilerr // the guest has moved, or ended
		}
		crc, ok := sum(block)
		if !ok {
			return nil
		}
		taken, err := r.take(block)
		if err != nil || !taken {
			return err
		}
		answer := answerTo(h.worker, h.number, crc)
		if _, err := connection.Write(answer[:]); err != nil || connection.SetReadDeadline(time.Time{}) != nil {
			return nil //nolint:nilerr // the guest has moved, or ended
		}
	}
}

// take appends a block to the file if there is room for it.
func (r *receiver) take(block []byte) (taken bool, err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.err != nil || r.bytes+int64(len(block)) > maxReceived || !r.room(len(block)) {
		return false, r.err
	}
	_, r.err = r.out.Write(block)
	r.bytes += int64(len(block))
	return r.err == nil, r.err
}

// room reports whether the file system has room for a block.
func (r *receiver) room(bytes int) bool {
	file, ok := r.out.(*os.File)
	if !ok {
		return true
	}
	var system unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &system); err != nil {
		return false
	}
	return int64(system.Bavail)*system.Bsize >= int64(bytes)+leaveFree //nolint:gosec // free blocks of a file system
}
