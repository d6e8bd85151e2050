package watch

import (
	"fmt"
	"io"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"heliotrope/internal/witness"
)

// The events of QEMU's run state (qapi/run-state.json).
const (
	stop   = "STOP"
	resume = "RESUME"
)

// resolution of the time that QEMU gives its events: seconds and microseconds
// (docs/interop/qmp-spec.txt, 2.5).
const resolution = time.Microsecond

// lines turns what was heard into lines. QEMU tells when a domain stopped, and
// libvirt why: the two come by ways of their own, in either order.
type lines struct {
	out    io.Writer
	id     int32 // of the domain as libvirt numbers it; 0 while there is none
	state  string
	proved time.Time // when libvirt was last asked for what it then answered
	stop   note      // QEMU's, whose reason is not known yet
	reason note      // libvirt's, whose stop is not known yet
}

// note is one half of a stop.
type note struct {
	at, heard time.Time
	state     string
}

// look takes the state that libvirt gave between two times. What the first look
// sees has a spacing of 0.
func (l *lines) look(before, after time.Time, id int32, state string) error {
	if id != l.id {
		l.id, l.state = id, ""
	}
	if err := l.see(after, state, l.since(after)); err != nil {
		return err
	}
	return l.prove(before, after)
}

// prove writes that libvirt answered what it was asked between two times. What
// it had to tell by then was told; a half of a stop that is older than the proof
// before this one stays alone.
func (l *lines) prove(before, after time.Time) error {
	if err := l.flush(l.proved); err != nil {
		return err
	}
	spacing := l.since(after)
	l.proved = before
	return l.line(after, 0, witness.DomainWatch, spacing)
}

// since is how long before a time libvirt last proved that it tells.
func (l *lines) since(at time.Time) time.Duration {
	if l.proved.IsZero() {
		return 0
	}
	return at.Sub(l.proved)
}

// monitor takes an event of QEMU's.
func (l *lines) monitor(event libvirt.DomainEvent) error {
	at := time.Unix(int64(event.Seconds), int64(event.Microseconds)*1000) //nolint:gosec // seconds since 1970
	l.id = event.Domain.ID
	switch event.Event {
	case stop:
		l.stop = note{at: at, heard: time.Now()}
		return l.pair()
	case resume:
		if err := l.flush(time.Now()); err != nil {
			return err
		}
		return l.see(at, witness.DomainRunning, resolution)
	}
	return nil
}

// lifecycle takes an event of libvirt's, which came at a time.
func (l *lines) lifecycle(at time.Time, kind libvirt.DomainEventType, detail int32) error {
	if l.id == 0 {
		return nil // it was never seen
	}
	switch kind {
	case libvirt.DomainEventSuspended:
		l.reason = note{at: at, heard: at, state: suspension(detail)}
		return l.pair()
	case libvirt.DomainEventResumed:
		l.reason = note{} // QEMU's own RESUME counts
		return nil
	case libvirt.DomainEventStopped, libvirt.DomainEventShutdown, libvirt.DomainEventCrashed:
		if err := l.flush(time.Now()); err != nil {
			return err
		}
		return l.see(at, ending(kind, detail), l.since(at))
	}
	return nil
}

// pair writes a stop whose time and reason are known.
func (l *lines) pair() error {
	if l.stop.heard.IsZero() || l.reason.heard.IsZero() {
		return nil
	}
	at, state := l.stop.at, l.reason.state
	l.stop, l.reason = note{}, note{}
	return l.see(at, state, resolution)
}

// flush writes a half of a stop that was heard before a time.
func (l *lines) flush(before time.Time) error {
	stop, reason := l.stop, l.reason
	switch {
	case !stop.heard.IsZero() && stop.heard.Before(before):
		l.stop = note{}
		return l.see(stop.at, witness.DomainPaused, resolution)
	case !reason.heard.IsZero() && reason.heard.Before(before):
		l.reason = note{}
		return l.see(reason.at, reason.state, l.since(reason.at))
	}
	return nil
}

// see writes a state when it is another than before.
func (l *lines) see(at time.Time, state string, spacing time.Duration) error {
	if l.state == state {
		return nil
	}
	l.state = state
	return l.line(at, l.id, state, spacing)
}

// line writes one line in one write: a reader sees whole lines, but for the
// last.
func (l *lines) line(at time.Time, id int32, state string, spacing time.Duration) error {
	_, err := fmt.Fprintf(l.out, "%d %d %s %d\n", at.UnixNano(), id, state, spacing.Nanoseconds())
	return err
}

// suspension is the state of a domain that libvirt says is suspended.
func suspension(detail int32) string {
	switch libvirt.DomainEventSuspendedDetailType(detail) {
	case libvirt.DomainEventSuspendedMigrated, libvirt.DomainEventSuspendedPostcopy:
		return witness.DomainSuspended
	}
	return witness.DomainPaused
}

// ending is the state of a domain that has ended.
func ending(kind libvirt.DomainEventType, detail int32) string {
	switch {
	case kind == libvirt.DomainEventCrashed:
		return witness.DomainCrashed
	case kind == libvirt.DomainEventShutdown:
		return witness.DomainShutDown
	}
	switch libvirt.DomainEventStoppedDetailType(detail) {
	case libvirt.DomainEventStoppedCrashed, libvirt.DomainEventStoppedFailed:
		return witness.DomainCrashed // or QEMU itself died
	}
	return witness.DomainGone
}

// stateOf is a domain's state as libvirt gives it. One that waits for its
// migration to arrive is paused.
func stateOf(state int32) string {
	switch libvirt.DomainState(state) {
	case libvirt.DomainRunning, libvirt.DomainBlocked:
		return witness.DomainRunning
	case libvirt.DomainShutdown, libvirt.DomainShutoff:
		return witness.DomainShutDown
	case libvirt.DomainCrashed:
		return witness.DomainCrashed
	}
	return witness.DomainPaused
}
