package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sync/singleflight"
)

var _ Host = (*SSHHost)(nil)

// Dialer opens connections. Every Host is a Dialer for connections from that host.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// SSHConfig says how to reach a host over SSH.
type SSHConfig struct {
	// Name is the host's name in errors and logs.
	Name string
	// Address is host:port, as seen from Via.
	Address string
	// User is the user to log in as; empty means root.
	User string
	// Key authenticates the user; see LoadKey.
	Key ssh.Signer
	// HostKeys are the keys the host may have: SHA256 fingerprints as
	// "ssh-keygen -l" prints them ("SHA256:..."), or public keys in the format
	// of authorized_keys ("ssh-ed25519 AAAA..."). At least one, or KnownHosts.
	HostKeys []string
	// KnownHosts are the paths of files in the format of known_hosts (sshd(8)), with
	// hashed names, @cert-authority and @revoked. They are read at each login. They
	// exclude HostKeys.
	KnownHosts []string
	// Sudo, when not nil, makes everything that is done on the host run as root, except
	// forwarding: connections, also to sockets, are opened by User.
	Sudo *Sudo
	// Via is the jump host, or nil to connect from here. If it is an SSHHost, errors of
	// a lost connection say whether the connection to the jump host was lost too. The
	// caller must close it.
	Via Dialer
	// ConnectTimeout limits connecting and logging in; zero means 30 s.
	ConnectTimeout time.Duration
	// DialAgain is how long a connection attempt may go unanswered before another is
	// started beside it; zero means 2 s. This finds a host that has just come up: TCP
	// repeats an unanswered request only after 1, 3, 7 and 15 s (RFC 6298, section 5.5).
	DialAgain time.Duration
	// KeepAlive is how often to ask whether the host still answers; zero means 10 s. A
	// host from which nothing arrives for three times that long counts as lost.
	KeepAlive time.Duration
	// Grace is how long a command may take to end after a TERM signal before it is
	// killed, and how long a request on a file may still take to be answered before it
	// is given up; zero means 2 s.
	Grace time.Duration
	// FileLimit is how long the host may take to answer one request on a file;
	// zero means one minute.
	FileLimit time.Duration
}

// SSHHost is a host reached over SSH. It connects when first used, shares that
// one connection among all its users, and connects again after a loss.
//
// The login shell of its user must be a POSIX shell.
type SSHHost struct {
	config   SSHConfig
	keys     acceptedKeys
	sudo     *sudoer         // nil when everything is done as the user
	ctx      context.Context // ends with Close
	close    context.CancelCauseFunc
	dialling singleflight.Group

	mu      sync.Mutex
	current *connection
	refused error
}

// SSH returns a host reached over SSH. It checks the configuration, but does
// not connect yet.
func SSH(config SSHConfig) (*SSHHost, error) {
	config.User = cmp.Or(config.User, "root")
	config.ConnectTimeout = cmp.Or(config.ConnectTimeout, 30*time.Second)
	config.DialAgain = cmp.Or(config.DialAgain, 2*time.Second)
	config.KeepAlive = cmp.Or(config.KeepAlive, 10*time.Second)
	config.Grace = cmp.Or(config.Grace, defaultGrace)
	config.FileLimit = cmp.Or(config.FileLimit, defaultFileLimit)
	if config.Via == nil {
		config.Via = &net.Dialer{}
	}
	var problems []error
	if config.Name == "" {
		problems = append(problems, errors.New("the host has no name"))
	}
	if _, _, err := net.SplitHostPort(config.Address); err != nil {
		problems = append(problems, fmt.Errorf("want host:port: %w", err))
	}
	if config.Key == nil {
		problems = append(problems, errors.New("no private key to log in with"))
	}
	keys, err := parseTrust(config)
	if err = errors.Join(append(problems, err)...); err != nil {
		return nil, fmt.Errorf("SSH host %q: %w", config.Name, err)
	}
	h := &SSHHost{config: config, keys: keys, sudo: newSudoer(config.Sudo, config.User, config.Name)}
	h.ctx, h.close = context.WithCancelCause(context.Background())
	return h, nil
}

// Name is the host's name.
func (h *SSHHost) Name() string { return h.config.Name }

// Close closes the connection and whatever still uses it.
func (h *SSHHost) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.close(ErrClosed)
	if h.current != nil {
		h.current.drop()
	}
	return nil
}

// Refuse makes every further operation on the host fail with ErrUnreachable and the
// reason. Operations that have begun go on.
func (h *SSHHost) Refuse(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = fmt.Errorf("%w: %s", ErrUnreachable, why)
}

func (h *SSHHost) refusal() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refused
}

