package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Sudo says how everything is done as root, by sudo(8), on a host whose user is not
// root.
type Sudo struct {
	// Password returns the password that sudo asks for, and is called when sudo asks.
	// It is nil when sudo must ask for none.
	Password func(context.Context) (string, error)
}

const (
	// sudoPrompt is the prompt that sudo is told to use. A password is sent only after
	// this prompt has come: when sudo asks for none, the password would become the
	// command's input.
	sudoPrompt = "[heliotrope: sudo wants the password]"
	// sudoLimit is how long sudo may take to start the command. A person may be asked
	// meanwhile.
	sudoLimit = 3 * time.Minute
	// rootPrologue is pidPrologue for a shell that sudo has started. The process group
	// is sudo's own, unless sudo has given the command a terminal; it is the fifth
	// field of proc_pid_stat(5).
	rootPrologue = "read -r pid name state parent group rest </proc/self/stat; echo heliotrope-pid=$group >&2; "
	// sftpServer starts OpenSSH's sftp-server from the paths of Debian, Red Hat, SUSE
	// and others. As a subsystem it would run as the user.
	sftpServer = `for server in /usr/lib/openssh /usr/libexec/openssh /usr/lib/ssh /usr/libexec /usr/lib; do ` +
		`[ -x "$server/sftp-server" ] && exec "$server/sftp-server"; done; ` +
		`echo "no sftp-server is installed (Debian: openssh-sftp-server, Red Hat: openssh-server)" >&2; exit 127`
)

// rootLine is the command line with which sudo makes a POSIX shell run a script as
// root. words, made by Words, are the script's arguments.
func (c *connection) rootLine(script, words string) string {
	line := "exec "
	if c.sharesGroup {
		line += quote("setsid") + " "
	}
	way := Words("sudo", "-n")
	if c.sudo.Password != nil {
		way = Words("sudo", "-S", "-p", sudoPrompt)
	}
	return line + way + " " + Words("--", "sh", "-c", rootPrologue+script, "sh") + " " + words
}

// sudoer is the state of sudo on one host.
type sudoer struct {
	Sudo
	user, host string
	// turn holds a token while a password is tried that sudo has not accepted before:
	// wrong passwords are counted, and may lock the account (pam_faillock(8)).
	turn chan struct{}

	mu       sync.Mutex
	password string // the password that sudo has accepted; "" before
	refused  error  // why no further password is tried
}

func newSudoer(sudo *Sudo, user, host string) *sudoer {
	if sudo == nil {
		return nil
	}
	return &sudoer{Sudo: *sudo, user: user, host: host, turn: make(chan struct{}, 1)}
}

// state is the password that sudo has accepted, or why none is tried.
func (s *sudoer) state() (password string, refused error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.password, s.refused
}

// sudoAttempt is one start of sudo. Nil stands for a host without sudo.
type sudoAttempt struct {
	*sudoer
	inTurn bool
	given  string // the password that was sent
	err    error  // why sudo's prompt was not answered
}

// begin is called before sudo is started; over must be called afterwards.
func (s *sudoer) begin(ctx context.Context) (*sudoAttempt, error) {
	if s == nil {
		return nil, nil // a nil attempt is valid
	}
	attempt := &sudoAttempt{sudoer: s}
	if s.Password == nil {
		return attempt, nil
	}
	if password, refused := s.state(); password != "" || refused != nil {
		return attempt, refused
	}
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	password, refused := s.state()
	if password != "" || refused != nil {
		<-s.turn
		return attempt, refused
	}
	attempt.inTurn = true
	return attempt, nil
}

// over is called when sudo has started the command, or never will.
func (a *sudoAttempt) over(begun bool) {
	if a == nil {
		return
	}
	if begun && a.given != "" {
		a.mu.Lock()
		a.password = a.given
		a.mu.Unlock()
	}
	if a.inTurn {
		a.inTurn = false
		<-a.turn
	}
}

