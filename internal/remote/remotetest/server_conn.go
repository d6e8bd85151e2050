package remotetest

import (
	"net"
	"sync"
)

// gatedConn is a connection whose incoming side can be frozen.
type gatedConn struct {
	net.Conn
	mu     sync.Mutex
	frozen bool
	closed chan struct{}
	once   sync.Once
}

func newGatedConn(conn net.Conn) *gatedConn {
	return &gatedConn{Conn: conn, closed: make(chan struct{})}
}

func (c *gatedConn) freeze() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = true
}

func (c *gatedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	frozen := c.frozen
	c.mu.Unlock()
	if frozen {
		<-c.closed
		return 0, net.ErrClosed
	}
	return n, err
}

func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
