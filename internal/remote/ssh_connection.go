package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/crypto/ssh"
)

// OpenSSH refuses more than ten sessions on one connection (MaxSessions in
// sshd_config(5)), and frees one only a moment after its process has ended.
// Eight sessions are for users, SFTP among them, and one is to kill what does
// not end.
const (
	maxSessions = 8
	maxKillers  = 1
	// maxStuck is how many SFTP sessions may be given up before the whole
	// connection is.
	maxStuck = 4
	// A session that is refused is asked for again, openTries times, after
	// pauses that double from openFirstPause.
	openTries      = 6
	openFirstPause = 50 * time.Millisecond
	// missedAnswers is how many keep-alive intervals may pass without anything
	// from the host.
	missedAnswers = 3
	keepAliveName = "keepalive@openssh.com"
	// Linux limits the length of each argument of a program, and the whole
	// command line is one argument of the shell (MAX_ARG_STRLEN, execve(2), less
	// the final zero). Dropbear has a limit of its own (MAX_CMD_LEN in its
	// sysoptions.h).
	linuxMaxLineBytes    = 128<<10 - 1
	dropbearMaxLineBytes = 9000
)

// connection is one SSH connection, shared by all users of a host.
type connection struct {
	client  *ssh.Client
	carrier *carrier      // the jump host's connection that carries this one, or nil
	sudo    *sudoer       // makes everything run as root, or nil
	lost    chan struct{} // closed by drop
	once    sync.Once     // for drop
	slots   chan struct{} // holds a token for each open session
	killers chan struct{} // the same for sessions that kill
	// sharesGroup is true when the server does not give each command a process
	// group of its own; dropbear does not.
	sharesGroup bool
	// maxLineBytes is the longest command line that the server takes.
	maxLineBytes int

	openingSFTP chan struct{} // holds a token while the SFTP session is opened
	sftpMutex   sync.Mutex
	sftp        sftpFiles    // empty until used, and after it was lost or given up
	stuck       atomic.Int32 // SFTP sessions that were given up
}

func newConnection(client *ssh.Client, watched *watchedConn, keepAlive time.Duration, over *carrier, sudo *sudoer) *connection {
	c := &connection{
		client:  client,
		carrier: over,
		sudo:    sudo,
		lost:    make(chan struct{}),
		slots:   make(chan struct{}, maxSessions),
		killers: make(chan struct{}, maxKillers),

		openingSFTP: make(chan struct{}, 1),
	}
	c.maxLineBytes = linuxMaxLineBytes
	if isDropbear(client.ServerVersion()) {
		c.sharesGroup, c.maxLineBytes = true, dropbearMaxLineBytes
	}
	go func() {
		_ = client.Wait()
		c.drop()
	}()
	go c.keepAlive(watched, keepAlive)
	return c
}

// drop gives the connection up. It does not wait, because closing a broken
// connection may take long.
func (c *connection) drop() {
	c.once.Do(func() {
		close(c.lost)
		go func() { _ = c.client.Close() }() // often closed already
	})
}

func (c *connection) isLost() bool {
	select {
	case <-c.lost:
		return true
	default:
		return false
	}
}

// keepAlive drops the connection when nothing has come from the host for
// missedAnswers intervals although it was asked to answer.
func (c *connection) keepAlive(watched *watchedConn, interval time.Duration) {
	defer c.drop()
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	answered := make(chan error, 1)
	waiting, missed, before := false, 0, int64(0)
	for {
		select {
		case <-c.lost:
			return
		case err := <-answered:
			if err != nil {
				return
			}
			waiting = false
		case <-ticker.C:
			if received := watched.received.Load(); received != before {
				before, missed = received, 0
			} else if waiting {
				missed++
			}
			if missed >= missedAnswers {
				return
			}
			if !waiting {
				waiting, missed = true, 0
				go func() {
					_, _, err := c.client.SendRequest(keepAliveName, true, nil)
					answered <- err
				}()
			}
		}
	}
}

// explain tells a refusal by a living host from the loss of the connection. The
// loss need not be known yet, so it asks the host for an answer.
func (c *connection) explain(err error) error {
	if err == nil || errors.Is(err, ErrConnectionLost) {
		return err
	}
	if c.isLost() {
		return c.lostError(err)
	}
	if _, _, gone := c.client.SendRequest(keepAliveName, true, nil); gone != nil {
		c.drop()
		return c.lostError(err)
	}
	return err
}

// session is one session channel of a connection.
type session struct {
	ssh.Channel
	requests   <-chan *ssh.Request // must be read by whoever opened the session
	connection *connection
	release    func()
}

// open opens a session once one of the slots is free. An ErrConnectionLost means
// that nothing was asked of the host.
func (c *connection) open(ctx context.Context, slots chan struct{}) (*session, error) {
	pauses := &backoff.ExponentialBackOff{InitialInterval: openFirstPause, Multiplier: 2, MaxInterval: time.Second}
	return backoff.Retry(ctx, func() (*session, error) {
		s, err := c.openOnce(ctx, slots)
		var refused *ssh.OpenChannelError
		if err != nil && !errors.As(err, &refused) {
			err = backoff.Permanent(err)
		}
		return s, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxTries(openTries))
}

func (c *connection) openOnce(ctx context.Context, slots chan struct{}) (*session, error) {
	select {
	case slots <- struct{}{}:
	case <-c.lost:
		return nil, c.lostError(nil)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	s := &session{connection: c, release: sync.OnceFunc(func() { <-slots })}
	opened := make(chan error, 1)
	go func() {
		var err error
		s.Channel, s.requests, err = c.client.OpenChannel("session", nil)
		opened <- err
	}()
	select {
	case err := <-opened:
		if err == nil {
			return s, nil
		}
		s.release()
		var refused *ssh.OpenChannelError
		if errors.As(err, &refused) {
			return nil, fmt.Errorf("the host refuses to open a session: %w", err)
		}
		c.drop()
		return nil, c.lostError(err)
	case <-ctx.Done():
		go func() {
			if <-opened == nil {
				go ssh.DiscardRequests(s.requests)
				s.close()
				return
			}
			s.release()
		}()
		return nil, context.Cause(ctx)
	}
}

func (s *session) close() {
	_ = s.Channel.Close() // the host may have closed it already
	s.release()
}

// watchedConn counts the bytes that come from the host: a busy host may answer
// late without being lost.
type watchedConn struct {
	net.Conn
	received atomic.Int64 // bytes
}

func newWatchedConn(conn net.Conn) *watchedConn { return &watchedConn{Conn: conn} }

func (w *watchedConn) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.received.Add(int64(n))
	return n, err
}
