package simulated

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"heliotrope/internal/load"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/fio"
	"heliotrope/internal/load/iolog"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/record"
	"heliotrope/internal/trial"
)

var _ record.Recording = (*loading)(nil)

// endsAfter is how long recordings continue after the mark of the collection, until they are
// ended: longer than any I/O takes.
const endsAfter = time.Second

// recording is common to all recordings: a recording begins with the warm-up and ends in the
// collection, whoever calls Start and Stop.
type recording struct {
	bed     *Bed
	model   *model
	stopped atomic.Bool // by a call to this Recording's Stop
}

// Now returns the Bed's time, and Wait lets it pass.
func (r *recording) Now() time.Time { return r.bed.Now() }

func (r *recording) Wait(ctx context.Context, length time.Duration) error {
	return r.bed.Wait(ctx, length)
}

func (r *recording) Start(ctx context.Context) error { return r.bed.spend(ctx, commandTime) }

func (r *recording) Stop(ctx context.Context) error {
	r.stopped.Store(true)
	return r.bed.spend(ctx, commandTime)
}

func (r *recording) Remove(ctx context.Context) error { return r.Stop(ctx) }

// window returns the time that has been recorded by a moment.
func (r *recording) window(now time.Time) (from, to time.Time, begun bool) {
	from, begun = r.model.ref.Timeline.Start(trial.WarmUp)
	if collected, ended := r.model.ref.Timeline.Start(trial.Collect); ended {
		return from, collected.Add(endsAfter), begun
	}
	return from, now, begun
}

// ongoing returns the window as seen by a caller that looks at a recording before it ends.
func (r *recording) ongoing(now time.Time) (from, to time.Time, begun bool) {
	from, to, begun = r.window(now)
	if !r.stopped.Load() {
		to = now
	}
	return from, to, begun
}

var errNothing = errors.New("nothing has been recorded: the timeline has no warm-up before now")

// fetched returns the window that Fetch copies. It ends at the reference's time, so the same
// reference gives the same bytes.
func (r *recording) fetched() (from, to time.Time, err error) {
	from, to, begun := r.window(r.model.ref.Now)
	if !begun || !from.Before(to) {
		return from, to, errNothing
	}
	return from, to, nil
}

// loading is the model of the load.
type loading struct {
	recording
	mu   sync.Mutex
	last time.Time // of the last call to Progress
}

// loaded shortens a window if the load ends by itself in it, and reports whether it did.
func (r *recording) loaded(from, to time.Time) (time.Time, bool) {
	if at, unplugged := r.model.unplugged(); unplugged && at.Before(to) {
		return at, true
	}
	if after, ends := r.model.faults.loadEnds(r.model.ref); ends && from.Add(after).Before(to) {
		return from.Add(after), true
	}
	return to, false
}

