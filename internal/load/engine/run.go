package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"heliotrope/internal/load/inflight"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
)

const (
	progressEvery = time.Second
	// nearFor is how long the page's statement that a site is near remains valid.
	nearFor = 1500 * time.Millisecond
)

// Result is load.json: how a load was run, and what its workers counted.
type Result struct {
	Version    string `json:"version"` // of the program
	Kernel     string `json:"kernel"`  // of the guest
	Method     string `json:"method"`
	Detail     string `json:"detail,omitempty"` // of the method: flags of the ring, or why there is none
	IOs        int64  `json:"ios"`              // completed or failed
	Errors     int64  `json:"errors"`           // failed ones among IOs
	FirstErrno int64  `json:"first_errno,omitempty"`
	Violations int64  `json:"violations"`
	Pending    int    `json:"pending"`           // in flight at the end
	Sending    string `json:"sending,omitempty"` // what went wrong with sending the log
	Problem    string `json:"problem,omitempty"` // the error that ended the load
}

// life is one run of a load.
type life struct {
	config Config
	dir    string
	store  store
	method method
	files  []int
	// alignBytes is the alignment of every buffer.
	alignBytes int64
	log        *os.File       // the file that the store writes to at the end
	page       *inflight.Page // nil: no page
	workers    []*worker
	pending    []int // by worker
}

