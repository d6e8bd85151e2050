// Package watch watches one domain of a KVM host by what libvirt tells: QEMU's
// own events when the domain stops and runs again, and libvirt's when it comes
// and goes.
//
// It promises that each change is written once, in order, and that an unbroken
// row of watch lines shows that libvirt answered meanwhile. It changes nothing
// on the host, and does not poll: the guest's processor is left alone.
//
// QEMU stamps STOP after the last virtual processor has stopped, and RESUME
// before the first one runs, with microseconds of the host's clock. The stall
// between the two is therefore the shortest that it can have been, by the time
// that stopping the processors takes.
//
// Dangerous: libvirt's own events carry no time. A change that QEMU does not
// tell of is as uncertain as the last proof that libvirt answered.
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

// Name is the watcher's, for configurations of the witness.
const Name = "kvm"

// Part is what the witness's program needs to know.
var Part = part.Part{Watchers: map[string]part.Watcher{Name: Watch}}

// Sockets are where libvirt's daemons listen, the better one first: the modular
// daemon of QEMU's driver, and the one for all drivers (libvirt's
// daemons.html).
var Sockets = []string{"/run/libvirt/virtqemud-sock", "/run/libvirt/libvirt-sock"}

// proveEvery is how often libvirt is asked for an answer, and a line written.
const proveEvery = time.Second

// Watch writes lines as witness.DomainsFile has them until the context ends,
// which is no error. It must run on the host, as root.
func Watch(ctx context.Context, out io.Writer, domain uuid.UUID) error {
	conn, err := dial(ctx)
	if err != nil {
		return fmt.Errorf("watch the domain: %w", err)
	}
	return Watching(ctx, conn, out, domain)
}

// dial connects to the first of the sockets where somebody listens.
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

// Watching is Watch by a connection to libvirt, which it closes.
func Watching(ctx context.Context, conn net.Conn, out io.Writer, domain uuid.UUID) error {
	// A libvirt that hangs must not keep us when the context ends.
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

// watch asks to be told, looks once, and turns what comes into lines.
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

// subscribe asks for the events of all domains: ours may not be there yet, and
// comes with a migration. Of QEMU's, those that do not matter wake nobody.
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
	case isNoDomain(err): // it may come
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
