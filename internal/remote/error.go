package remote

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

var (
	// ErrConnectionLost marks a connection to a host that died. A command
	// that was cut off this way may have run, wholly or in part.
	ErrConnectionLost = errors.New("connection lost")
	// ErrUnreachable marks a connection that could not be made at all: the command has
	// certainly not started.
	ErrUnreachable = errors.New("cannot connect")
	// ErrHostKey marks a host that offered a key that is not trusted.
	ErrHostKey = errors.New("host key not accepted")
	// ErrAuthentication marks a host that refused our key.
	ErrAuthentication = errors.New("authentication refused")
	// ErrClosed marks the use of a Host after its Close.
	ErrClosed = errors.New("host is closed")
)

// maxStderrKept is how many bytes of standard error an Error keeps; maxStderrShown and
// maxArgsShown are how many characters of it and of the arguments the message shows.
const (
	maxStderrKept  = 4096
	maxStderrShown = 400
	maxArgsShown   = 300
)

// Error describes a command that did not succeed.
type Error struct {
	Host string
	Args []string
	// ExitCode is the command's exit code, or -1 when it did not end normally. It is
	// 127 for a program that is not there, as in a shell.
	ExitCode int
	// Signal is the name of the signal that ended the command, without SIG.
	Signal string
	// Stderr is the end of the command's standard error.
	Stderr string
	// Err is why the command did not run to its end: the end of the context (errors.Is
	// with context.DeadlineExceeded or context.Canceled), or one of this package's
	// errors. It is nil for a command that ran and failed.
	Err error
}

// Error is one line: the host, the command, what happened, and the last lines
// of standard error.
func (e *Error) Error() string { return e.Host + ": " + e.Tried() + ": " + e.Found() }

// Tried is the command, on one line.
func (e *Error) Tried() string { return showArgs(e.Args) }

// Found is the outcome on one line: what happened, and the last lines of standard
// error.
func (e *Error) Found() string {
	what := fmt.Sprintf("exit code %d", e.ExitCode)
	switch {
	case e.Err != nil:
		what = e.Err.Error()
	case e.Signal != "":
		what = "killed by signal " + e.Signal
	}
	line := oneLine(what)
	if tail := lastLines(e.Stderr, maxStderrShown); tail != "" {
		line += ": " + tail
	}
	return line
}

func (e *Error) Unwrap() error { return e.Err }

// ExitCode returns the exit code of a command that ran to its end, from the error of
// its Run (0 for nil). ended is false for every other kind of error.
func ExitCode(err error) (code int, ended bool) {
	if err == nil {
		return 0, true
	}
	var failed *Error
	if errors.As(err, &failed) && failed.ExitCode >= 0 {
		return failed.ExitCode, true
	}
	return -1, false
}

// showArgs shows an argument list so that a reader sees where each argument begins.
func showArgs(args []string) string {
	shown := make([]string, len(args))
	for i, arg := range args {
		shown[i] = arg
		if arg == "" || strings.ContainsFunc(arg, needsQuote) {
			shown[i] = fmt.Sprintf("%q", arg)
		}
	}
	line := []rune(strings.Join(shown, " "))
	if len(line) > maxArgsShown {
		return string(line[:maxArgsShown]) + "…"
	}
	return string(line)
}

func needsQuote(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || r == unicode.ReplacementChar || strings.ContainsRune("\"'`\\", r)
}

// lastLines joins the last non-empty lines of text with "; ", at most limit
// characters; the oldest lines are dropped.
func lastLines(text string, limit int) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	joined := []rune(oneLine(strings.Join(lines, "; ")))
	if len(joined) > limit {
		return "…" + string(joined[len(joined)-limit:])
	}
	return string(joined)
}

// oneLine replaces characters that could break or disturb a line of a log.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
}
