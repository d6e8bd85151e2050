package xen

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
	"heliotrope/internal/remote"
)

// settleLimit is the least time that both ends of an interrupted migration are given
// to come to rest.
const settleLimit = time.Minute

// targetEnd marks the copy of the target's domain configuration that is stored at the
// source: name.target.cfg.
const targetEnd = ".target"

// Migrate moves the domain to the target with `xl migrate`. Xen's toolstack has only
// pre-copy, plans no downtime, and does not slow processors down.
func (h *Host) Migrate(ctx context.Context, order hypervisor.Order) (hypervisor.Migration, error) {
	name := order.Domain.Name
	to, err := h.peer(order.Target)
	if err != nil {
		return hypervisor.Migration{}, err
	}
	if err := errors.Join(h.checkName(name), checkOrder(order)); err != nil {
		return hypervisor.Migration{}, err
	}
	here, there, err := whereabouts(ctx, h, to, name)
	switch {
	case err != nil:
		return hypervisor.Migration{}, notBegun(order, err)
	case here.is == absent && there.is == present:
		return hypervisor.Migration{}, nil
	case here.is == absent:
		return hypervisor.Migration{}, notBegun(order, fmt.Errorf("%s on %s: %w", name, h.Host(), hypervisor.ErrNotFound))
	case there.is == present:
		return hypervisor.Migration{}, notBegun(order, onBoth(name))
	}
	m := &migration{from: h, to: to, order: order, memoryBytes: int64(here.state.MemoryMiB) << 20}
	if err := m.prepare(ctx); err != nil {
		return hypervisor.Migration{}, notBegun(order, err)
	}
	return m.run(ctx)
}

// checkOrder refuses what Xen cannot do.
func checkOrder(order hypervisor.Order) error {
	refuse := func(what string) error {
		return fault.New(fault.BadInput, "migrate %s: Xen's toolstack has no %s", order.Domain.Name, what)
	}
	switch {
	case order.Mode != "" && order.Mode != hypervisor.PreCopy:
		return refuse("mode " + string(order.Mode))
	case order.AutoConverge:
		return refuse("auto-converge")
	case order.MaxDowntime != 0:
		return refuse("limit of the downtime")
	case order.AtTarget.Name != order.Domain.Name:
		return fault.New(fault.BadInput, "migrate %s: its name at the target, %q, is another one", order.Domain.Name, order.AtTarget.Name)
	}
	return nil
}

// notBegun is the error of a migration of which no byte was sent; it does not count
// as a failed migration.
func notBegun(order hypervisor.Order, err error) error {
	return fmt.Errorf("migrate %s to %s: not begun: %w", order.Domain.Name, order.Target.Host(), err)
}

// clearLeftover destroys what an interrupted migration to this host left. It removes
// only an end that never ran.
func (h *Host) clearLeftover(ctx context.Context, name string) error {
	_, _, err := h.destroy(ctx, func(found string) bool { return found == name+incomingSuffix })
	return err
}

// migration is one run of `xl migrate`.
type migration struct {
	from, to    *Host
	order       hypervisor.Order
	memoryBytes int64

	mu          sync.Mutex
	log         []byte
	streamBytes int64
	committed   bool // the target has all of the domain and may start it
	refused     bool // the target has opened a device that is not the recorded one
}

// prepare makes both ends ready: it removes leftovers at the target, records at the
// target which device it may open, and writes the target's configuration at both
// ends. xl sends the copy at the source; by its own copy the target recognises the
// domain later.
func (m *migration) prepare(ctx context.Context) error {
	domain := m.order.AtTarget
	if err := m.to.clearLeftover(ctx, domain.Name); err != nil {
		return err
	}
	text, err := m.to.domainConfig(domain)
	if err != nil {
		return err
	}
	if err := m.to.prepareDisk(ctx, domain); err != nil {
		return err
	}
	if err := m.to.write(ctx, m.to.file(domain.Name, configEnd), text, 0o644); err != nil {
		return err
	}
	return m.from.write(ctx, m.from.file(domain.Name, targetEnd+configEnd), text, 0o644)
}

