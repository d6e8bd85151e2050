// Package throughput measures the rate that one TCP connection carries, as its receiver
// sees it. It is part of the small program that is put on the hosts, so it imports
// little.
//
// It promises that a Result is the receiver's account: it does not count bytes that are
// still in the sender's buffers, or in flight.
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
	// Bytes is how much arrived after the first read, and Seconds the time from that
	// read to the last one: how long the bytes of the first read took is not known.
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// BitsPerSecond is the rate of the payload; 0 when no time was measured.
func (r Result) BitsPerSecond() float64 {
	if r.Seconds <= 0 {
		return 0
	}
	return float64(r.Bytes) * 8 / r.Seconds
}

const (
	bufferBytes = 256 << 10
	// silenceLimit is how long either side waits for the other to go on. A sender waits
	// longer by the time for which it has sent: what is in the WAN's queue when it stops
	// has to get through first.
	silenceLimit = 30 * time.Second
	// maxBytes ends a connection whose sender does not end it.
	maxBytes = 64 << 30
)

// Serve accepts one TCP connection, reads until its end, answers on it with the Result
// as JSON, and returns the same Result. It calls ready once a sender can connect.
func Serve(ctx context.Context, listen netip.AddrPort, ready func()) (Result, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", listen.String())
	if err != nil {
		return Result{}, fmt.Errorf("receive on %s: %w", listen, err)
	}
	defer listener.Close()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	// The sender may be gone, and then nothing else would end this.
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

// receive reads until the sender ends.
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

// Send sends to an address on which Serve listens, for the given length and at most
// limitBytes, and returns the receiver's account.
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

// send writes for the given length, or until the limit, and then half-closes the
// connection.
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

// closeWith closes the connection when the context ends, unless the returned function
// was called before.
func closeWith(ctx context.Context, connection net.Conn) func() bool {
	return context.AfterFunc(ctx, func() { _ = connection.Close() })
}

// orCause is the reason why the context ended or, while it has not, the error.
func orCause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
