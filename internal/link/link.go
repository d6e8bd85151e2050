// Package link installs programs on hosts, and has a worker run there and holds
// the line to it: what an activity on the controller uses to have
// heliotrope-worker run in a control domain, on the storage server or in the
// measured guest. The witness's program is installed the same way, and needs no
// line.
//
// It promises that
//   - a host needs a POSIX shell, busybox's or GNU's small tools and an SSH
//     server that forwards ports; no SFTP, no package, no open port: the worker
//     connects to its own loopback address, and SSH carries that to Temporal;
//   - the line is held for ever: a lost SSH connection, a worker that died and
//     a Temporal that is away are mended, with pauses that grow to 10 s;
//   - the worker is its own process: it goes on while the line is down, and
//     whoever comes next with the same folder takes it over;
//   - no key or password of Temporal's is on the host: where Temporal wants
//     TLS, the controller speaks it.
//
// Dangerous: a worker that cannot get its port again after a loss is started
// anew and drops the activities it ran. On a host, whoever may log in there
// can reach Temporal through the forwarded port while the line is held.
package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"

	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

const (
	firstPause = 500 * time.Millisecond
	maxPause   = 10 * time.Second
	// beatInterval is how often to look whether the worker holds its
	// connection, which costs the host nothing.
	beatInterval = time.Second
	// lookInterval is how often to look for a worker's process that holds
	// none, which costs the host a few processes.
	lookInterval = 5 * time.Second
	// stopGrace is how long the worker may take to end; it ends in 4 s.
	stopGrace    = 10 * time.Second
	stopTimeout  = 30 * time.Second
	hurryTimeout = 5 * time.Second
	// lostAfter is how long nothing may be heard of a worker before what it is at counts
	// as lost. One that lives all the same ends that when it gets through again.
	lostAfter   = 30 * time.Second
	lostTimeout = 30 * time.Second
	// portTries is how often the host may refuse the port that the worker
	// knows before it gets another.
	portTries = 4
)

// Options say which worker to run on a host.
type Options struct {
	// Dir is the folder of the worker's process on the host, and its own. A
	// host has one worker for each such folder.
	Dir       string
	Binary    string // the program on the host: BinaryPath of what InstallWorker was given
	Queue     string // its task queue
	Role      string // host or guest
	Name      string // of the machine in the testbed
	Namespace string
	// TemporalAddress is the frontend's host:port, as reached from here.
	TemporalAddress string
	// TLS, when set, is how to speak to Temporal. The worker itself does not
	// know of it.
	TLS *tls.Config
	// Hurry, when set, has the worker's activities heartbeat at once whenever it gets
	// something: they may have been cancelled.
	Hurry <-chan struct{}
	// Lost, when set, is told that whatever the worker had begun is lost, and why: before a
	// worker is started in the place of one that has ended, and when nothing was heard of
	// it for 30 s. It heartbeats too seldom to be missed.
	Lost func(ctx context.Context, why string) error
	Log  zerolog.Logger
}

// check reports everything that is missing or cannot be meant.
func (o Options) check() error {
	var missing []error
	for name, value := range map[string]string{"Dir": o.Dir, "Binary": o.Binary, "Queue": o.Queue, "Role": o.Role,
		"Name": o.Name, "Namespace": o.Namespace, "TemporalAddress": o.TemporalAddress} {
		if value == "" {
			missing = append(missing, fmt.Errorf("link: %s is empty", name))
		}
	}
	if clean := path.Clean(o.Dir); !path.IsAbs(o.Dir) || path.Dir(clean) == "/" {
		missing = append(missing, fmt.Errorf("link: Dir %q is no folder that could be the worker's own", o.Dir))
	}
	return errors.Join(missing...)
}

