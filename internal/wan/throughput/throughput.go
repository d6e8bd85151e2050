// Package throughput measures what one TCP connection carries, as its receiver
// sees it. It is part of the small program that is put on the hosts, so it
// imports little.
//
// It promises that a Result is the receiver's account: bytes that are still in
// the sender's buffers, or on their way, are in none.
package throughput

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"
)

// Result is what a connection carried.
type Result struct {
	// Bytes is what came after the first read, and Seconds the time from that
	// read to the last one: what the first read brought had no time of its own.
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// BitsPerSecond is the payload's rate; 0 when there was nothing to time.
func (r Result) BitsPerSecond() float64 {
	if r.Seconds <= 0 {
		return 0
	}
	return float64(r.Bytes) * 8 / r.Seconds
}

const (
	bufferBytes = 256 << 10
	// silenceLimit is how long either side waits for the other to go on. A sender waits
	// as much longer as it has sent: what is in the WAN's queue when it stops has to get
	// through first.
	silenceLimit = 30 * time.Second
	// maxBytes ends a connection that nobody means to end.
	maxBytes = 64 << 30
)

// Serve accepts one TCP connection, reads until its end, answers on it with
// what it received, as JSON, and returns the same. It calls ready once a
// sender can connect.
func Serve(ctx context.Context, listen netip.AddrPort, ready func()) (Result, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen.String())
	if err != nil {
		return Result{}, fmt.Errorf("receive on %s: %w", listen, err)
	}
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	// Whoever asked may be gone, and nobody else would end this.
	if err := listener.(*net.TCPListener).SetDeadline(time.Now().Add(silenceLimit)); err != nil {
		return Result{}, fmt.Errorf("receive on %s: %w", listen, err)
	}
	ready()
	connection, err := listener.Accept()
	if err != nil {
		return Result{}, fmt.Errorf("receive on %s: %w", listen, orCause(ctx, err))
	}
	defer connection.Close()
	defer closeWith(ctx, connection)()
	result, err := receive(connection)
	if err == nil {
		err = json.NewEncoder(connection).Encode(result)
	}
	if err != nil {
		return Result{}, fmt.Errorf("receive on %s from %s: %w", listen, connection.RemoteAddr(), orCause(ctx, err))
	}
	return result, nil
}

// receive reads to the end of what is sent.
func receive(connection net.Conn) (Result, error) {
	buffer := make([]byte, bufferBytes)
	var result Result
	var first time.Time
	for result.Bytes < maxBytes {
		if err := connection.SetReadDeadline(time.Now().Add(silenceLimit)); err != nil {
			return Result{}, err
		}
		n, err := connection.Read(buffer)
		switch now := time.Now(); {
		case n > 0 && first.IsZero():
			first = now
		case n > 0:
			result.Bytes += int64(n)
			result.Seconds = now.Sub(first).Seconds()
		}
		if errors.Is(err, io.EOF) {
			return result, nil
		}
		if err != nil {
			return Result{}, err
		}
	}
	return Result{}, fmt.Errorf("more than %d bytes came", int64(maxBytes))
}

// Send sends to an address on which Serve listens, for as long as length and
// at most limitBytes, and returns the receiver's account of it.
func Send(ctx context.Context, to netip.AddrPort, length time.Duration, limitBytes int64) (Result, error) {
	if length <= 0 || limitBytes <= 0 {
		return Result{}, fmt.Errorf("send to %s: %d bytes in %s: want more than none", to, limitBytes, length)
	}
	dialer := net.Dialer{Timeout: silenceLimit}
	dialed, err := dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return Result{}, fmt.Errorf("send to %s: %w", to, err)
	}
	defer dialed.Close()
	defer closeWith(ctx, dialed)()
	var result Result
	connection, ok := dialed.(*net.TCPConn)
	if !ok {
		return Result{}, fmt.Errorf("send to %s: not a TCP connection", to)
	}
	if err = send(connection, length, limitBytes); err == nil {
		err = connection.SetReadDeadline(time.Now().Add(silenceLimit + length))
	}
	if err == nil {
		err = json.NewDecoder(connection).Decode(&result)
	}
	if err != nil {
		return Result{}, fmt.Errorf("send to %s: %w", to, orCause(ctx, err))
	}
	return result, nil
}

// send writes for as long as length, or until the limit, and half-closes.
func send(connection *net.TCPConn, length time.Duration, limitBytes int64) error {
	if err := connection.SetWriteDeadline(time.Now().Add(length)); err != nil {
		return err
	}
	buffer := make([]byte, bufferBytes)
	for left := limitBytes; left > 0; {
		n, err := connection.Write(buffer[:min(left, bufferBytes)])
		left -= int64(n)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return err
		}
	}
	return connection.CloseWrite()
}

// closeWith closes the connection when the context ends, until it is called.
func closeWith(ctx context.Context, connection net.Conn) func() bool {
	return context.AfterFunc(ctx, func() { _ = connection.Close() })
}

// orCause is why the context ended, where it did, and else the error.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
