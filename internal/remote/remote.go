// Package remote runs commands and moves files on hosts: this machine, or one
// reached over SSH. It is the only place where Heliotrope starts a process on
// a host.
//
// It promises that
//   - a command is an argument list and arrives as that list, whatever its
//     arguments contain;
//   - a command never outlives its context: when the context ends, its whole
//     process group is killed;
//   - an operation on a file ends with its context too, and when the host does not
//     answer for a minute: a file on a dead disk holds up no other operation;
//   - a host key is always verified against the keys that the inventory names;
//   - an error says which host, which command, and what came back.
//
// Dangerous: a command that is cut off by a lost connection may have run, wholly
// or in part. Callers must be idempotent.
package remote

import (
	"context"
	"io"
	"io/fs"
	"net"
	"time"
)

// Command is one process to run on a host.
type Command struct {
	// Args is the program and its arguments. No shell interprets them.
	Args []string
	// Env holds extra variables as KEY=value, added to the host's own.
	Env []string
	// Stdin is sent to the process and then closed. Nil means empty.
	Stdin io.Reader
	// Stdout and Stderr, when not nil, receive the output as it arrives, in
	// addition to what Result keeps of it. They may be the same writer. The run
	// ends when a write to one fails, and cannot end while a write blocks.
	Stdout, Stderr io.Writer
	// Timeout limits the run; zero means only the context limits it.
	Timeout time.Duration
}

// Result is the outcome of a command.
type Result struct {
	Stdout   []byte // at most MaxCapture bytes, the oldest dropped
	Stderr   []byte // at most MaxCapture bytes, the oldest dropped
	ExitCode int
	Elapsed  time.Duration
}

// MaxCapture is how much of each output stream Result keeps, in bytes.
const MaxCapture = 1 << 20

// Runner runs commands on one host.
type Runner interface {
	// Name is the host's name, for errors and logs.
	Name() string
	// Run runs the command to its end. A non-zero exit, a signal, a time-out and
	// a lost connection are all errors of type *Error; Result is filled in as
	// far as known even then. The exit code of a program that is not there is
	// 127. Processes that a command leaves behind when it ends by itself live
	// on; Run waits a few seconds at most for output that they may still send.
	Run(ctx context.Context, command Command) (Result, error)
}

// Files gives access to the files of one host. Paths are absolute. Errors name
// the host and the path, and satisfy errors.Is with fs.ErrNotExist, fs.ErrExist
// and fs.ErrPermission where that is what happened.
//
// It works on configfs, sysfs and proc as well: WriteFile writes its data in
// one write call, and ReadFile does not trust the size that stat reports.
type Files interface {
	ReadFile(path string) ([]byte, error)
	// WriteFile creates or truncates path and writes data in place, in one
	// write. It is not atomic: use ReplaceFile for configuration.
	WriteFile(path string, data []byte, mode fs.FileMode) error
	// ReplaceFile writes data to a temporary file beside path and renames it
	// over path, so that a reader sees the old file or the new one.
	ReplaceFile(path string, data []byte, mode fs.FileMode) error
	// Truncate creates path where it is missing and sets its size, sparsely.
	Truncate(path string, sizeBytes int64) error
	MkdirAll(path string) error
	ReadDir(path string) ([]fs.FileInfo, error)
	Stat(path string) (fs.FileInfo, error)
	Symlink(target, link string) error
	ReadLink(link string) (string, error)
	// Remove removes one file, link or empty folder. A path that is not
	// there is no error.
	Remove(path string) error
	RemoveAll(path string) error
}

// Host is everything that Heliotrope can do with one machine.
type Host interface {
	Runner
	// Files gives access to the host's files. Each operation on the result ends
	// when ctx ends, or with a context.DeadlineExceeded when the host does not
	// answer.
	Files(ctx context.Context) (Files, error)
	// Upload and Download copy one file, by way of a temporary name, so that
	// a cut transfer never leaves a half file under the final name. progress,
	// when not nil, is called with the bytes done and the total.
	Upload(ctx context.Context, localPath, hostPath string, mode fs.FileMode, progress func(doneBytes, totalBytes int64)) error
	Download(ctx context.Context, hostPath, localPath string, progress func(doneBytes, totalBytes int64)) error
	// DialContext opens a connection from the host; for network "unix" the
	// address is the path of a socket there.
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	// Listen listens on the host's own address (a reverse forward).
	Listen(network, address string) (net.Listener, error)
	Close() error
}
