// Package watch watches the states of one domain of a Xen host, by asking the
// hypervisor itself from its control domain: no toolstack, no process, no lock
// that a migration may hold. The domain is known by its UUID, which is the same
// at both ends of a migration; no other domain is ever written of.
//
// It promises that every change between two looks is written, once, with the
// bounds in which it came about, and that an unbroken row of watch lines shows
// how close the looks were. It changes nothing on the host.
//
// Looking costs the guest: on an emulated host, 200 looks a second took half of
// its I/Os. So it looks seldom while the domain runs.
//
// Dangerous: a state that comes and goes between two looks is not seen, and
// so the watch lines belong to every reading.
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

// Name is the watcher's, for configurations of the witness.
const Name = "xen"

// Part is what the witness's program needs to know.
var Part = part.Part{
	Classes: []string{"migration"},
	Watchers: map[string]part.Watcher{Name: func(ctx context.Context, out io.Writer, domain uuid.UUID) error {
		return Watch(ctx, out, domain, witness.DomainInterval)
	}},
}

// watchEvery is how often a line says that the domains are still watched.
const watchEvery = time.Second

// calm is how many times longer it is to the next look while the domain runs.
// A control domain that wakes takes the processor from the guest it shares it
// with, and the guest would be measured with that; one that does not run is
// not disturbed.
const calm = 20

// Watch looks at the domain of that UUID, and writes lines as
// witness.DomainsFile has them until the context ends, which is no error. It
// looks at each interval while the domain is stopped, calm times less often
// otherwise, and at once when xenstore says that any domain has come, suspended
// or ended. A domain that the first look finds has a spacing of 0: since when it
// is as it is is not known. It must run on a Xen control domain, as root.
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
		// A look's own length counts: what it saw was at some time in it.
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
	handle  uuid.UUID      // of the domain that is watched
	states  map[int]string // by its number on this host; as of the last look
	last    time.Time      // beginning of the last look
	told    time.Time      // of the last watch line
	longest time.Duration  // between looks since then
}

// take writes what has changed until a look that lasted from before to after.
// The spacing is from the beginning of the look before to the end of this one.
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

// stopped says that a domain does not run, and may again.
func (w *watch) stopped() bool {
	for _, state := range w.states {
		if state == witness.DomainPaused || state == witness.DomainSuspended {
			return true
		}
	}
	return false
}

// see writes a domain's state when it is another than before.
func (w *watch) see(at time.Time, id int, state string, spacing time.Duration) error {
	if w.states[id] == state {
		return nil
	}
	w.states[id] = state
	return w.line(at, id, state, spacing)
}

// line writes one line in one write: a reader sees whole lines, but for the
// last.
func (w *watch) line(at time.Time, id int, state string, spacing time.Duration) error {
	_, err := fmt.Fprintf(w.out, "%d %d %s %d\n", at.UnixNano(), id, state, spacing.Nanoseconds())
	return err
}
