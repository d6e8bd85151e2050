package watch

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"heliotrope/internal/witness"
)

// The events of QEMU's run state (qapi/run-state.json).
const (
	stop   = "STOP"
	resume = "RESUME"
)

// libvirt's states of a domain, its events, and their details
// (virDomainState, virDomainEventType and virDomainEvent…DetailType of
// libvirt-domain.h).
const (
	stateRunning, stateBlocked    = 1, 2
	stateShutdown, stateShutoff   = 4, 5
	stateCrashed                  = 6
	eventStarted                  = 2
	eventSuspended                = 3
	eventStopped                  = 5
	eventShutdown                 = 6
	eventCrashed                  = 8
	startedMigrated               = 1
	suspendedMigrated             = 1
	suspendedPostCopy             = 7
	shutdownHost                  = 2
	stoppedCrashed, stoppedFailed = 2, 5
)

// resolution is that of the times of QEMU's events: seconds and microseconds
// (docs/interop/qmp-spec.txt, 2.5).
const resolution = time.Microsecond

// lines turns events into lines. QEMU reports when a domain has stopped, and
// libvirt reports afterwards why.
type lines struct {
	out     io.Writer
	id      int32 // libvirt's ID of the domain; 0 while there is none
	state   string
	proved  time.Time // when libvirt was last asked a question that it then answered
	stopped time.Time // the time of QEMU's event; zero when the reason is known, or the domain runs
	heard   time.Time // when that event arrived
}

// begin takes the state in which the domain is found. It is not known since
// when it is in it.
func (l *lines) begin(at time.Time, id int32, state string) error {
	l.id = id
	return l.see(at, state, 0)
}

// prove records that libvirt answered a question between two times.
func (l *lines) prove(before, after time.Time) error {
	// What libvirt had sent before the last proof was read before this one.
	if !l.stopped.IsZero() && l.heard.Before(l.proved) {
		if err := l.explain(witness.DomainPaused); err != nil {
			return err
		}
	}
	l.proved = before
	return l.line(after, 0, witness.DomainWatch, 0) // there are no looks, because QEMU reports changes itself
}

// since is how long before a time libvirt was last known to answer.
func (l *lines) since(at time.Time) time.Duration {
	if l.proved.IsZero() {
		return 0
	}
	return at.Sub(l.proved)
}

var errUnreadable = errors.New("libvirt sent an event that cannot be read")

// take handles an event of any domain that arrived at a time.
func (l *lines) take(at time.Time, p packet, of uuid.UUID) error {
	event := &parser{bytes: p.body}
	event.number() // of the subscription
	switch {
	case p.program == qemuProgram && p.procedure == monitorEvent:
		from, name, seconds, microseconds := event.domain(), event.text(), event.long(), event.number()
		if event.cut {
			return errUnreadable
		}
		if from.uuid == of {
			return l.monitor(at, from.id, name, time.Unix(seconds, int64(microseconds)*1000))
		}
	case p.program == remoteProgram && p.procedure == eventLifecycle:
		from, kind, detail := event.domain(), event.signed(), event.signed()
		if event.cut {
			return errUnreadable
		}
		if from.uuid == of {
			return l.lifecycle(at, from.id, kind, detail)
		}
	}
	return nil
}

// monitor handles an event that QEMU sent at the time at, and that arrived at
// heard.
func (l *lines) monitor(heard time.Time, id int32, name string, at time.Time) error {
	l.id = id
	switch name {
	case stop:
		l.stopped, l.heard = at, heard
	case resume:
		if err := l.explain(witness.DomainPaused); err != nil {
			return err
		}
		return l.see(at, witness.DomainRunning, resolution)
	}
	return nil
}

// lifecycle handles an event of libvirt's that arrived at a time.
func (l *lines) lifecycle(heard time.Time, id, kind, detail int32) error {
	switch kind {
	case eventStarted:
		l.id = id
		if detail == startedMigrated { // it waits for the end of the migration
			return l.see(heard, witness.DomainPaused, l.since(heard))
		}
	case eventSuspended:
		state := witness.DomainPaused
		if detail == suspendedMigrated || detail == suspendedPostCopy {
			state = witness.DomainSuspended
		}
		return l.explain(state)
	case eventShutdown, eventCrashed, eventStopped:
		if kind == eventShutdown && detail == shutdownHost {
			return nil // somebody is ending QEMU: the next event says that the domain has gone
		}
		if err := l.explain(witness.DomainPaused); err != nil {
			return err
		}
		return l.see(heard, ending(kind, detail), l.since(heard))
	}
	return nil
}

// explain writes the stop that QEMU reported, now that the reason is known.
func (l *lines) explain(state string) error {
	if l.stopped.IsZero() {
		return nil
	}
	at := l.stopped
	l.stopped = time.Time{}
	return l.see(at, state, resolution)
}

// see writes a state if it has changed.
func (l *lines) see(at time.Time, state string, spacing time.Duration) error {
	if l.state == state {
		return nil
	}
	l.state = state
	return l.line(at, l.id, state, spacing)
}

// line writes one line in one write, so that a reader sees whole lines, except
// for the last one.
func (l *lines) line(at time.Time, id int32, state string, spacing time.Duration) error {
	_, err := fmt.Fprintf(l.out, "%d %d %s %d\n", at.UnixNano(), id, state, spacing.Nanoseconds())
	return err
}

// ending is the state of a domain that has ended.
func ending(kind, detail int32) string {
	switch {
	case kind == eventCrashed, kind == eventStopped && (detail == stoppedCrashed || detail == stoppedFailed):
		return witness.DomainCrashed // the guest, or QEMU itself
	case kind == eventShutdown:
		return witness.DomainShutDown
	}
	return witness.DomainGone
}

// stateOf converts libvirt's state of a domain. A domain that waits for its
// migration to arrive counts as paused.
func stateOf(state int32) string {
	switch state {
	case stateRunning, stateBlocked:
		return witness.DomainRunning
	case stateShutdown, stateShutoff:
		return witness.DomainShutDown
	case stateCrashed:
		return witness.DomainCrashed
	}
	return witness.DomainPaused
}