// run does what Run does, with logs as its store.
func run(ctx context.Context, c Config, dir string, logs store) (err error) {
	c.Access = c.Access.Complete()
	l := &life{config: c, dir: dir, store: logs, pending: make([]int, c.Access.Workers)}
	// Give Go's scheduler one processor (P) more than there are workers. While no P is idle, the
	// runtime's monitor thread takes the P away from a worker that has waited for 20 µs (retake,
	// in runtime/proc.go). In a guest with one vCPU that would happen at each I/O, and the
	// monitor would never sleep for longer.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), c.Access.Workers+1))
	if l.method, err = chooseMethod(c.Method); err != nil {
		return err
	}
	if l.files, l.alignBytes, err = openTargets(c.Access, c.Targets); err != nil {
		return err
	}
	// The file is created exclusively, so the log of an earlier load is never overwritten.
	if l.log, err = os.OpenFile(filepath.Join(dir, LogFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err != nil {
		return errors.Join(fmt.Errorf("make the log of the load: %w", err), closeTargets(l.files))
	}
	if err = l.prepare(); err == nil {
		err = l.live(ctx)
	}
	// While I/Os are in flight, the kernel still writes to their buffers: nothing is released.
	for _, pending := range l.pending {
		if pending > 0 {
			return err
		}
	}
	return errors.Join(err, l.close())
}

// prepare makes the page and the workers.
func (l *life) prepare() (err error) {
	c := &l.config
	if c.Page != "" {
		if l.page, err = inflight.Create(c.Page, c.Token, c.Access.Workers); err != nil {
			return err
		}
	}
	clock, err := newClock()
	if err != nil {
		return fmt.Errorf("read the clocks: %w", err)
	}
	began := clock.stamp()
	var verifier *verifier
	if c.Access.Verify != "" {
		verifier = newVerifier(c.Access, c.Targets, c.Token)
	}
	for number := range c.Access.Workers {
		own := *clock
		w := &worker{
			number: number, workers: c.Access.Workers, access: c.Access, targets: c.Targets, began: began, stamp: own.stamp,
			publish: l.publish(number),
		}
		if w.sequence, err = spec.NewSequence(c.Access, c.Targets, number, c.Seed); err != nil {
			return err
		}
		slots := c.Access.Outstanding * c.Access.Targets
		w.ios, w.submitted = make([]spec.IO, slots), make([]iolog.Stamp, slots)
		header, err := logHeader(c, number)
		if err != nil {
			return err
		}
		w.log = l.store.writer(header, w.sequence, began)
		if verifier != nil {
			w.memory, err = newVerified(verifier, c.Access, number)
		} else {
			w.memory, err = newBuffers(c.Access, number, c.Seed, l.alignBytes)
		}
		if err != nil {
			return err
		}
		l.workers = append(l.workers, w)
	}
	return nil
}

func (l *life) publish(worker int) func(oldestNs int64, completed uint64) {
	if l.page == nil {
		return func(int64, uint64) {}
	}
	return func(oldestNs int64, completed uint64) { l.page.Set(worker, oldestNs, completed) }
}

// live runs the workers until the context ends or one of them fails, and then writes the log and
// the result.
func (l *life) live(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var beside sync.WaitGroup
	var sending, telling error
	beside.Go(func() { sending = l.store.Send(ctx, l.near) })
	beside.Go(func() { telling = l.tell(ctx) })
	errs := make([]error, len(l.workers))
	var working sync.WaitGroup
	for i, w := range l.workers {
		working.Go(func() {
			defer stop()
			l.pending[i], errs[i] = l.work(ctx, w)
		})
	}
	working.Wait()
	beside.Wait()
	if errors.Is(sending, context.Canceled) {
		sending = nil
	}
	err := errors.Join(errs...)
	if err != nil {
		err = errors.New(strings.ReplaceAll(err.Error(), "\n", "; ")) // one line
	}
	if leaving := l.leave(err, sending); leaving != nil {
		return errors.Join(err, fmt.Errorf("leave the log of the load: %w", leaving))
	}
	return errors.Join(err, telling)
}

// work runs a worker on an OS thread of its own, which ends with the worker: the ring belongs to
// its thread, and the thread's timer slack is set to 1 ns so that it sleeps as precisely as the
// kernel can.
func (l *life) work(ctx context.Context, w *worker) (pending int, err error) {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("worker %d: prctl PR_SET_TIMERSLACK: %w", w.number, err)
	}
	if w.device, err = l.method.open(l.files, len(w.ios)); err != nil {
		return 0, fmt.Errorf("worker %d: %w", w.number, err)
	}
	pending, err = w.run(ctx)
	if pending == 0 {
		err = errors.Join(err, w.device.close())
	}
	return pending, err
}

// near returns the address of the host that takes blocks, when the page named its site within
// nearFor.
func (l *life) near() netip.AddrPort {
	if l.page == nil {
		return netip.AddrPort{}
	}
	site, at := l.page.Near()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil || now.Nano()-at > int64(nearFor) {
		return netip.AddrPort{}
	}
	switch site {
	case 'a':
		return l.config.SiteA
	case 'b':
		return l.config.SiteB
	}
	return netip.AddrPort{}
}

// tell writes the progress file until the context ends. After an error, such as a file system
// that is full for a while, it tries again; it returns the error of the last attempt.
func (l *life) tell(ctx context.Context) error {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	for {
		result, responseNs := l.sum()
		text := strconv.FormatInt(result.IOs, 10) + " " + strconv.FormatInt(responseNs, 10) + "\n"
		err := replace(filepath.Join(l.dir, ProgressFile), []byte(text))
		if err != nil {
			err = fmt.Errorf("tell the progress of the load: %w", err)
		}
		select {
		case <-ctx.Done():
			return err
		case <-ticker.C:
		}
	}
}

// sum adds up the workers' counts.
func (l *life) sum() (result Result, responseNs int64) {
	for _, w := range l.workers {
		result.IOs += w.count.ios.Load()
		result.Errors += w.count.errors.Load()
		result.Violations += w.count.violations.Load()
		responseNs += w.count.responseNs.Load()
		if errno := w.count.firstErrno.Load(); result.FirstErrno == 0 {
			result.FirstErrno = errno
		}
	}
	return result, responseNs
}

// leave writes the log first and the result last.
func (l *life) leave(problem, sending error) error {
	if _, err := l.store.WriteTo(l.log); err != nil {
		return err
	}
	if err := l.log.Sync(); err != nil {
		return err
	}
	result, _ := l.sum()
	result.Version, result.Method, result.Detail, result.Kernel = l.config.Version, l.method.name, l.method.detail, kernel()
	for _, pending := range l.pending {
		result.Pending += pending
	}
	if problem != nil {
		result.Problem = problem.Error()
	}
	if sending != nil {
		result.Sending = sending.Error()
	}
	text, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return replace(filepath.Join(l.dir, ResultFile), append(text, '\n'))
}

// kernel returns the guest's kernel release, as `uname -r` prints it.
func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err.Error()
	}
	return unix.ByteSliceToString(name.Release[:])
}

// replace writes a file atomically: the whole new content is there, or the old one.
func replace(path string, content []byte) error {
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path) //nolint:forbidigo // the load imports little (docs/load.md), and its folder is in memory
}

// close releases everything. It is called when nothing is in flight.
func (l *life) close() (err error) {
	for _, w := range l.workers {
		err = errors.Join(err, w.memory.close())
	}
	if l.page != nil {
		err = errors.Join(err, l.page.Close())
	}
	return errors.Join(err, l.log.Close(), closeTargets(l.files))
}
