package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	// drainPause is how long a command's output may be silent after the command
	// has ended before we stop waiting for the processes that it left behind
	// and that keep its output open.
	drainPause = 5 * time.Second
	// drainPauseStopped is the same for a command that we stopped.
	drainPauseStopped = 500 * time.Millisecond
	// killTimeout limits one attempt to kill a command.
	killTimeout = 10 * time.Second
	// endMargin is how long after the grace the news of a killed command's end
	// may take to reach us.
	endMargin = 5 * time.Second
)

// Run runs the command on the host. It starts the command again in one case
// only: when the connection turned out to be dead before the host was asked to
// start it.
func (h *SSHHost) Run(ctx context.Context, command Command) (Result, error) {
	e := begin(ctx, h.config.Name, command)
	defer e.release()
	if err := command.validate(); err != nil {
		return e.finish(ending{exitCode: -1, err: err})
	}
	var s *session
	err := h.onConnection(e.ctx, func(c *connection) (err error) {
		s, err = c.open(e.ctx, c.slots)
		return err
	})
	if err != nil {
		if e.ctx.Err() != nil {
			err = e.interrupted()
		}
		return e.finish(ending{exitCode: -1, err: err})
	}
	defer s.close()
	process := newProcess(s, e)
	go process.run()
	select {
	case end := <-process.ended:
		return e.finish(end)
	case <-e.ctx.Done():
		end, gone := process.stop(h.config.Grace)
		end.err = e.interrupted()
		if !gone {
			end.err = fmt.Errorf("%w; it may still run on the host", end.err)
		}
		return e.finish(end)
	}
}

// process is a command that runs in a session.
type process struct {
	*session
	execution *execution
	pid       *pidFilter
	ended     chan ending // gets one
}

func newProcess(s *session, e *execution) *process {
	return &process{session: s, execution: e, pid: newPidFilter(&e.stderr), ended: make(chan ending, 1)}
}

// run runs the command to its end.
func (p *process) run() { p.ended <- p.runToEnd() }

func (p *process) runToEnd() ending {
	status := make(chan ending, 1)
	go p.awaitStatus(status)
	line := p.connection.commandLine(p.execution.command)
	if len(line) > p.connection.maxLineBytes {
		return ending{exitCode: -1, err: fmt.Errorf("as a command line it has %d bytes, but the host takes only %d; send data as its input or as a file", len(line), p.connection.maxLineBytes)}
	}
	attempt, err := p.connection.sudo.begin(p.execution.ctx)
	if err != nil {
		p.pid.flush() // there will be no process ID
		return ending{exitCode: -1, err: err}
	}
	attempt.watch(p.execution.ctx, p.session, p.pid)
	accepted, err := p.SendRequest("exec", true, execRequest(line))
	if err != nil || !accepted {
		p.pid.flush()
	}
	if err != nil {
		return ending{exitCode: -1, err: fmt.Errorf("starting it: %w", p.connection.explain(err))}
	}
	if !accepted {
		return ending{exitCode: -1, err: errors.New("the host refuses to start a command")}
	}
	go p.feed(attempt)
	var copies sync.WaitGroup
	copies.Go(func() { _, _ = io.Copy(&p.execution.stdout, p.Channel) })
	copies.Go(func() {
		_, _ = io.Copy(p.pid, p.Stderr())
		p.pid.flush()
	})
	end, known := <-status
	if !known {
		copies.Wait() // the channel is closed
		return ending{exitCode: -1, err: p.connection.explain(errors.New("the session ended without an exit status"))}
	}
	p.drain(&copies)
	if attempt != nil && end != (ending{}) && p.neverBegan() {
		return ending{exitCode: -1, err: attempt.problem()}
	}
	return end
}

// commandLine is the line for the host's shell.
func (c *connection) commandLine(command Command) string {
	if c.sudo != nil {
		return c.rootLine(`exec "$@"`, words(command))
	}
	return pidPrologue + shellLine(command, c.sharesGroup)
}

// feed writes the command's input, once sudo can no longer take it for a
// password.
func (p *process) feed(attempt *sudoAttempt) {
	input := channelInput{p.Channel}
	if attempt != nil && attempt.Password != nil {
		<-p.pid.settled
		if p.pid.pid <= 1 {
			_ = input.Close()
			return
		}
	}
	p.execution.feed(input)
}

// neverBegan says that sudo has ended without starting the command.
func (p *process) neverBegan() bool {
	select {
	case <-p.pid.told:
		<-p.pid.settled
		return p.pid.pid <= 1
	default:
		return false // something keeps the output open, so the command has begun
	}
}