// onConnection calls do with a connection. When do finds the connection dead before
// anything was asked of the host, which it reports by ErrConnectionLost, it is called
// once more with a new connection.
func (h *SSHHost) onConnection(ctx context.Context, do func(*connection) error) error {
	c, err := h.connection(ctx)
	if err != nil {
		return err
	}
	if err = do(c); !errors.Is(err, ErrConnectionLost) || ctx.Err() != nil {
		return err
	}
	if c, err = h.connection(ctx); err != nil {
		return err
	}
	return do(c)
}

// connection returns the live connection, or makes a new one when there is none. All
// callers that need a new one at the same time share it, or its failure.
func (h *SSHHost) connection(ctx context.Context) (*connection, error) {
	if h.ctx.Err() != nil {
		return nil, ErrClosed
	}
	if err := h.refusal(); err != nil {
		return nil, err
	}
	if c := h.live(); c != nil {
		return c, nil
	}
	made := h.dialling.DoChan("", func() (any, error) {
		if c := h.live(); c != nil {
			return c, nil
		}
		c, err := h.dial()
		if err != nil {
			return nil, fmt.Errorf("%w to %s@%s: %w", ErrUnreachable, h.config.User, h.config.Address, err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.ctx.Err() != nil {
			c.drop()
			return nil, ErrClosed
		}
		h.current = c
		return c, nil
	})
	select {
	case result := <-made:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*connection), nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// live returns the connection unless there is none or it is lost.
func (h *SSHHost) live() *connection {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current == nil || h.current.isLost() {
		return nil
	}
	return h.current
}

// dial connects and logs in. It belongs to no caller in particular.
func (h *SSHHost) dial() (*connection, error) {
	ctx, cancel := context.WithTimeoutCause(h.ctx, h.config.ConnectTimeout, &interruption{
		text: fmt.Sprintf("no answer within %s%s", h.config.ConnectTimeout, h.way()), cause: context.DeadlineExceeded,
	})
	defer cancel()
	check, err := h.newHostKeyCheck()
	if err != nil {
		return nil, err
	}
	raw, over, err := h.reach(ctx)
	if err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	watched := newWatchedConn(raw)
	// Connections through a jump host have no deadlines: closing one is what ends its
	// handshake.
	release := context.AfterFunc(ctx, func() { _ = raw.Close() })
	conn, channels, requests, err := ssh.NewClientConn(watched, h.config.Address, &ssh.ClientConfig{
		// AES in hardware is the cheapest cipher there is; the key exchange
		// is the part that takes long on a slow host.
		Config: ssh.Config{
			Ciphers:      []string{ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES128CTR, ssh.CipherAES256CTR},
			KeyExchanges: []string{ssh.KeyExchangeCurve25519, ssh.KeyExchangeECDHP256, ssh.KeyExchangeDH14SHA256, ssh.KeyExchangeDHGEXSHA256},
		},
		User:              h.config.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(h.config.Key)},
		HostKeyCallback:   check.verify,
		HostKeyAlgorithms: check.algorithms,
	})
	var none *ssh.AlgorithmNegotiationError
	switch {
	case !release():
		_ = raw.Close()
		return nil, context.Cause(ctx)
	case check.refused != nil:
		return nil, check.refused
	case errors.As(err, &none) && none.What == "host key":
		return nil, fmt.Errorf("%w: %s at %s has no key of a type that is known of it: %w", ErrHostKey, h.config.Name, h.config.Address, err)
	case err != nil && strings.Contains(err.Error(), "unable to authenticate"):
		// The library has no error type for this.
		return nil, fmt.Errorf("%w for key %s: %w", ErrAuthentication, ssh.FingerprintSHA256(h.config.Key.PublicKey()), err)
	case err != nil:
		return nil, err
	}
	return newConnection(ssh.NewClient(conn, channels, requests), watched, h.config.KeepAlive, over, h.sudo), nil
}

// reach opens the connection. While a try has no answer at all, it starts another beside
// it. The first answer counts, even if it is a refusal.
func (h *SSHHost) reach(ctx context.Context) (net.Conn, *carrier, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // of the other tries
	type outcome struct {
		conn net.Conn
		over *carrier
		err  error
	}
	outcomes := make(chan outcome)
	try := func() {
		conn, over, err := h.dialVia(ctx)
		select {
		case outcomes <- outcome{conn, over, err}:
		case <-ctx.Done():
			if err == nil {
				_ = conn.Close()
			}
		}
	}
	again := time.NewTicker(h.config.DialAgain)
	defer again.Stop()
	go try()
	for {
		select {
		case first := <-outcomes:
			return first.conn, first.over, first.err
		case <-again.C:
			go try()
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}