// watch answers sudo's prompt in a session until the filter of its standard error
// reports that the command has started, or never will.
func (a *sudoAttempt) watch(ctx context.Context, s *session, filter *pidFilter) {
	if a == nil {
		return
	}
	prompts := make(chan struct{}, 1)
	filter.prompted = func() {
		select {
		case prompts <- struct{}{}:
		default:
		}
	}
	go func() {
		limit := time.NewTimer(sudoLimit)
		defer limit.Stop()
		for {
			select {
			case <-prompts:
				if a.err = a.answer(ctx, s); a.err != nil {
					_ = s.CloseWrite() // sudo gives up
				}
			case <-limit.C:
				a.err = fmt.Errorf("%w by sudo: it has begun nothing within %s", ErrAuthentication, sudoLimit)
				_ = s.Channel.Close()
			case <-filter.told:
				a.over(filter.pid > 1)
				close(filter.settled)
				return
			}
		}
	}()
}

// answer sends the password, once.
func (a *sudoAttempt) answer(ctx context.Context, stdin io.Writer) (err error) {
	if a.given != "" {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.refused = fmt.Errorf("%w by sudo on %s: the password that sudo_password_from leads to is not that of %s; it is not tried again "+
			"before the controller is started anew, as wrong ones may close the account", ErrAuthentication, a.host, a.user)
		return a.refused
	}
	password, _ := a.state()
	if password == "" {
		if password, err = a.Password(ctx); err != nil {
			return fmt.Errorf("%w by sudo, which asks for a password: %w", ErrAuthentication, err)
		}
	}
	if strings.ContainsAny(password, "\n\x00") || password == "" {
		return fmt.Errorf("%w by sudo: the password is empty or has more than one line", ErrAuthentication)
	}
	a.given = password
	_, err = io.WriteString(stdin, password+"\n")
	return err
}

// problem says why sudo has not started the command, once that is known.
func (a *sudoAttempt) problem() error {
	switch {
	case a.err != nil:
		return a.err
	case a.Password != nil:
		return fmt.Errorf("%w by sudo: %s must be allowed to become root on %s with a password (sudoers(5))", ErrAuthentication, a.user, a.host)
	}
	return fmt.Errorf("%w by sudo: %s must be allowed to become root on %s without a password and without a terminal "+
		"(a file in /etc/sudoers.d with %q, and no requiretty), or the inventory must say where the password is (sudo_password_from)",
		ErrAuthentication, a.user, a.host, a.user+" ALL=(root) NOPASSWD: ALL")
}

// runAsRoot makes sudo run a script in a session, to its end or until ctx ends. The
// script's standard error is its only result.
func (s *session) runAsRoot(ctx context.Context, script string) error {
	entry, err := s.enterRoot(ctx, script)
	if err == nil {
		<-entry.copied
	}
	return err
}

// rootEntry is a session in which a script was started as root.
type rootEntry struct {
	said   *capture
	copied chan struct{} // closed when there will be no further output
}

// words is the output so far, on one line.
func (e *rootEntry) words() string {
	e.said.mu.Lock()
	defer e.said.mu.Unlock()
	return lastLines(string(e.said.bytes()), maxStderrShown)
}

// enterRoot makes sudo start a script in a session.
func (s *session) enterRoot(ctx context.Context, script string) (*rootEntry, error) {
	c := s.connection
	attempt, err := c.sudo.begin(ctx)
	if err != nil {
		return nil, err
	}
	entry := &rootEntry{said: &capture{mu: new(sync.Mutex), fail: func(error) {}}, copied: make(chan struct{})}
	filter := newPidFilter(entry.said)
	attempt.watch(ctx, s, filter)
	accepted, err := s.SendRequest("exec", true, execRequest(c.rootLine(script, "")))
	if err != nil || !accepted {
		filter.flush()
		<-filter.settled
	}
	if err != nil {
		return nil, c.explain(err)
	}
	if !accepted {
		return nil, errors.New("the host refuses to start a command")
	}
	go func() {
		defer close(entry.copied)
		_, _ = io.Copy(filter, s.Stderr())
		filter.flush()
	}()
	select {
	case <-filter.settled:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if filter.pid > 1 {
		return entry, nil
	}
	<-entry.copied
	return nil, fmt.Errorf("%w: %s", attempt.problem(), entry.words())
}
