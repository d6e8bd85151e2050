// Package link installs programs on hosts, runs a worker there and keeps it connected. An
// activity on the controller uses it to run heliotrope-worker in a control domain, on the
// storage server or in the measured guest. The witness's program is installed in the same
// way, but needs no connection.
//
// It promises that
//   - a host needs only a POSIX shell, the small tools of busybox or GNU, and an SSH
//     server that forwards ports. It needs no SFTP, no package and no open port: the worker
//     connects to its own loopback address, and SSH forwards that to the gate
//     between it and Temporal (package gate);
//   - the link is kept up for ever: when an SSH connection is lost, a worker dies or
//     Temporal is away, it is restored, with pauses that grow to 10 s;
//   - the worker is a process of its own: it goes on while the link is down, and
//     the next controller that uses the same folder takes it over;
//   - the host holds no key or password of Temporal. It holds one secret, the
//     worker's pass for its gate, in a file of the worker's folder that only its
//     owner can read. The pass is in no command line and no environment.
//
// Dangerous: a worker that cannot get its port back after a loss is restarted, and drops the
// activities that it ran.
package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"

	"heliotrope/internal/gate/pass"
	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/remote"
)

const (
	firstPause = 500 * time.Millisecond
	maxPause   = 10 * time.Second
	// beatInterval is how often to check whether the worker holds its connection, which
	// costs the host nothing.
	beatInterval = time.Second
	// lookInterval is how often to look for the process of a worker that holds no
	// connection, which costs the host a few processes.
	lookInterval = 5 * time.Second
	// stopGrace is how long the worker may take to end; it takes 4 s.
	stopGrace    = 10 * time.Second
	stopTimeout  = 30 * time.Second
	hurryTimeout = 5 * time.Second
	// lostAfter is how long nothing may be heard of a worker before the activities that it
	// runs count as lost. A worker that still lives ends them when it reaches its gate
	// again.
	lostAfter   = 30 * time.Second
	lostTimeout = 30 * time.Second
	// portTries is how often in a row the host may refuse the port that the worker knows
	// before the worker is given another.
	portTries = 4
)

// Options say which worker to run on a host.
type Options struct {
	// Dir is the folder of the worker's process on the host; nothing else may use it. A host
	// has one worker for each such folder.
	Dir       string
	Binary    string // path of the program on the host: BinaryPath of the folder given to InstallWorker
	Queue     string // its task queue
	Role      string // "host" or "guest"
	Name      string // the machine's name in the testbed
	Namespace string
	// Gate makes the gate at which the worker's connections end: it lets in the worker that
	// has the pass.
	Gate func(pass.Pass) (Gate, error)
	// Hurry, when not nil, makes the worker's activities heartbeat at once whenever a value
	// is received from this channel, because the activities may have been cancelled.
	Hurry <-chan struct{}
	// Lost, when not nil, is called with the reason when everything that the worker had
	// begun is lost: before a worker is started in the place of one that has ended, and when
	// nothing was heard of the worker for 30 s. The worker's heartbeats are too rare for
	// Temporal to notice that soon.
	Lost func(ctx context.Context, why string) error
	Log  zerolog.Logger
}

// Gate stands between a worker and Temporal; see package gate.
type Gate interface {
	// Serve lets the worker in that connects to the listener. It returns when the listener
	// fails, with an error, or after Stop.
	Serve(listener net.Listener) error
	// InUse says whether the worker is there: it holds a connection, and something was heard
	// of it recently.
	InUse() bool
	// Stop closes the listener and every connection, also when Serve is called only after
	// it.
	Stop()
}

// check reports every option that is missing or cannot be valid.
func (o Options) check() error {
	var missing []error
	for name, value := range map[string]string{"Dir": o.Dir, "Binary": o.Binary, "Queue": o.Queue, "Role": o.Role,
		"Name": o.Name, "Namespace": o.Namespace} {
		if value == "" {
			missing = append(missing, fmt.Errorf("link: %s is empty", name))
		}
	}
	if o.Gate == nil {
		missing = append(missing, errors.New("link: there is no Gate"))
	}
	if clean := path.Clean(o.Dir); !path.IsAbs(o.Dir) || path.Dir(clean) == "/" {
		missing = append(missing, fmt.Errorf("link: Dir %q is no folder that could be the worker's own", o.Dir))
	}
	return errors.Join(missing...)
}

