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
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
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
	if err := watch(ctx, conn, out, domain, proveEvery); err != nil && ctx.Err() == nil {
		return fmt.Errorf("watch the domain: %w", err)
	}
	return nil
}

// dial connects to the first of the sockets where somebody listens.
func dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	var errs []error
	for _, path := range Sockets {
		conn, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("libvirt does not answer: %w", errors.Join(errs...))
}

// watch watches by a connection, which it closes.
func watch(ctx context.Context, conn net.Conn, out io.Writer, domain uuid.UUID, every time.Duration) error {
	defer func() { _ = conn.Close() }() // nothing is written that matters
	// A daemon that hangs must not keep us when the context ends.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	ctx, cancel := context.WithCancel(ctx)
	virt := libvirt.NewWithDialer(dialers.NewAlreadyConnected(conn))
	if err := virt.ConnectToURI(libvirt.QEMUSystem); err != nil {
		cancel()
		return fmt.Errorf("libvirt: %w", err)
	}
	lifecycle, err := virt.LifecycleEvents(ctx)
	if err != nil {
		cancel()
		return fmt.Errorf("ask libvirt for the domains' events: %w", err)
	}
	defer drain(lifecycle)
	w := &watcher{ctx: ctx, virt: virt, domain: domain, lines: &lines{out: out}}
	defer func() { drain(w.monitor) }()
	defer cancel() // first: the streams end with it
	if err := w.look(); err != nil {
		return err
	}
	proofs := time.NewTicker(every)
	defer proofs.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, open := <-w.monitor:
			if !open {
				return errLost
			}
			err = w.lines.monitor(event)
		case event, open := <-lifecycle:
			if !open {
				return errLost
			}
			err = w.lifecycle(event)
		case <-proofs.C:
			err = w.prove()
		}
		if err != nil {
			return err
		}
	}
}

var errLost = errors.New("the connection to libvirt has ended")

// drain waits for a stream's end: whoever feeds it must not stay.
func drain[E any](events <-chan E) {
	if events == nil {
		return
	}
	for range events { //nolint:revive // nobody wants them any more
	}
}

// watcher asks libvirt, and hands what it hears to lines.
type watcher struct {
	ctx     context.Context
	virt    *libvirt.Libvirt
	domain  uuid.UUID
	monitor <-chan libvirt.DomainEvent // nil until the domain was seen
	lines   *lines
}

// look asks for the domain's state, and proves with it that libvirt answers.
// The first look subscribes to QEMU's events before it asks, so that no change
// falls between the two.
func (w *watcher) look() error {
	before := time.Now()
	domain, err := w.virt.DomainLookupByUUID(libvirt.UUID(w.domain))
	if libvirt.IsNotFound(err) {
		return w.lines.prove(before, time.Now())
	}
	if err == nil {
		err = w.subscribe(domain)
	}
	var state int32
	if err == nil {
		state, _, err = w.virt.DomainGetState(domain, 0)
	}
	if libvirt.IsNotFound(err) { // it has just gone, and its event tells
		return w.lines.prove(before, time.Now())
	}
	if err != nil {
		return fmt.Errorf("ask libvirt for the domain's state: %w", err)
	}
	return w.lines.look(before, time.Now(), domain.ID, stateOf(state))
}

// prove asks libvirt for something that costs nothing.
func (w *watcher) prove() error {
	before := time.Now()
	if _, err := w.virt.ConnectGetLibVersion(); err != nil {
		return fmt.Errorf("libvirt answers no more: %w", err)
	}
	return w.lines.prove(before, time.Now())
}

// subscribe asks for QEMU's events, once: they are those of every domain of
// that UUID, also of one that comes later.
func (w *watcher) subscribe(domain libvirt.Domain) (err error) {
	if w.monitor == nil {
		w.monitor, err = w.virt.SubscribeQEMUEvents(w.ctx, domain.Name)
	}
	return err
}

// lifecycle takes an event of any domain. One that comes is looked at: a
// migration's begins to arrive when libvirt says that it has started, and
// nothing of it is subscribed to before.
func (w *watcher) lifecycle(event libvirt.DomainEventLifecycleMsg) error {
	if uuid.UUID(event.Dom.UUID) != w.domain {
		return nil
	}
	if libvirt.DomainEventType(event.Event) == libvirt.DomainEventStarted {
		return w.look()
	}
	return w.lines.lifecycle(time.Now(), libvirt.DomainEventType(event.Event), event.Detail)
}