// arguments is the worker's command line when it finds Temporal on a port of
// its host.
func (o Options) arguments(port int) []string {
	return []string{o.Binary, "--address", loopback(port), "--namespace", o.Namespace,
		"--queue", o.Queue, "--role", o.Role, "--name", o.Name}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// dial connects to Temporal.
func (o Options) dial(ctx context.Context) (net.Conn, error) {
	if o.TLS == nil {
		return (&net.Dialer{}).DialContext(ctx, "tcp", o.TemporalAddress)
	}
	config := o.TLS.Clone()
	config.NextProtos = []string{"h2"} // what the worker speaks is HTTP/2
	return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", o.TemporalAddress)
}

// line is one worker and the way to it.
type line struct {
	Options
	host    remote.Host
	process record.Process
	port    int  // the worker's on its host, or 0 when not known yet
	refused int  // how often in a row the host refused that port
	left    bool // the worker was stopped while the line was up
	hasten  bool // the worker is to be told to heartbeat when it can be
}

// Run has a worker run on a host, connected to Temporal, until ctx ends. It
// then stops the worker and removes what it left but the program. alive is
// called about once a second while the worker is known to hold a connection to
// Temporal through the line, and not otherwise.
//
// It returns nil after the end of ctx when the worker is known to have ended.
// It returns early only where waiting mends nothing: bad options, a closed
// host, a host key or a login that is not accepted.
func Run(ctx context.Context, host remote.Host, options Options, alive func()) error {
	if err := options.check(); err != nil {
		return err
	}
	l := &line{Options: options, host: host, process: record.Process{Host: host, Dir: options.Dir}}
	heard, stop := l.listenFor(ctx, alive)
	defer stop()
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = firstPause, maxPause
	for ctx.Err() == nil {
		started := time.Now()
		err := l.hold(ctx, heard)
		if ctx.Err() != nil {
			break
		}
		l.hasten = true // it may miss that meanwhile
		for _, hopeless := range []error{remote.ErrHostKey, remote.ErrAuthentication, remote.ErrClosed} {
			if errors.Is(err, hopeless) {
				return fmt.Errorf("hold the line to the worker: %w", err)
			}
		}
		if time.Since(started) > maxPause {
			pauses.Reset()
		}
		pause := pauses.NextBackOff()
		l.Log.Warn().Err(err).Str("host", host.Name()).Dur("pause_ms", pause).Msg("the line to the worker is down; trying again")
		_ = poll.Pause(ctx, pause) // the loop sees its end
	}
	if l.left {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return l.stop(ctx)
}

// listenFor returns what is to be called instead of alive: when it was not for lostAfter,
// what the worker is at is lost. stop must be called.
func (l *line) listenFor(ctx context.Context, alive func()) (heard, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	of := make(chan struct{}, 1)
	var listening sync.WaitGroup
	listening.Go(func() {
		silent := time.NewTimer(lostAfter)
		defer silent.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-of:
				silent.Reset(lostAfter)
			case <-silent.C:
				why := fmt.Sprintf("nothing was heard of its worker for %s", lostAfter)
				if err := l.lose(ctx, why); err != nil && ctx.Err() == nil {
					l.Log.Warn().Err(err).Str("host", l.host.Name()).Msg(why)
				}
			}
		}
	})
	heard = func() {
		select {
		case of <- struct{}{}:
		default:
		}
		alive()
	}
	return heard, func() {
		cancel()
		listening.Wait()
	}
}

// lose tells that what the worker had begun is lost.
func (l *line) lose(ctx context.Context, why string) error {
	if l.Lost == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lostTimeout)
	defer cancel()
	return l.Lost(ctx, why)
}

// stop ends the worker and removes its folder.
func (l *line) stop(ctx context.Context) error {
	if _, err := l.process.Stop(ctx, "TERM", stopGrace); err != nil {
		return err
	}
	return l.process.Remove(ctx)
}

