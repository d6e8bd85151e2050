package remote

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/crypto/ssh"
)

// DialContext opens a connection from the host: by direct-tcpip (RFC 4254,
// section 7.2) or, for network "unix", by direct-streamlocal@openssh.com
// (OpenSSH's PROTOCOL, section 2.4), which its AllowStreamLocalForwarding must
// allow. The connection has no deadlines.
func (h *SSHHost) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, _, err := h.dialOver(ctx, network, address)
	return conn, err
}

// Listen listens on the host's own address (tcpip-forward, RFC 4254, section
// 7.1) for as long as the present connection lives. With port 0 the host
// chooses one. Unless its sshd_config says GatewayPorts, a host listens on its
// loopback address only.
func (h *SSHHost) Listen(network, address string) (net.Listener, error) {
	var listener net.Listener
	err := h.onConnection(h.ctx, func(c *connection) (err error) {
		listener, err = c.client.Listen(network, address)
		return c.explain(err)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: listen on %s: %w", h.config.Name, address, err)
	}
	return listener, nil
}

// explainOpen is explain for a channel that could not be opened.
func (c *connection) explainOpen(ctx context.Context, err error) error {
	var refused *ssh.OpenChannelError
	if err == nil || ctx.Err() != nil || errors.As(err, &refused) {
		return err
	}
	return c.explain(err)
}
