package throughput_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"heliotrope/internal/freeport"
	"heliotrope/internal/wan/throughput"
)

type outcome struct {
	result throughput.Result
	err    error
}

// serve runs Serve until its sender can connect.
func serve(ctx context.Context, t *testing.T, at netip.AddrPort) <-chan outcome {
	t.Helper()
	ready, ended := make(chan struct{}), make(chan outcome, 1)
	go func() {
		result, err := throughput.Serve(ctx, at, func() { close(ready) })
		ended <- outcome{result, err}
	}()
	select {
	case <-ready:
	case end := <-ended:
		t.Fatalf("the receiver ended before it listened: %v", end.err)
	}
	return ended
}

func TestSendReturnsTheReceiversAccount(t *testing.T) {
	const limit = 8 << 20
	at := freeport.Loopback(t)
	ended := serve(t.Context(), t, at)
	result, err := throughput.Send(t.Context(), at, time.Minute, limit)
	if err != nil {
		t.Fatal(err)
	}
	end := <-ended
	if end.err != nil || end.result != result {
		t.Errorf("the receiver says %+v, %v, and the sender was told %+v", end.result, end.err, result)
	}
	// All bytes but those of the first read.
	if result.Bytes >= limit || result.Bytes < limit/2 || result.Seconds <= 0 {
		t.Errorf("of %d bytes: got %+v", limit, result)
	}
	if want := float64(result.Bytes) * 8 / result.Seconds; result.BitsPerSecond() != want {
		t.Errorf("got %v bit/s, want %v", result.BitsPerSecond(), want)
	}
}

// TestSendEndsInTime: the limit in bytes is too high to be reached.
func TestSendEndsInTime(t *testing.T) {
	at := freeport.Loopback(t)
	ended := serve(t.Context(), t, at)
	result, err := throughput.Send(t.Context(), at, 100*time.Millisecond, 1<<50)
	if err != nil || result.Bytes == 0 {
		t.Errorf("got %+v, %v", result, err)
	}
	if end := <-ended; end.err != nil {
		t.Error(end.err)
	}
}

func TestFewBytesHaveNoRate(t *testing.T) {
	at := freeport.Loopback(t)
	ended := serve(t.Context(), t, at)
	result, err := throughput.Send(t.Context(), at, time.Minute, 1)
	if err != nil || result != (throughput.Result{}) || result.BitsPerSecond() != 0 {
		t.Errorf("got %+v, %v", result, err)
	}
	<-ended
}

func TestEndsWithItsContext(t *testing.T) {
	reason := errors.New("no longer wanted")
	t.Run("nobody connects", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := serve(ctx, t, freeport.Loopback(t))
		cancel(reason)
		if end := <-ended; !errors.Is(end.err, reason) {
			t.Errorf("got %v", end.err)
		}
	})
	t.Run("a sender that goes on", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		at := freeport.Loopback(t)
		ended := serve(ctx, t, at)
		sent := make(chan error, 1)
		go func() {
			_, err := throughput.Send(t.Context(), at, time.Hour, 1<<50)
			sent <- err
		}()
		cancel(reason)
		if end := <-ended; !errors.Is(end.err, reason) {
			t.Errorf("the receiver: got %v", end.err)
		}
		if err := <-sent; err == nil {
			t.Error("the sender was told nothing, and is content")
		}
	})
	t.Run("a receiver that says nothing", func(t *testing.T) {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() {
			connection, err := listener.Accept()
			if err == nil {
				_, _ = io.Copy(io.Discard, connection)
				cancel(reason)
			}
		}()
		_, err = throughput.Send(ctx, netip.MustParseAddrPort(listener.Addr().String()), time.Minute, 1<<20)
		if !errors.Is(err, reason) {
			t.Errorf("got %v", err)
		}
	})
}

func TestRefused(t *testing.T) {
	at := freeport.Loopback(t)
	if _, err := throughput.Send(t.Context(), at, time.Second, 1); err == nil || !strings.Contains(err.Error(), "send to "+at.String()) {
		t.Errorf("nobody listens: got %v", err)
	}
	for _, bad := range []struct {
		length time.Duration
		limit  int64
	}{{0, 1}, {-time.Second, 1}, {time.Second, 0}} {
		if _, err := throughput.Send(t.Context(), at, bad.length, bad.limit); err == nil || !strings.Contains(err.Error(), "want more than none") {
			t.Errorf("%+v: got %v", bad, err)
		}
	}
	serve(t.Context(), t, at)
	if _, err := throughput.Serve(t.Context(), at, func() { t.Error("said to listen") }); err == nil {
		t.Error("two on one port")
	}
}
