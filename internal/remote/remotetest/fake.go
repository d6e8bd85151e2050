package remotetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"sync"
	"testing"

	"heliotrope/internal/remote"
)

var _ remote.Host = (*Fake)(nil)

// Fake is a host that plays a script. A command the script does not know is an
// error, and fails the test.
type Fake struct {
	name   string
	t      testing.TB
	memory *MemoryFiles

	// Dial and Announce, when set, stand in for DialContext and Listen.
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)
	Announce func(network, address string) (net.Listener, error)

	mu    sync.Mutex
	rules []*rule
	calls []Call
}

// Call is one command that a Fake was asked to run.
type Call struct {
	Args  []string
	Env   []string
	Stdin string
}

// Reply is what a scripted command leaves.
type Reply struct {
	Stdout, Stderr string
	ExitCode       int
	// Err is for a command that did not end normally, such as
	// remote.ErrConnectionLost.
	Err error
}

// Matcher says whether a rule is for a command.
type Matcher func(call Call) bool

// Exactly matches a command with just these arguments.
func Exactly(args ...string) Matcher {
	return func(call Call) bool { return slices.Equal(call.Args, args) }
}

// Prefix matches a command whose arguments begin with these.
func Prefix(args ...string) Matcher {
	return func(call Call) bool {
		return len(call.Args) >= len(args) && slices.Equal(call.Args[:len(args)], args)
	}
}

type rule struct {
	matches Matcher
	answer  func(ctx context.Context, call Call) Reply
}

// NewFake returns a host with no script and no files.
func NewFake(t testing.TB, name string) *Fake {
	return &Fake{name: name, t: t, memory: NewMemoryFiles(name)}
}

// On answers commands that match: with the replies in order, and then with the
// last one again and again; without replies, with success and no output. When
// several rules match, the last one given counts.
func (f *Fake) On(matches Matcher, replies ...Reply) {
	if len(replies) == 0 {
		replies = []Reply{{}}
	}
	var mu sync.Mutex
	f.OnFunc(matches, func(context.Context, Call) Reply {
		mu.Lock()
		defer mu.Unlock()
		reply := replies[0]
		if len(replies) > 1 {
			replies = replies[1:]
		}
		return reply
	})
}

// OnFunc answers commands that match by a function, which may block until its
// context ends: a Reply without Err then gets the context's error.
func (f *Fake) OnFunc(matches Matcher, answer func(ctx context.Context, call Call) Reply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, &rule{matches, answer})
}

// Calls are the commands run so far, in the order they began.
func (f *Fake) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Commands are the arguments of Calls.
func (f *Fake) Commands() [][]string {
	var commands [][]string
	for _, call := range f.Calls() {
		commands = append(commands, call.Args)
	}
	return commands
}

// Memory is the host's files, to fill and to look at.
func (f *Fake) Memory() *MemoryFiles { return f.memory }

// Name is the host's name.
func (f *Fake) Name() string { return f.name }

// Run answers the command as the script says.
func (f *Fake) Run(ctx context.Context, command remote.Command) (remote.Result, error) {
	if command.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, command.Timeout)
		defer cancel()
	}
	call := Call{Args: slices.Clone(command.Args), Env: slices.Clone(command.Env)}
	if command.Stdin != nil {
		input, err := io.ReadAll(command.Stdin)
		if err != nil {
			return f.result(command, Reply{Err: err})
		}
		call.Stdin = string(input)
	}
	answer := f.record(call)
	if ctx.Err() != nil {
		return f.result(command, Reply{Err: context.Cause(ctx)})
	}
	if answer == nil {
		f.t.Errorf("%s: no script for command %q", f.name, command.Args)
		return f.result(command, Reply{Err: errors.New("no script for this command")})
	}
	reply := answer(ctx, call)
	if ctx.Err() != nil && reply.Err == nil {
		reply.Err = context.Cause(ctx)
	}
	return f.result(command, reply)
}

// record stores the call and finds the rule for it.
func (f *Fake) record(call Call) func(context.Context, Call) Reply {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, call)
	for _, rule := range slices.Backward(f.rules) {
		if rule.matches(call) {
			return rule.answer
		}
	}
	return nil
}

func (f *Fake) result(command remote.Command, reply Reply) (remote.Result, error) {
	for _, stream := range []struct {
		to   io.Writer
		text string
	}{{command.Stdout, reply.Stdout}, {command.Stderr, reply.Stderr}} {
		if stream.to == nil {
			continue
		}
		if _, err := io.WriteString(stream.to, stream.text); err != nil && reply.Err == nil {
			reply.Err = err
		}
	}
	if reply.Err != nil {
		reply.ExitCode = -1
	}
	result := remote.Result{Stdout: []byte(reply.Stdout), Stderr: []byte(reply.Stderr), ExitCode: reply.ExitCode}
	if reply.ExitCode == 0 {
		return result, nil
	}
	return result, &remote.Error{
		Host: f.name, Args: command.Args, ExitCode: reply.ExitCode, Stderr: reply.Stderr, Err: reply.Err,
	}
}

// Files reaches the host's files.
func (f *Fake) Files(ctx context.Context) (remote.Files, error) { return f.memory, context.Cause(ctx) }

// Upload copies a real file into the host's memory.
func (f *Fake) Upload(ctx context.Context, localPath, hostPath string, mode fs.FileMode, progress func(doneBytes, totalBytes int64)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	content, err := os.ReadFile(localPath)
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	report(progress, content)
	return f.memory.ReplaceFile(hostPath, content, mode)
}

// Download copies a file from the host's memory into a real one.
func (f *Fake) Download(ctx context.Context, hostPath, localPath string, progress func(doneBytes, totalBytes int64)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	content, err := f.memory.ReadFile(hostPath)
	if err != nil {
		return err
	}
	report(progress, content)
	return os.WriteFile(localPath, content, 0o644)
}

func report(progress func(doneBytes, totalBytes int64), content []byte) {
	if size := int64(len(content)); progress != nil && size > 0 {
		progress(size, size)
	}
}

// DialContext is Dial.
func (f *Fake) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if f.Dial == nil {
		return nil, fmt.Errorf("%s: no script for a connection to %s", f.name, address)
	}
	return f.Dial(ctx, network, address)
}

// Listen is Announce.
func (f *Fake) Listen(network, address string) (net.Listener, error) {
	if f.Announce == nil {
		return nil, fmt.Errorf("%s: no script for listening on %s", f.name, address)
	}
	return f.Announce(network, address)
}

// Close does nothing.
func (f *Fake) Close() error { return nil }
