package beat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"

	"heliotrope/internal/pace"
	"heliotrope/internal/witness"
)

// HostOptions are the options of the part of a host's witness that listens to the guest.
type HostOptions struct {
	// Config has the addresses and the token; its other fields are ignored.
	Config witness.HostConfig
	// Heartbeats and Exchanges receive the lines of witness.HeartbeatsFile and
	// witness.ExchangesFile, one line in each Write. Whoever opened them buffers and flushes.
	Heartbeats, Exchanges io.Writer
	// Near reports whether the guest's domain runs on this host; nil when nothing observes that.
	// Each ask tells the guest.
	Near func() bool
}

// host receives from the guest and asks it for its time.
type host struct {
	HostOptions
	socket    *socket
	line      []byte // of the last heartbeat or exchange
	exchanges exchanges
	dropped   int // answers that no ask waited for
}

// Host records the guest's heartbeats and asks the guest for its time until the context ends,
// which is no error. A guest that does not answer is no error either: it may be booting, or
// suspended. A line that cannot be written is an error.
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
	return &host{HostOptions: options, socket: socket}, nil
}

// drainInterval is how often the host reads the datagrams that have arrived. The kernel notes
// when each one arrived, so nothing is lost by reading ten at once, and a host that shares its
// processor with the measured guest is woken ten times a second instead of a hundred times.
const drainInterval = witness.DiskInterval

// run processes what arrives, including what is left at the end, and asks the guest for its time.
func (h *host) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, h.socket.close()) }()
	out := h.socket.sender()
	ticker, err := pace.New(drainInterval)
	if err != nil {
		return err
	}
	defer ticker.Stop()
	for ticks := 0; ctx.Err() == nil; ticks++ {
		if err := h.socket.drain(h.take); err != nil {
			return err
		}
		if ticks%int(witness.ExchangeInterval/drainInterval) == 0 {
			out.send(h.Config.Guest, h.exchanges.ask(now(), h.Near != nil && h.Near()))
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	err = h.socket.drain(h.take)
	log.Printf("guest's heartbeats and clock: %s; answers that came twice or too late: %d", h.socket.account(), h.dropped)
	return err
}

// take processes a datagram.
func (h *host) take(r received) (err error) {
	switch {
	case r.kind == heartbeat && r.number > 0 && r.datagram.sent > 0:
		h.line = appendHeartbeat(h.line[:0], r.datagram, r.arrived)
		_, err = h.Heartbeats.Write(h.line)
	case r.kind == answer:
		err = h.answer(r)
	default:
		h.socket.dropped.Add(1)
	}
	if err != nil {
		return fmt.Errorf("write what the guest told: %w", err)
	}
	return nil
}

func (h *host) answer(r received) error {
	exchange, waited := h.exchanges.answer(r.datagram, r.arrived)
	if !waited {
		h.dropped++
	}
	if exchange == nil {
		return nil
	}
	h.line = appendExchange(h.line[:0], *exchange)
	_, err := h.Exchanges.Write(h.line)
	return err
}
