package beat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"heliotrope/internal/witness"
)

// HostOptions are what the part of a host's witness needs that listens to the
// guest.
type HostOptions struct {
	// Config has the addresses and the token; the rest is not looked at.
	Config witness.HostConfig
	// Heartbeats and Exchanges get the lines of witness.HeartbeatsFile and
	// witness.ExchangesFile, one in each Write, in different goroutines.
	// Whoever opened them buffers and flushes.
	Heartbeats, Exchanges io.Writer
}

// host listens to the guest.
type host struct {
	HostOptions
	socket *socket
	line   []byte // of a heartbeat

	mutex     sync.Mutex // of the exchanges and their lines
	exchanges exchanges
	dropped   int // answers that nobody waited for
}

// Host writes down the guest's heartbeats and asks it for its time until the
// context ends, which is no error. That the guest does not answer is none
// either: it may be at boot, or suspended. That a line cannot be written is.
func Host(ctx context.Context, options HostOptions) error {
	h, err := openHost(options)
	if err != nil {
		return err
	}
	return h.run(ctx)
}

func openHost(options HostOptions) (*host, error) {
	socket, err := listen(options.Config.Listen, options.Config.Guest, options.Config.Token)
	if err != nil {
		return nil, err
	}
	if err := socket.detach(); err != nil {
		return nil, fmt.Errorf("listen for heartbeats: %w", err)
	}
	return &host{HostOptions: options, socket: socket}, nil
}

func (h *host) run(ctx context.Context) error {
	defer h.socket.file.Close()
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return h.listen(ctx) })
	parts.Go(func() error { return h.ask(ctx) })
	err := parts.Wait()
	h.mutex.Lock()
	defer h.mutex.Unlock()
	err = errors.Join(err, h.write(h.exchanges.settle(0)))
	log.Printf("guest's heartbeats and clock: %s; answers that came twice or too late: %d", h.socket.account(), h.dropped)
	return err
}

// drainInterval is how often the host takes what has arrived. The kernel notes
// when each datagram arrived, so nothing is lost by taking ten at once, and a
// host that shares its processor with the measured guest is woken ten times a
// second instead of a hundred.
const drainInterval = 100 * time.Millisecond

// listen takes what arrives, to the end.
func (h *host) listen(ctx context.Context) error {
	witness.Align(ctx)
	pace := time.NewTicker(drainInterval)
	defer pace.Stop()
	for last := false; !last; {
		select {
		case <-ctx.Done():
			last = true
		case <-pace.C:
		}
		if err := h.socket.drain(h.take); err != nil {
			return err
		}
	}
	return nil
}

// take takes a datagram.
func (h *host) take(d datagram, arrived int64) (err error) {
	switch {
	case d.kind == heartbeat && d.number > 0 && d.sent > 0:
		h.line = appendHeartbeat(h.line[:0], d, arrived)
		_, err = h.Heartbeats.Write(h.line)
	case d.kind == answer:
		err = h.answer(d, arrived)
	default:
		h.socket.dropped.Add(1)
	}
	if err != nil {
		return fmt.Errorf("write what the guest told: %w", err)
	}
	return nil
}

func (h *host) answer(d datagram, arrived int64) error {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	settled, waited := h.exchanges.answer(d, arrived)
	if !waited {
		h.dropped++
	}
	return h.write(settled)
}

// write writes down exchanges that are settled; with the mutex.
func (h *host) write(settled []witness.Exchange) error {
	for _, exchange := range settled {
		if _, err := h.Exchanges.Write(appendExchange(nil, exchange)); err != nil {
			return fmt.Errorf("write the guest's clock: %w", err)
		}
	}
	return nil
}

// ask asks in bursts.
func (h *host) ask(ctx context.Context) error {
	out := h.socket.sender()
	pace := time.NewTicker(witness.ExchangeInterval)
	defer pace.Stop()
	spacing := time.NewTicker(askSpacing)
	defer spacing.Stop()
	for {
		h.mutex.Lock()
		err := h.write(h.exchanges.begin())
		h.mutex.Unlock()
		if err != nil {
			return err
		}
		spacing.Reset(askSpacing)
		for range burstAsks {
			select {
			case <-ctx.Done():
				return nil
			case <-spacing.C:
			}
			h.mutex.Lock()
			d := h.exchanges.ask(now())
			h.mutex.Unlock()
			out.send(h.Config.Guest, d)
		}
		spacing.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-pace.C:
		}
	}
}