// Progress counts the I/Os of the model.
func (l *loading) Progress(ctx context.Context) (record.Progress, error) {
	if err := l.bed.spend(ctx, commandTime); err != nil {
		return record.Progress{}, err
	}
	now := l.bed.Now()
	if err := l.model.answers(now); err != nil {
		return record.Progress{}, fmt.Errorf("progress of the load: %w", err)
	}
	progress := record.Progress{Running: !l.stopped.Load(), At: now}
	from, to, begun := l.ongoing(now)
	if !begun {
		return progress, nil
	}
	to, ended := l.loaded(from, to)
	if ended {
		progress.Running, progress.Problem = false, "the model was asked to let the load end"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	recent, latency := 0, int64(0)
	for done := range l.model.operations(from, to) {
		progress.Steps++
		if !l.last.IsZero() && done.done > l.last.UnixNano() {
			recent++
			latency += done.latency
		}
	}
	if recent > 0 {
		progress.IOPS = float64(recent) / now.Sub(l.last).Seconds()
		progress.MeanLatencyMs = float64(latency) / float64(recent) / float64(time.Millisecond)
	}
	l.last = now
	return progress, nil
}

// Fetch writes the log and the result as the load's engine would have written them.
func (l *loading) Fetch(ctx context.Context, folder string, progress func(doneBytes, totalBytes int64)) ([]string, error) {
	if err := l.bed.spend(ctx, commandTime); err != nil {
		return nil, err
	}
	from, to, err := l.fetched()
	if err != nil {
		return nil, fmt.Errorf("fetch the load of trial %s: %w", l.model.ref.Key(), err)
	}
	if err := l.model.answers(to); err != nil {
		return nil, fmt.Errorf("fetch the load of trial %s: %w", l.model.ref.Key(), err)
	}
	to, _ = l.loaded(from, to)
	at, unplugged := l.model.unplugged()
	fails := unplugged && !to.Before(at)
	files := l.ownFiles(from, to, fails)
	if l.model.access.Engine == spec.EngineFio {
		files = l.fioFiles(from, to, fails)
	}
	return writeFiles(folder, files, progress)
}

// fioFiles returns the files that fio leaves.
func (l *loading) fioFiles(from, to time.Time, fails bool) []rawFile {
	var result fioResult
	if fails {
		result.Error = int(syscall.EIO)
	}
	return []rawFile{
		{load.LogFile, func(w io.Writer) error { return fio.WriteLog(w, l.entries(from, to, &result)) }},
		{load.ResultFile, func(w io.Writer) error { return json.NewEncoder(w).Encode(result.document()) }},
	}
}

// ownFiles returns the files that our own engine leaves when no host took blocks of its log.
func (l *loading) ownFiles(from, to time.Time, fails bool) []rawFile {
	result := engine.Result{Version: version, Kernel: version, Method: version}
	return []rawFile{
		{engine.LogFile, func(w io.Writer) error { return l.model.writeLog(w, from, to, fails, &result) }},
		{engine.ResultFile, func(w io.Writer) error { return json.NewEncoder(w).Encode(result) }},
	}
}

// writeLog writes the log of our own engine, and counts the I/Os for its result. When fails is
// set, the oldest I/O in flight at the end fails.
func (m *model) writeLog(out io.Writer, from, to time.Time, fails bool, result *engine.Result) error {
	hash, err := iolog.ConfigHash(m.load.Access, m.load.Targets, m.load.Seed)
	if err != nil {
		return err
	}
	w := m.newWorkload(from)
	store := iolog.NewStore(iolog.Budget{KeepBytes: math.MaxInt64})
	var writers []*iolog.Writer
	for _, one := range w.workers {
		header := iolog.Header{Token: m.load.Token, Config: hash, Worker: one.number, Workers: len(w.workers), RateIOPS: m.load.Access.RateIOPS}
		writer := iolog.NewWriter(header, one.sequence, w.stamp(w.from), store)
		one.log = writer
		writers = append(writers, writer)
	}
	for e := range w.events(to) {
		if e.completes {
			result.IOs++
		}
	}
	if flying := w.workers[0].flying(); fails && len(flying) > 0 {
		writers[0].Completed(flying[0], int(syscall.EIO), w.stamp(to.UnixNano()))
		result.IOs, result.Errors, result.FirstErrno = result.IOs+1, 1, int64(syscall.EIO)
	}
	for i, one := range w.workers {
		result.Pending += len(one.flying())
		if err := writers[i].Close(w.stamp(to.UnixNano())); err != nil {
			return err
		}
	}
	_, err = store.WriteTo(out)
	return err
}

// writeFiles writes files into a folder and returns their names.
func writeFiles(folder string, files []rawFile, progress func(doneBytes, totalBytes int64)) ([]string, error) {
	var names []string
	total := int64(0)
	for _, file := range files {
		size, err := writeFile(folder, file.name, file.write)
		if err != nil {
			return nil, err
		}
		names = append(names, file.name)
		total += size
	}
	if progress != nil {
		progress(total, total)
	}
	return names, nil
}

// entries yields the model's I/Os as the guest logs them, and adds them up.
func (l *loading) entries(from, to time.Time, sum *fioResult) iter.Seq[fio.Line] {
	return func(yield func(fio.Line) bool) {
		for done := range l.model.operations(from, to) {
			entry := fio.Line{GuestTimeNs: l.model.guest.says(done.done), LatencyNs: done.latency, Write: !done.read,
				SizeBytes: int32(done.size), OffsetBytes: done.offset} //nolint:gosec // at most diskBytes
			direction := &sum.Write
			if done.read {
				direction = &sum.Read
			}
			direction.IOBytes += int64(done.size)
			direction.TotalIOs++
			if !yield(entry) {
				return
			}
		}
	}
}

// writeFile writes a file atomically and returns its size.
func writeFile(folder, name string, write func(io.Writer) error) (size int64, err error) {
	final := filepath.Join(folder, name)
	file, err := renameio.NewPendingFile(final, renameio.WithTempDir(folder), renameio.WithPermissions(0o644))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, file.Cleanup()) }()
	buffer := bufio.NewWriterSize(file, 64<<10) // which the formats' writers use as theirs
	if err := errors.Join(write(buffer), buffer.Flush()); err != nil {
		return 0, fmt.Errorf("write %s: %w", final, err)
	}
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), file.CloseAtomicallyReplace()
}
