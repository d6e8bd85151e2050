package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/crypto/ssh"
)

// goneLimit is how long a jump host may take to answer after a connection through
// it is lost.
const goneLimit = 2 * time.Second

// carrier is the connection to a jump host that carries another connection.
type carrier struct {
	host       string
	connection *connection
}

// dialVia connects to the host, through its jump host when it has one.
func (h *SSHHost) dialVia(ctx context.Context) (net.Conn, *carrier, error) {
	jump, is := h.config.Via.(*SSHHost)
	if !is {
		conn, err := h.config.Via.DialContext(ctx, "tcp", h.config.Address)
		return conn, nil, err
	}
	conn, over, err := jump.dialOver(ctx, "tcp", h.config.Address)
	return conn, &carrier{host: jump.config.Name, connection: over}, err
}

// way names the jump hosts through which the host is reached; "" when there are
// none.
func (h *SSHHost) way() string {
	if jump, is := h.config.Via.(*SSHHost); is {
		return " by way of the jump host " + jump.config.Name + jump.way()
	}
	return ""
}

// dialOver opens a connection from the host, and returns which of the host's
// connections carries it.
func (h *SSHHost) dialOver(ctx context.Context, network, address string) (conn net.Conn, over *connection, err error) {
	err = h.onConnection(ctx, func(c *connection) (err error) {
		over = c
		conn, err = c.client.DialContext(ctx, network, address)
		return c.explainOpen(ctx, err)
	})
	var refused *ssh.OpenChannelError
	if errors.As(err, &refused) && refused.Reason == ssh.Prohibited {
		err = fmt.Errorf("%w: its sshd_config must allow %s to forward (AllowTcpForwarding, AllowStreamLocalForwarding, PermitOpen)", err, h.config.User)
	}
	if err != nil && network == "unix" && h.sudo != nil {
		err = fmt.Errorf("%w; the socket is opened as %s, without sudo, who must be in the group that may", err, h.config.User)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: dial %s: %w", h.config.Name, address, err)
	}
	return conn, over, nil
}

// lostError says that the connection is lost, why if that is known, and which
// connections to jump hosts are lost with it.
func (c *connection) lostError(why error) error {
	err := ErrConnectionLost
	for over := c.carrier; over != nil && over.connection.gone(); over = over.connection.carrier {
		err = fmt.Errorf("%w: that to the jump host %s is lost", err, over.host)
	}
	if why != nil {
		err = fmt.Errorf("%w: %w", err, why)
	}
	return err
}

// gone asks the host whether the connection is lost, because the loss need not be
// known yet.
func (c *connection) gone() bool {
	answered := make(chan error, 1)
	go func() {
		_, _, err := c.client.SendRequest(keepAliveName, true, nil)
		answered <- err
	}()
	limit := time.NewTimer(goneLimit)
	defer limit.Stop()
	select {
	case err := <-answered:
		if err != nil {
			c.drop()
		}
		return err != nil
	case <-c.lost:
	case <-limit.C:
	}
	return true
}
