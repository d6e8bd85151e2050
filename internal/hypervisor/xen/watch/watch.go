// Package watch watches the states of one domain of a Xen host by asking the
// hypervisor itself from the host's control domain. It uses no toolstack, no
// process, and no lock that a migration may hold. The domain is identified by
// its UUID, which is the same at both ends of a migration; nothing is written
// about any other domain.
//
// It promises that every change between two looks is written once, with the
// bounds of its time, and that an unbroken series of watch lines shows how close
// the looks were. It changes nothing on the host.
//
// Looking takes time from the guest: on an emulated host, 200 looks a second
// cost half of its I/Os. So the watcher looks seldom while the domain runs.
//
// Dangerous: a state that comes and goes between two looks is not seen, so the
// watch lines must be considered in every evaluation.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"heliotrope/internal/onhost/part"
	"heliotrope/internal/pace"
	"heliotrope/internal/witness"
)

// Name is the watcher's name in configurations of the witness.
const Name = "xen"

// Part is Xen's part of the witness's program.
var Part = part.Part{
	Classes: []string{"migration"},
	Watchers: map[string]part.Watcher{Name: func(ctx context.Context, out io.Writer, domain uuid.UUID) error {
		return Watch(ctx, out, domain, witness.DomainInterval)
	}},
}

// watchEvery is the interval of the lines that say that the domains are still
// watched.
const watchEvery = time.Second

// calm is how many times longer the interval between looks is while the domain
// runs. A control domain that wakes takes the processor from the guest with
// which it shares it, and that would show in the guest's measurement. A guest
// that does not run is not disturbed.
const calm = 20

// Watch watches the domain with that UUID, and writes lines in the format of
// witness.DomainsFile until the context ends, which is no error. It looks every
// interval while the domain is stopped, otherwise every calm × interval, and at
// once when xenstore reports that any domain was created, suspended or ended. A
// domain that the first look finds has a spacing of 0, because it is not known
// since when it is in its state. Watch must run in a Xen control domain, as
// root.
func Watch(ctx context.Context, out io.Writer, handle uuid.UUID, interval time.Duration) error {
	domains, err := open()
	if err != nil {
		return fmt.Errorf("watch the domains: %w", err)
	}
	defer domains.close()
	wake, closeBus, err := events()
	if err != nil {
		return fmt.Errorf("watch the domains: %w", err)
	}
	defer closeBus()
	calmly, err := pace.New(calm * interval)
	if err != nil {
		return fmt.Errorf("watch the domains: %w", err)
	}
	defer calmly.Stop()
	closely := time.NewTimer(0)
	defer closely.Stop()
	w := &watch{out: out, handle: handle, states: map[int]string{}}
	for {
		// The duration of the look itself counts: what it saw was true at some
		// time during it.
		before := time.Now()
		found, err := domains.list()
		if err != nil {
			return fmt.Errorf("watch the domains: %w", err)
		}
		if err := w.take(before, time.Now(), found); err != nil {
			return err
		}
		closely.Stop()
		if w.stopped() {
			closely.Reset(interval)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-calmly.C:
		case <-closely.C:
		case _, open := <-wake:
			if !open {
				return errors.New("watch the domains: the connection to xenstore has ended")
			}
		}
	}
}

// watch turns looks into lines.
type watch struct {
	out     io.Writer
	handle  uuid.UUID      // the UUID of the watched domain
	states  map[int]string // by the domain's ID on this host; as of the last look
	last    time.Time      // the beginning of the last look
	told    time.Time      // the time of the last watch line
	longest time.Duration  // the longest time between looks since then
}

// take writes what has changed until a look that lasted from before to after.
// The spacing is the time from the beginning of the previous look to the end of
// this one.
func (w *watch) take(before, after time.Time, found []domain) error {
	var spacing time.Duration
	if !w.last.IsZero() {
		spacing = after.Sub(w.last)
	}
	w.last = before
	w.longest = max(w.longest, spacing)
	there := map[int]bool{}
	for _, domain := range found {
		if domain.handle != w.handle {
			continue
		}
		there[domain.id] = true
		if err := w.see(after, domain.id, domain.state(), spacing); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.states)) {
		if there[id] {
			continue
		}
		if err := w.see(after, id, witness.DomainGone, spacing); err != nil {
			return err
		}
		delete(w.states, id)
	}
	if w.told.IsZero() || after.Sub(w.told) >= watchEvery {
		longest := w.longest
		w.told, w.longest = after, 0
		return w.line(after, 0, witness.DomainWatch, longest)
	}
	return nil
}

// stopped says that the domain does not run, and may run again.
func (w *watch) stopped() bool {
	for _, state := range w.states {
		if state == witness.DomainPaused || state == witness.DomainSuspended {
			return true
		}
	}
	return false
}

// see writes a domain's state if it has changed.
func (w *watch) see(at time.Time, id int, state string, spacing time.Duration) error {
	if w.states[id] == state {
		return nil
	}
	w.states[id] = state
	return w.line(at, id, state, spacing)
}

// line writes one line in one write, so that a reader sees whole lines, except
// for the last one.
func (w *watch) line(at time.Time, id int, state string, spacing time.Duration) error {
	_, err := fmt.Fprintf(w.out, "%d %d %s %d\n", at.UnixNano(), id, state, spacing.Nanoseconds())
	return err
}