// hold holds the line while the SSH connection lives. At the end of ctx it
// stops the worker while that can still take its leave of Temporal.
func (l *line) hold(ctx context.Context, alive func()) (err error) {
	if l.port == 0 {
		if l.port, err = l.findPort(ctx); err != nil {
			return err
		}
	}
	listener, err := l.listen()
	if err != nil {
		return err
	}
	forwarding, stop := context.WithCancel(context.WithoutCancel(ctx))
	way := newForward(forwarding, listener, l.dial)
	defer func() {
		stop()
		err = errors.Join(err, way.close())
	}()
	if err := l.ensure(ctx); err != nil {
		return err
	}
	l.Log.Debug().Str("host", l.host.Name()).Int("port", l.port).Msg("the line to the worker is up")
	beat := time.NewTicker(beatInterval)
	defer beat.Stop()
	looked := time.Now()
	for {
		select {
		case <-ctx.Done():
			stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			err := l.stop(stopping)
			l.left = err == nil
			return err
		case <-way.ended:
			return way.problem()
		case <-l.Hurry:
			l.hasten = true
		case <-beat.C:
		}
		if l.hasten && way.inUse() { // one that starts may not know the signal yet
			l.hasten = !l.hurry(ctx)
		}
		if err := way.problem(); err != nil {
			l.Log.Warn().Err(err).Str("host", l.host.Name()).Msg("the worker does not get through")
		}
		switch {
		case way.inUse():
			alive()
		case time.Since(looked) > lookInterval:
			looked = time.Now()
			if err := l.ensure(ctx); err != nil {
				return err
			}
		}
	}
}

// hurry has the worker's activities heartbeat: heliotrope-worker does that at USR1. It
// says whether the worker was told.
func (l *line) hurry(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, hurryTimeout)
	defer cancel()
	err := l.process.Signal(ctx, "USR1")
	if err != nil {
		l.Log.Debug().Err(err).Str("host", l.host.Name()).Msg("the worker cannot be told to heartbeat")
	}
	return err == nil
}

// listen listens on the host: on the port that the worker knows, or, where
// that stays taken, on another. A host frees a port only when it has noticed
// itself that the connection before is gone.
func (l *line) listen() (net.Listener, error) {
	wanted := l.port
	if l.refused >= portTries {
		wanted = 0 // the host chooses
	}
	listener, err := l.host.Listen("tcp", loopback(wanted))
	if err != nil {
		if wanted != 0 {
			l.refused++
		}
		return nil, err
	}
	l.refused = 0
	if address, ok := listener.Addr().(*net.TCPAddr); ok && wanted == 0 {
		l.port = address.Port
	}
	return listener, nil
}

// A worker writes down what it was started as: its port on one line, and
// everything it depends on on another.
const (
	portFile     = "port"
	identityFile = "identity"
	announce     = `printf '%s\n' "$1" > port && printf '%s\n' "$2" > identity && shift 2 && exec "$@"`
)

// findPort returns the port that a worker of somebody before us knows, or 0.
func (l *line) findPort(ctx context.Context) (int, error) {
	status, err := l.process.Status(ctx, portFile)
	if err != nil || status.State != record.Running {
		return 0, err
	}
	port, _ := strconv.Atoi(status.Lines[0]) // 0 is as good as none
	return port, nil
}

// ensure has the worker run with the program and the arguments that are right
// now; one that runs with others is replaced.
func (l *line) ensure(ctx context.Context) error {
	status, err := l.process.Status(ctx, identityFile, digestPath(l.Binary))
	if err != nil {
		return err
	}
	args := l.arguments(l.port)
	identity := fmt.Sprintf("%q", append(args[:len(args):len(args)], status.Lines[1]))
	if status.State == record.Running && status.Lines[0] == identity {
		return nil
	}
	l.Log.Info().Str("host", l.host.Name()).Int("port", l.port).Str("before", string(status.State)).
		Str("it_said", status.Said).Msg("starting the worker")
	if err := l.stop(ctx); err != nil {
		return err
	}
	if err := l.lose(ctx, "its worker has ended"); err != nil {
		return err
	}
	return l.process.Start(ctx, append([]string{"sh", "-c", announce, "sh", strconv.Itoa(l.port), identity}, args...)...)
}
