// Package link installs programs on hosts, and has a worker run there and holds
// the line to it: what an activity on the controller uses to have
// heliotrope-worker run in a control domain, on the storage server or in the
// measured guest. The witness's program is installed the same way, and needs no
// line.
//
// It promises that
//   - a host needs a POSIX shell, busybox's or GNU's small tools and an SSH
//     server that forwards ports; no SFTP, no package, no open port: the worker
//     connects to its own loopback address, and SSH carries that to the gate
//     between it and Temporal (package gate);
//   - the line is held for ever: a lost SSH connection, a worker that died and
//     a Temporal that is away are mended, with pauses that grow to 10 s;
//   - the worker is its own process: it goes on while the line is down, and
//     whoever comes next with the same folder takes it over;
//   - no key or password of Temporal's is on the host, but one secret: the
//     worker's pass for its gate, in a file of the worker's folder that only its
//     owner can read. It is in no command line and no environment.
//
// Dangerous: a worker that cannot get its port again after a loss is started
// anew and drops the activities it ran.
package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path"
	"strconv"
	"strings"
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
	keepTimeout  = time.Minute
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
	// Gate makes what the worker's connections end at: it lets the worker
	// through that has the pass.
	Gate func(pass.Pass) (Gate, error)
	// Hurry, when set, has the worker's activities heartbeat at once whenever it gets
	// something: they may have been cancelled.
	Hurry <-chan struct{}
	// Lost, when set, is told that whatever the worker had begun is lost, and why: before a
	// worker is started in the place of one that has ended, and when nothing was heard of
	// it for 30 s. It heartbeats too seldom to be missed.
	Lost func(ctx context.Context, why string) error
	Log  zerolog.Logger
}

// Gate stands between a worker and Temporal; see package gate.
type Gate interface {
	// Serve lets the worker through that comes in at the listener, until that ends, which is
	// an error, or Stop was called.
	Serve(listener net.Listener) error
	// InUse says whether the worker is there: it holds a connection, and says something
	// now and then.
	InUse() bool
	// Stop closes the listener and every connection, also when Serve comes after it.
	Stop()
}

// check reports everything that is missing or cannot be meant.
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

// arguments is the worker's command line when it finds its gate on a port of
// its host.
func (o Options) arguments(port int) []string {
	return []string{o.Binary, "--address", loopback(port), "--pass-file", path.Join(o.Dir, passFile),
		"--namespace", o.Namespace, "--queue", o.Queue, "--role", o.Role, "--name", o.Name}
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// line is one worker and the way to it.
type line struct {
	Options
	host    remote.Host
	process record.Process
	port    int       // the worker's on its host, or 0 when not known yet
	pass    pass.Pass // the worker's for its gate; none when not known yet
	refused int       // how often in a row the host refused that port
	left    bool      // the worker was stopped while the line was up
	hasten  bool      // the worker is to be told to heartbeat when it can be
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
		if l.hasten && way.InUse() { // one that starts may not know the signal yet
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

// openGate has a gate serve what comes in on the host. What it returned for ended gets one
// error, when the forward has ended by itself.
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

// A worker writes down what it was started as: its port in one file, and
// everything it depends on in another.
const (
	portFile     = "port"
	identityFile = "identity"
	// passFile holds its pass. The controller writes it, through keepFile: what is in a
	// command line every user of the host can read.
	passFile = "pass"
	keepFile = `mkdir -p "${1%/*}" && umask 077 && cat > "$1"`
	announce = `printf '%s\n' "$1" > port && printf '%s\n' "$2" > identity && shift 2 && exec "$@"`
)

// find learns the port and the pass of a worker that somebody before us has started. Where
// there is none, the pass is a new one.
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
	l.port, _ = strconv.Atoi(status.Lines[0]) // 0 is as good as none
	return nil
}

// ensure has the worker run with the program and the arguments that are right
// now; one that runs with others is replaced.
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
	if _, err := l.host.Run(ctx, remote.Command{Args: []string{"sh", "-c", keepFile, "sh", path.Join(l.Dir, passFile)},
		Stdin: strings.NewReader(l.pass.Text() + "\n"), Timeout: keepTimeout}); err != nil {
		return fmt.Errorf("give the worker its pass: %w", err)
	}
	return l.process.Start(ctx, append([]string{"sh", "-c", announce, "sh", strconv.Itoa(l.port), identity}, args...)...)
}