// drain waits for the rest of the output while output arrives.
func (p *process) drain(copies *sync.WaitGroup) {
	drained := make(chan struct{})
	go func() {
		copies.Wait()
		close(drained)
	}()
	ticker := time.NewTicker(drainPause)
	defer ticker.Stop()
	stopped := p.execution.ctx.Done()
	before := p.outputSteps()
	for {
		select {
		case <-drained:
			return
		case <-stopped:
			stopped = nil
			ticker.Reset(drainPauseStopped)
		case <-ticker.C:
			now := p.outputSteps()
			if now == before {
				return
			}
			before = now
		}
	}
}

// outputSteps changes whenever output arrives. A write in progress counts as a
// change, because it waits for the caller, not for the host.
func (p *process) outputSteps() [2]int64 {
	out, err := p.execution.stdout.steps.Load(), p.execution.stderr.steps.Load()
	if out%2 == 1 || err%2 == 1 {
		return [2]int64{-1, time.Now().UnixNano()}
	}
	return [2]int64{out, err}
}

// awaitStatus reads how the command ended (RFC 4254, section 6.10), and closes
// status when the host has closed the session.
func (p *process) awaitStatus(status chan<- ending) {
	defer close(status)
	told := false
	for request := range p.requests {
		var end ending
		var err error
		switch request.Type {
		case "exit-status":
			var message struct{ Code uint32 }
			err = ssh.Unmarshal(request.Payload, &message)
			end.exitCode = int(message.Code)
		case "exit-signal":
			var message struct {
				Signal         string
				CoreDumped     bool
				Text, Language string
			}
			err = ssh.Unmarshal(request.Payload, &message)
			end = ending{exitCode: -1, signal: message.Signal}
		default:
			err = errors.New("not about the end")
		}
		if request.WantReply {
			_ = request.Reply(false, nil)
		}
		if err == nil && !told {
			told = true
			status <- end
		}
	}
}

// stop ends the command: TERM for its process group, the grace, then KILL. It
// waits for a limited time, and says whether the command is known to have
// ended.
func (p *process) stop(grace time.Duration) (end ending, gone bool) {
	end = ending{exitCode: -1}
	if !p.connection.isLost() {
		p.kill(grace)
	}
	select {
	case end = <-p.ended:
		return end, !errors.Is(end.err, ErrConnectionLost)
	case <-time.After(grace + endMargin): //nolint:forbidigo // a limit
		return end, false
	}
}

// killLine makes a host end a process group by itself, in the background, so
// that losing the connection meanwhile does not save the group. Its parameters
// are the ID of the group and the grace in tenths of a second.
const killLine = `(kill -TERM -%[1]d; n=0; ` +
	`while [ $n -lt %[2]d ] && kill -0 -%[1]d; do sleep 0.1; n=$((n+1)); done; ` +
	`kill -KILL -%[1]d) </dev/null >/dev/null 2>&1 &`

// kill makes the host end the command's process group, through a session of its
// own: OpenSSH before 9.8 refuses the signal requests of RFC 4254, section 6.9,
// when root is logged in, and dropbear mostly does. Those requests are the
// fallback when there is no process ID, or no session.
func (p *process) kill(grace time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), killTimeout)
	defer cancel()
	pid, known := p.pid.wait(ctx)
	var s *session
	err := errors.New("process id unknown")
	if known {
		s, err = p.connection.open(ctx, p.connection.killers)
	}
	if err != nil {
		p.signal("TERM")
		time.AfterFunc(grace, func() { p.signal("KILL") })
		return
	}
	defer s.close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		line := fmt.Sprintf(killLine, pid, grace.Milliseconds()/100)
		if p.connection.sudo != nil {
			go ssh.DiscardRequests(s.requests)
			_ = s.runAsRoot(ctx, line) // only root could kill it
			return
		}
		if ok, err := s.SendRequest("exec", true, execRequest(line)); ok && err == nil {
			ssh.DiscardRequests(s.requests) // until it has ended
		}
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// signal requests a signal; it has no effect when the server does not support
// that.
func (p *process) signal(name string) {
	_, _ = p.SendRequest("signal", false, ssh.Marshal(struct{ Name string }{name}))
}

// execRequest is the body of an exec request (RFC 4254, section 6.5).
func execRequest(line string) []byte { return ssh.Marshal(struct{ Line string }{line}) }

// channelInput is the sending half of a session.
type channelInput struct{ ssh.Channel }

func (c channelInput) Close() error { return c.CloseWrite() }

// isDropbear reads the version string of a server (RFC 4253, section 4.2).
func isDropbear(version []byte) bool {
	return strings.HasPrefix(strings.ToLower(string(version)), "ssh-2.0-dropbear")
}