// run starts the receiver (for an unencrypted migration) and the sender.
//
// To cancel a migration, the receiver is ended and never the sender: a sender whose
// transport breaks lets the domain go on. Once the sender has given the target
// permission to start the domain, nothing is cancelled any more.
func (m *migration) run(ctx context.Context) (hypervisor.Migration, error) {
	detached := context.WithoutCancel(ctx)
	receiving, stopReceiver := context.WithCancel(detached)
	defer stopReceiver()
	received, err := m.receive(ctx, receiving)
	if err != nil {
		return hypervisor.Migration{Log: m.text()}, notBegun(m.order, err)
	}
	sending, stopSender := context.WithCancel(detached)
	defer stopSender()
	sent := make(chan error, 1)
	started := time.Now()
	go func() { sent <- m.send(sending) }()

	select {
	case err = <-sent:
	case <-ctx.Done():
		if !m.isCommitted() {
			m.breakTransport(detached, stopReceiver)
		}
		select {
		case err = <-sent:
		case <-time.After(max(settleLimit, m.order.Settle)): //nolint:forbidigo // a limit
			stopSender()
			err = errors.Join(errors.New("the sender did not come to rest after its transport was ended"), <-sent)
		}
	}
	finished := time.Now()
	if err != nil {
		stopReceiver()
	}
	err = errors.Join(err, <-received)
	account := hypervisor.Migration{Started: started, Finished: finished, StreamBytes: m.streamBytes, Log: m.text()}
	if err == nil {
		return account, nil
	}
	return account, m.failed(ctx, err)
}

// failed classifies the error of a migration that has come to rest. It is a result
// only if the stream had begun, nobody cancelled it, the connections held, and it is
// known where the domain is.
func (m *migration) failed(ctx context.Context, err error) error {
	settled := m.settle(context.WithoutCancel(ctx))
	name, lost := m.order.Domain.Name, errors.Is(settled, hypervisor.ErrUnknown)
	switch {
	case ctx.Err() != nil && !lost && settled != nil:
		// The state that it was left in is for people only: it does not change why
		// the migration ended.
		return fmt.Errorf("migrate %s from %s to %s: cancelled: %w (%s)", name, m.from.Host(), m.to.Host(), context.Cause(ctx), settled.Error())
	case ctx.Err() != nil && !lost:
		return fmt.Errorf("migrate %s from %s to %s: cancelled: %w", name, m.from.Host(), m.to.Host(), context.Cause(ctx))
	case ctx.Err() != nil:
		err = errors.Join(context.Cause(ctx), settled)
	case lost:
		err = errors.Join(settled, err)
	case m.refused, m.streamBytes == 0, errors.Is(err, remote.ErrConnectionLost), errors.Is(err, remote.ErrUnreachable):
		err = errors.Join(err, settled)
	default:
		return &hypervisor.MigrationError{Name: name, From: m.from.Host(), To: m.to.Host(), Log: m.text(), Err: errors.Join(err, settled)}
	}
	if m.refused {
		err = fmt.Errorf("the disk at %s is %s; look which storage has %s there: %w", m.to.Host(), refusal, m.order.AtTarget.Disk.Path, err)
	}
	return fault.As(fault.Infrastructure, fmt.Errorf("migrate %s from %s to %s: %w", name, m.from.Host(), m.to.Host(), err))
}

// breakTransport ends the receiver. Over ssh, where the sender starts the receiver,
// the half-made domain at the target is destroyed instead, which breaks the stream as
// well.
func (m *migration) breakTransport(ctx context.Context, stopReceiver func()) {
	stopReceiver()
	if !m.from.overTCP() {
		limited, cancel := context.WithTimeout(ctx, settleLimit)
		defer cancel()
		_ = m.to.clearLeftover(limited, m.order.Domain.Name) // only how the sender ends matters
	}
}

func (m *migration) send(ctx context.Context) error {
	// -T: xl prefixes its own lines with the host's time.
	args := []string{"xl", "-T", "migrate", "-C", m.from.file(m.order.Domain.Name, targetEnd+configEnd)}
	_, err := m.from.remote.Run(ctx, remote.Command{Args: append(args, m.transport()...), Stderr: m.line("source: ")})
	return withoutCounts(err)
}

// withoutCounts removes pv's lines from a command's error, of which there are
// hundreds.
func withoutCounts(err error) error {
	var failed *remote.Error
	if !errors.As(err, &failed) {
		return err
	}
	told := *failed
	told.Stderr = strings.Join(slices.DeleteFunc(strings.Split(failed.Stderr, "\n"), byteCount.MatchString), "\n")
	return &told
}

func (m *migration) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return string(m.log)
}

func (m *migration) isCommitted() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.committed
}

// limit is pv's option that limits the stream's rate.
func (m *migration) limit() string {
	if m.order.BandwidthMiBPerSecond == 0 {
		return ""
	}
	return " -L " + strconv.Itoa(m.order.BandwidthMiBPerSecond) + "m"
}
