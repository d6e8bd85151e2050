// Package watch watches one domain of a KVM host through libvirt's events:
// QEMU's own events when the domain stops and runs again, and libvirt's when it
// comes and goes.
//
// It promises that each change is written once, in order, and that an unbroken
// series of watch lines shows that libvirt answered meanwhile. It changes
// nothing on the host and does not poll, so that it takes no processor time
// from the guest.
//
// QEMU stamps STOP after the last virtual processor has stopped, and RESUME
// before the first one runs, with microseconds of the host's clock. The time
// between the two is therefore the shortest that the stall can have been:
// stopping the processors takes time before it.
//
// Dangerous: libvirt's own events have no time stamp. The time of a change that
// QEMU does not report is as uncertain as the last proof that libvirt answered.
package watch

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/google/uuid"

	"heliotrope/internal/onhost/part"
)

// Name is the watcher's name in configurations of the witness.
const Name = "kvm"

// Part is KVM's part of the witness's program.
var Part = part.Part{
	Classes:  []string{"migration", "mirror"},
	Watchers: map[string]part.Watcher{Name: Watch},
}

// Sockets are the sockets of libvirt's daemons, the preferred one first: the
// modular daemon for the QEMU driver, and the one for all drivers (libvirt's
// daemons.html).
var Sockets = []string{"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"}

// proveEvery is how often libvirt is asked for an answer, and a line is
// written.
const proveEvery = time.Second

// Watch writes lines in the format of witness.DomainsFile until the context
// ends, which is no error. It must run on the host, as root.
func Watch(ctx context.Context, out io.Writer, domain uuid.UUID) error {
	conn, err := dial(ctx)
	if err != nil {
		return fmt.Errorf("watch the domain: %w", err)
	}
	return Watching(ctx, conn, out, domain)
}

// dial connects to the first of the sockets on which a daemon listens.
func dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	var refused []string
	for _, path := range Sockets {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		refused = append(refused, err.Error())
	}
	return nil, fmt.Errorf("libvirt does not answer: %s", strings.Join(refused, "; "))
}

// Watching is Watch on a given connection to libvirt, which it closes.
func Watching(ctx context.Context, conn net.Conn, out io.Writer, domain uuid.UUID) error {
	// A libvirt that hangs must not hold us when the context ends.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	w, err := open(conn)
	defer w.close()
	if err == nil {
		err = watch(ctx, w, &lines{out: out}, domain)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("watch the domain: %w", err)
	}
	return nil
}

// watch subscribes to events, looks once, and turns what arrives into lines.
func watch(ctx context.Context, w *wire, l *lines, domain uuid.UUID) error {
	if err := subscribe(w); err != nil {
		return err
	}
	if err := look(w, l, domain); err != nil {
		return err
	}
	proofs := time.NewTicker(proveEvery)
	defer proofs.Stop()
	for {
		for _, p := range w.waiting {
			if err := l.take(time.Now(), p, domain); err != nil {
				return err
			}
		}
		w.waiting = nil
		select {
		case <-ctx.Done():
			return nil
		case p, open := <-w.packets:
			if !open {
				return errLost
			}
			w.waiting = append(w.waiting, p)
		case <-proofs.C:
			before := time.Now()
			if _, err := w.call(remoteProgram, connectLibVersion, nil); err != nil {
				return fmt.Errorf("libvirt answers no more: %w", err)
			}
			if err := l.prove(before, time.Now()); err != nil {
				return err
			}
		}
	}
}

// subscribe subscribes to the events of all domains, because ours may not exist
// yet and may come with a migration. Of QEMU's events, only those that matter
// are sent.
func subscribe(w *wire) error {
	if _, err := w.call(remoteProgram, eventRegister, new(body).number(lifecycleID).none()); err != nil {
		return fmt.Errorf("ask libvirt for the domains' events: %w", err)
	}
	wanted := new(body).none().some().text("^(" + stop + "|" + resume + ")$").number(monitorRegex)
	if _, err := w.call(qemuProgram, monitorRegister, wanted); err != nil {
		return fmt.Errorf("ask libvirt for QEMU's events: %w", err)
	}
	return nil
}

// look asks for the state that the domain is in at the beginning.
func look(w *wire, l *lines, domain uuid.UUID) error {
	before := time.Now()
	answer, err := w.call(remoteProgram, domainLookupByUUID, new(body).uuid(domain))
	var id, state int32
	if err == nil {
		found := answer.domain()
		id = found.id
		answer, err = w.call(remoteProgram, domainGetState, new(body).text(found.name).uuid(domain).number(uint32(id)).number(0)) //nolint:gosec // the same bits
	}
	switch {
	case isNoDomain(err): // the domain may come later
	case err != nil:
		return fmt.Errorf("ask libvirt for the domain's state: %w", err)
	default:
		state = answer.signed()
		if err := l.begin(time.Now(), id, stateOf(state)); err != nil {
			return err
		}
	}
	return l.prove(before, time.Now())
}
