package remote

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"slices"
	"strconv"
)

// pidPrologue makes the shell print its process ID before anything that the command
// prints. The ID becomes the command's, and is also the ID of its process group.
const pidPrologue = "echo heliotrope-pid=$$ >&2; "

var pidLine = regexp.MustCompile(`heliotrope-pid=([0-9]+)\n`)

// maxPrologueBytes is how much output may come before that line: a shell may print a
// greeting.
const maxPrologueBytes = 64 << 10

// pidFilter removes pidPrologue's line from standard error, and sudo's prompts before
// it.
type pidFilter struct {
	target io.Writer
	held   []byte // what came before the line
	done   bool
	told   chan struct{} // closed when pid is valid or will never be
	pid    int           // 0 while unknown
	// prompted, when set, is called for each prompt. Whoever has set it closes
	// settled when no further prompt will come.
	prompted func()
	settled  chan struct{}
}

func newPidFilter(target io.Writer) *pidFilter {
	return &pidFilter{target: target, told: make(chan struct{}), settled: make(chan struct{})}
}

func (f *pidFilter) Write(data []byte) (int, error) {
	if f.done {
		return f.target.Write(data)
	}
	f.held = append(f.held, data...)
	if at := bytes.Index(f.held, []byte(sudoPrompt)); at >= 0 && f.prompted != nil {
		f.held = slices.Delete(f.held, at, at+len(sudoPrompt))
		f.prompted()
	}
	if at := pidLine.FindSubmatchIndex(f.held); at != nil {
		f.pid, _ = strconv.Atoi(string(f.held[at[2]:at[3]]))
		f.held = append(bytes.Clone(f.held[:at[0]]), f.held[at[1]:]...)
		f.flush()
	} else if len(f.held) > maxPrologueBytes {
		f.flush()
	}
	return len(data), nil
}

// flush passes on the held output, once, and stops looking for the line.
func (f *pidFilter) flush() {
	if f.done {
		return
	}
	f.done = true
	close(f.told)
	if len(f.held) > 0 {
		_, _ = f.target.Write(f.held)
	}
	f.held = nil
}

// wait waits for the process ID. known is false when the ID will never be known, or
// is not known when ctx ends.
func (f *pidFilter) wait(ctx context.Context) (pid int, known bool) {
	select {
	case <-f.told:
		return f.pid, f.pid > 1
	case <-ctx.Done():
		return 0, false
	}
}