// arguments is the command line of a worker that reaches its gate on a port of its host.
func (o Options) arguments(port int) []string {
	return []string{o.Binary, "--address", loopback(port), "--pass-file", path.Join(o.Dir, passFile),
		"--namespace", o.Namespace, "--queue", o.Queue, "--role", o.Role, "--name", o.Name}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// line is the link to one worker.
type line struct {
	Options
	host    remote.Host
	process record.Process
	port    int       // the port that the worker connects to on its host; 0 when not known yet
	pass    pass.Pass // the worker's pass for its gate; the zero Pass when not known yet
	refused int       // how often in a row the host refused that port
	left    bool      // the worker was stopped while the link was up
	hasten  bool      // the worker must still be told to heartbeat
}

// Run runs a worker on a host, connected to Temporal, until ctx ends. It then stops the
// worker and removes everything that the worker left, except the program. alive is called
// about once a second while the worker is known to hold a connection to Temporal through the
// link, and at no other time.
//
// It returns nil after the end of ctx when the worker is known to have ended. It returns
// early only where trying again does not help: bad options, a closed host, a host key or a
// login that is not accepted.
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
		l.hasten = true // the worker may miss a Hurry while the link is down
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
		_ = poll.Pause(ctx, pause) // the loop checks ctx itself
	}
	if l.left {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	return l.stop(ctx)
}

// listenFor returns a function to call instead of alive. When it is not called for
// lostAfter, the activities that the worker runs are lost. The caller must call stop.
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

// lose reports that what the worker had begun is lost.
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

// hold keeps the link up while the SSH connection lives. At the end of ctx it stops the
// worker while the worker can still tell Temporal that it shuts down.
func (l *line) hold(ctx context.Context, alive func()) error {
	if l.port == 0 {
		if err := l.find(ctx); err != nil {
			return err
		}
	}
	way, ended, stop, err := l.openGate()
	if err != nil {
		return err
	}
	defer stop()
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
		case err := <-ended:
			return fmt.Errorf("the forward ended: %w", err)
		case <-l.Hurry:
			l.hasten = true
		case <-beat.C:
		}
		if l.hasten && way.InUse() { // a worker that is starting may not handle the signal yet
			l.hasten = !l.hurry(ctx)
		}
		switch {
		case way.InUse():
			alive()
		case time.Since(looked) > lookInterval:
			looked = time.Now()
			if err := l.ensure(ctx); err != nil {
				return err
			}
		}
	}
}

// openGate makes a gate serve the connections to the host's port. The channel ended gets one
// error when the forward ends by itself.
func (l *line) openGate() (way Gate, ended <-chan error, stop func(), err error) {
	if way, err = l.Gate(l.pass); err != nil {
		return nil, nil, nil, err
	}
	listener, err := l.listen()
	if err != nil {
		return nil, nil, nil, err
	}
	failed := make(chan error, 1)
	var serving sync.WaitGroup
	serving.Go(func() { failed <- way.Serve(listener) })
	return way, failed, func() {
		way.Stop()
		serving.Wait()
	}, nil
}

// hurry makes the worker's activities heartbeat, which heliotrope-worker does on SIGUSR1. It
// returns whether the worker was told.
func (l *line) hurry(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, hurryTimeout)
	defer cancel()
	err := l.process.Signal(ctx, "USR1")
	if err != nil {
		l.Log.Debug().Err(err).Str("host", l.host.Name()).Msg("the worker cannot be told to heartbeat")
	}
	return err == nil
}

// listen listens on the host at the port that the worker knows or, when that stays taken, at
// another one. A host frees a port only when it has noticed itself that the previous
// connection is gone.
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

// A worker writes down what it was started with: its port in one file, and everything that
// it depends on in another.
const (
	portFile     = "port"
	identityFile = "identity"
	// passFile holds the worker's pass. The controller sends it on standard input, because
	// every user of the host can read a command line.
	passFile = "pass"
	announce = `printf '%s\n' "$1" > port && printf '%s\n' "$2" > identity && shift 2 && exec "$@"`
)

// find learns the port and the pass of a worker that an earlier controller has started. When
// there is no such worker, it makes a new pass.
func (l *line) find(ctx context.Context) error {
	status, err := l.process.Status(ctx, portFile, passFile)
	if err != nil {
		return err
	}
	known, none := pass.Parse(status.Lines[1])
	if status.State != record.Running || none != nil {
		l.port, l.pass = 0, pass.New()
		return nil
	}
	l.pass = known
	l.port, _ = strconv.Atoi(status.Lines[0]) // on an error the port is 0, which means that it is not known
	return nil
}

// ensure makes the worker run with the current program and arguments; a worker that runs
// with others is replaced.
func (l *line) ensure(ctx context.Context) error {
	status, err := l.process.Status(ctx, identityFile, digestPath(l.Binary))
	if err != nil {
		return err
	}
	args := l.arguments(l.port)
	identity := fmt.Sprintf("%q", append(args[:len(args):len(args)], status.Lines[1], l.pass.ID()))
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
	if err := l.process.Keep(ctx, passFile, l.pass.Text()+"\n"); err != nil {
		return fmt.Errorf("give the worker its pass: %w", err)
	}
	return l.process.Start(ctx, append([]string{"sh", "-c", announce, "sh", strconv.Itoa(l.port), identity}, args...)...)
}
