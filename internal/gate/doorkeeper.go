package gate

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

const (
	// handshakeTimeout is how long a connection may take to show a pass. A connection
	// through SSH has no deadlines of its own.
	handshakeTimeout = 10 * time.Second
	// shakingAtOnce is how many connections may be in the handshake at a time.
	shakingAtOnce = 16
)

// doorkeeper lets in connections whose other end has the pass, and records when they are
// used. It implements a server's credentials.TransportCredentials.
type doorkeeper struct {
	credentials.TransportCredentials
	gate *Gate
}

var errCrowd = errors.New("too many connections that have shown no pass")

// ServerHandshake lets a connection in when its other end proves within handshakeTimeout
// that it has the pass.
func (d *doorkeeper) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	defer d.gate.shaking.Add(-1)
	if d.gate.shaking.Add(1) > shakingAtOnce {
		_ = raw.Close()
		return nil, nil, errCrowd
	}
	limited, cancel := context.WithTimeout(d.gate.stopped, handshakeTimeout)
	defer cancel()
	defer context.AfterFunc(limited, func() { _ = raw.Close() })()
	conn, info, err := d.TransportCredentials.ServerHandshake(raw)
	if err != nil {
		d.gate.note("a connection without its pass")
		return nil, nil, err
	}
	visit := &visit{Conn: conn, gate: d.gate}
	d.gate.heard.Store(time.Now().UnixNano())
	d.gate.open.Add(1)
	return visit, info, nil
}

// visit is one connection of the worker.
type visit struct {
	net.Conn
	gate  *Gate
	ended sync.Once
}

func (v *visit) Read(p []byte) (int, error) {
	n, err := v.Conn.Read(p)
	if n > 0 {
		v.gate.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

func (v *visit) Close() error {
	v.ended.Do(func() { v.gate.open.Add(-1) })
	return v.Conn.Close()
}
