package simulated

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/witness"
)

var (
	_ record.Recording = (*watching)(nil)
	_ record.Tailer    = (*watching)(nil)
)

// watching is the witness of a machine. What the hosts' witnesses observe follows from the same
// schedule, each with the noise of its own way of observing.
type watching struct {
	recording
	machine string // a host, or the guest
}

// place returns where the host is: a site, or the store.
func (w *watching) place() storage.Site {
	switch w.machine {
	case w.bed.siteHost(storage.SiteA):
		return storage.SiteA
	case w.bed.siteHost(storage.SiteB):
		return storage.SiteB
	}
	return store
}

func (w *watching) clock() hostClock { return w.bed.hostClock(w.model.ref, w.machine) }

// alive shortens a window when the witness dies in it, and reports whether the witness is still
// alive.
func (w *watching) alive(to time.Time) (time.Time, bool) {
	host, at, dies := w.model.faults.witnessDies(w.model.ref)
	if dies && host == slices.Index(w.bed.HostNames(), w.machine) && at.Before(to) {
		return at, false
	}
	return to, true
}

// Progress counts the samples of a host, or the heartbeats of the guest.
func (w *watching) Progress(ctx context.Context) (record.Progress, error) {
	if err := w.bed.spend(ctx, commandTime); err != nil {
		return record.Progress{}, err
	}
	if err := w.model.answers(w.bed.Now()); err != nil && w.machine == testbed.GuestName {
		return record.Progress{}, fmt.Errorf("progress of the witness: %w", err)
	}
	progress := record.Progress{Running: !w.stopped.Load(), At: w.bed.Now()}
	from, to, begun := w.window(progress.At)
	if !begun {
		return progress, nil
	}
	to, alive := w.alive(to)
	if !alive {
		progress.Running, progress.Problem = false, "the model was asked to let the witness die"
	}
	every := witness.DiskInterval
	if w.machine == testbed.GuestName {
		every = witness.HeartbeatInterval
	}
	progress.Steps = max(0, int64(to.Sub(from)/every)+1)
	return progress, nil
}

// rawFile is a file that a recording leaves.
type rawFile struct {
	name  string
	write func(io.Writer) error
}

// files returns the files that a real witness on the host leaves. HeartbeatsFile is empty at the
// site to which no heartbeats are sent. The guest's witness leaves no files.
func (w *watching) files(from, to time.Time) []rawFile {
	if w.machine == testbed.GuestName {
		return nil
	}
	files := []rawFile{{witness.CountersFile, func(out io.Writer) error { return witness.WriteCounters(out, w.readings(from, to)) }}}
	if w.place() == store {
		return files
	}
	return append(files,
		rawFile{witness.DomainsFile, func(out io.Writer) error { return witness.WriteDomains(out, w.domains(from, to)) }},
		rawFile{witness.HeartbeatsFile, func(out io.Writer) error { return witness.WriteHeartbeats(out, w.heartbeats(from, to)) }},
		rawFile{witness.ExchangesFile, func(out io.Writer) error { return witness.WriteExchanges(out, w.exchanges(from, to)) }})
}

// Tail returns the end of what the program on the host would have written by now.
func (w *watching) Tail(ctx context.Context, name string, bytes int64) ([]byte, error) {
	if err := w.bed.spend(ctx, commandTime); err != nil {
		return nil, err
	}
	from, to, begun := w.ongoing(w.bed.Now())
	to, _ = w.alive(to)
	files := w.files(from, to)
	i := slices.IndexFunc(files, func(file rawFile) bool { return file.name == name })
	if !begun || i < 0 {
		return nil, fmt.Errorf("%s of %s: no such file", name, w.machine)
	}
	var text strings.Builder
	if err := files[i].write(&text); err != nil {
		return nil, err
	}
	return []byte(text.String()[max(0, int64(text.Len())-bytes):]), nil
}

// Fetch writes the raw files as the program on the host would have written them.
func (w *watching) Fetch(ctx context.Context, folder string, progress func(doneBytes, totalBytes int64)) ([]string, error) {
	if err := w.bed.spend(ctx, commandTime); err != nil {
		return nil, err
	}
	from, to, err := w.fetched()
	if err != nil {
		return nil, fmt.Errorf("fetch what the witness on %s saw of trial %s: %w", w.machine, w.model.ref.Key(), err)
	}
	to, _ = w.alive(to)
	return writeFiles(folder, w.files(from, to), progress)
}
