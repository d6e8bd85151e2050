package kvm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// settleLimit is how long both hosts may take to come to rest after an interrupted
// migration, and the least time that they are given after a cancelled one.
const settleLimit = time.Minute

// Migrate moves the domain to the target by the phases of libvirt's migration
// protocol, version 3 (virDomainMigrateVersion3Full in its libvirt-domain.c).
func (h *Host) Migrate(ctx context.Context, order hypervisor.Order) (hypervisor.Migration, error) {
	to, ok := order.Target.(*Host)
	if !ok {
		return hypervisor.Migration{}, fault.New(fault.BadInput, "migrate %s from %s to %s: the target is no KVM host",
			order.Domain.Name, h.Host(), order.Target.Host())
	}
	if order.AtTarget.Name != order.Domain.Name {
		return hypervisor.Migration{}, fault.New(fault.BadInput, "migrate %s from %s to %s: the target is to have %q",
			order.Domain.Name, h.Host(), to.Host(), order.AtTarget.Name)
	}
	if err := h.checkName(order.Domain.Name); err != nil {
		return hypervisor.Migration{}, err
	}
	m := &migration{from: h, to: to, order: order, name: order.Domain.Name}
	return m.run(ctx)
}

// migration is one move of a domain.
type migration struct {
	from, to       *Host
	order          hypervisor.Order
	name           string
	source, target *client
	domain         libvirt.Domain    // at the source
	opens          hypervisor.Domain // whose disk QEMU must have open there
	params         []libvirt.TypedParam
	flags          libvirt.DomainMigrateFlags
	cookie         []byte // what one phase returns for the next

	mu     sync.Mutex
	log    strings.Builder
	phases []hypervisor.Phase
	last   hypervisor.Progress

	broken bool // our own connection to a host, when the hand-over ended
}

// run runs the migration. The connections outlive ctx, because a domain that is on
// its way must still arrive, or be called back.
func (m *migration) run(ctx context.Context) (hypervisor.Migration, error) {
	detached, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	arrived, err := m.settle(detached)
	if err != nil || arrived {
		return hypervisor.Migration{}, m.tried(err)
	}
	// A libvirt that no longer answers would hold us for ever, so the connections
	// end with this context.
	connected, hangUp := context.WithCancel(detached)
	defer hangUp()
	hung := time.AfterFunc(callTimeout, hangUp)
	defer hung.Stop()
	if m.source, err = m.from.connect(connected); err != nil {
		return hypervisor.Migration{}, m.tried(err)
	}
	defer m.source.close()
	if m.target, err = m.to.connect(connected); err != nil {
		return hypervisor.Migration{}, m.tried(err)
	}
	defer m.target.close()
	if err := m.ready(ctx); err != nil {
		return hypervisor.Migration{}, m.tried(err)
	}
	account := hypervisor.Migration{Started: time.Now()}
	err = m.prepare(ctx)
	hung.Stop()
	if err != nil {
		_, settled := m.settle(detached)
		return hypervisor.Migration{}, m.failed(ctx, err, settled, false)
	}
	err = m.move(ctx, hung)
	account.Finished = time.Now()
	if err == nil {
		m.account(&account)
		return account, nil
	}
	// A connection that broke while it was idle shows as a failed write, so ask
	// both whether they are connected.
	m.broken = !m.source.virt.IsConnected() || !m.target.virt.IsConnected()
	began := m.began()
	_, settled := m.settle(detached)
	account.Finished, account.Log, account.StreamBytes = time.Now(), m.text(), m.last.SentBytes
	return account, m.failed(ctx, err, settled, began)
}

// failed classifies the error of a migration that has come to rest. It is a result
// only if the stream had begun, nobody cancelled it, the connections held, and it
// is known where the domain is.
func (m *migration) failed(ctx context.Context, err, settled error, began bool) error {
	unknown := errors.Is(settled, hypervisor.ErrUnknown)
	switch {
	case ctx.Err() != nil && !unknown && settled != nil:
		// The state that it was left in is for people only: it does not change why
		// the migration ended.
		return fmt.Errorf("migrate %s from %s to %s: cancelled: %w (%s)", m.name, m.from.Host(), m.to.Host(), context.Cause(ctx), settled.Error())
	case ctx.Err() != nil && !unknown:
		return fmt.Errorf("migrate %s from %s to %s: cancelled: %w", m.name, m.from.Host(), m.to.Host(), context.Cause(ctx))
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case unknown, errors.Is(err, libvirt.ErrInterrupted), m.broken:
	case !began:
		return m.tried(errors.Join(err, settled))
	default:
		return &hypervisor.MigrationError{Name: m.name, From: m.from.Host(), To: m.to.Host(), Log: m.text(), Err: errors.Join(err, settled)}
	}
	return fault.As(fault.Infrastructure, fmt.Errorf("migrate %s from %s to %s: %w", m.name, m.from.Host(), m.to.Host(), errors.Join(settled, err)))
}

// tried adds to an error that it prevented the migration before anything was sent;
// nil stays nil.
func (m *migration) tried(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("migrate %s from %s to %s: nothing was sent: %w", m.name, m.from.Host(), m.to.Host(), err)
}

// ready checks whether the domain can be migrated, and prepares the parameters of
// the phases.
func (m *migration) ready(ctx context.Context) error {
	at, err := m.source.find(m.name)
	if err != nil {
		return err
	}
	switch at.Status {
	case hypervisor.Running:
	case hypervisor.Crashed, hypervisor.ShutDown:
		return fault.Because(fault.TargetFailed, cause.GuestCrash, fmt.Errorf("%s: domain %s is %s", m.from.Host(), m.name, at.Status))
	default:
		return m.from.failed("migrate "+m.name, fmt.Errorf("it is %s: only one that runs is migrated", at.Status))
	}
	m.domain = at.domain
	if err := m.target.refuseForeign(m.name); err != nil {
		return err
	}
	if m.order.Domain.Disk.Copy != "" {
		if err := m.compareSizes(ctx); err != nil {
			return err
		}
	}
	text, err := m.source.virt.DomainGetXMLDesc(m.domain, libvirt.DomainXMLSecure|libvirt.DomainXMLMigratable)
	if err != nil {
		return m.source.failed("ask for the XML of "+m.name, err)
	}
	atTarget, err := m.from.atTarget(text, m.order.AtTarget)
	if err != nil {
		return fault.As(fault.Infrastructure, err)
	}
	m.opens = m.order.AtTarget
	m.flags = flagsOf(m.order)
	m.params = paramsOf(m.order, m.to.machine.Address, atTarget)
	if limit := m.order.MaxDowntime; limit > 0 {
		err := m.source.virt.DomainMigrateSetMaxDowntime(m.domain, uint64(max(limit.Milliseconds(), 1)), 0)
		return m.source.failed("limit the downtime of "+m.name, err)
	}
	return nil
}

// prepare runs the phases until a QEMU waits at the target, and checks what that
// QEMU has opened there.
func (m *migration) prepare(ctx context.Context) error {
	var err error
	var text string
	m.enter(hypervisor.Preparing)
	m.note("begin at " + m.from.Host())
	m.cookie, text, err = m.source.virt.DomainMigrateBegin3Params(m.domain, m.params, uint32(m.sourceFlags())) //nolint:gosec // bits
	if err != nil {
		return m.source.failed("begin to migrate "+m.name, err)
	}
	// libvirt returns the XML that it was given. The target is sent no other.
	atTarget, err := m.from.atTarget(text, m.order.AtTarget)
	if err != nil {
		return errors.Join(fault.As(fault.Infrastructure, err), m.callBack())
	}
	m.params = replaced(m.params, libvirt.MigrateParamDestXML, atTarget)
	m.note("prepare at " + m.to.Host())
	m.cookie, _, err = m.target.virt.DomainMigratePrepare3Params(m.params, m.cookie, m.targetFlags())
	if err != nil {
		return errors.Join(m.target.notStarted("prepare to take "+m.name, err), m.callBack())
	}
	if err = m.to.inspect(ctx, m.opens); err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		m.cookie = nil // the cookie is from the target, for the source
		return errors.Join(err, m.finish(true), m.callBack())
	}
	return nil
}

// move sends the domain and makes it go on at the target, or at the source if that
// fails.
//
// hung is restarted when the hand-over has ended.
func (m *migration) move(ctx context.Context, hung *time.Timer) error {
	following, stop := context.WithCancel(m.source.ctx)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		m.follow(following)
	}()
	ended := make(chan error, 1)
	go func() { ended <- m.handOver() }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = m.cancel(ended)
	}
	hung.Reset(callTimeout)
	stop()
	<-followed
	return err
}

// cancel calls the domain back while it is on its way. A migration that can no
// longer be cancelled is completed.
func (m *migration) cancel(ended <-chan error) error {
	m.note("cancel")
	_ = m.source.virt.DomainAbortJob(m.domain) // only how the hand-over ends matters
	settles := max(settleLimit, m.order.Settle)
	limit := time.NewTimer(settles)
	defer limit.Stop()
	select {
	case err := <-ended:
		return err
	case <-limit.C:
		m.hangUp()
		return errors.Join(fmt.Errorf("the migration did not come to rest within %s of its cancelling", settles), <-ended)
	}
}

// hangUp ends the calls to a libvirt that does not answer.
func (m *migration) hangUp() {
	_, _ = m.source.conn.Close(), m.target.conn.Close() // both hosts are asked again on new connections
}

// handOver sends the domain, which stops it at the source, and makes the target
// start it. Between the two it runs on neither host.
func (m *migration) handOver() error {
	if m.order.Domain.Disk.Copy != "" {
		m.enter(hypervisor.Copying)
	} else {
		m.enter(hypervisor.Sending)
	}
	m.note("perform at " + m.from.Host())
	var err error
	m.cookie, err = m.source.virt.DomainMigratePerform3Params(m.domain, nil, m.params, m.cookie, m.sourceFlags())
	if err != nil {
		// The source has already resumed the domain by itself.
		return errors.Join(m.source.failed("send "+m.name, err), m.finish(true))
	}
	if err := m.finish(false); err != nil {
		return err // whether the domain runs there must be asked first
	}
	m.enter(hypervisor.Releasing)
	m.note("confirm at " + m.from.Host())
	return m.confirm(false)
}

// finish makes the target start the domain or, when cancelled, discard it. libvirt
// answers the latter with an error that says that it has done so.
func (m *migration) finish(cancelled bool) error {
	m.note(fmt.Sprintf("finish at %s, cancelled: %t", m.to.Host(), cancelled))
	params := replaced(m.params, libvirt.MigrateParamDestName, m.name)
	_, cookie, err := m.target.virt.DomainMigrateFinish3Params(params, m.cookie, m.targetFlags(), number(cancelled))
	var virtError libvirt.Error
	if cancelled && errors.As(err, &virtError) && virtError.Code == uint32(libvirt.ErrMigrateFinishOk) {
		return nil
	}
	m.cookie = cookie
	return m.target.failed("finish the migration of "+m.name, err)
}

// callBack makes the source go on before anything was sent.
func (m *migration) callBack() error {
	m.cookie = nil
	return m.confirm(true)
}

// confirm makes the source end its copy or, when cancelled, go on with it.
func (m *migration) confirm(cancelled bool) error {
	return m.source.confirm(m.domain, m.params, m.cookie, m.sourceFlags(), cancelled)
}

func (c *client) confirm(domain libvirt.Domain, params []libvirt.TypedParam, cookie []byte, flags libvirt.DomainMigrateFlags, cancelled bool) error {
	err := c.virt.DomainMigrateConfirm3Params(domain, params, cookie, uint32(flags), number(cancelled)) //nolint:gosec // bits
	return c.failed("confirm the migration of "+domain.Name, err)
}

// sourceFlags also protect the domain against changes until the migration is
// confirmed.
func (m *migration) sourceFlags() libvirt.DomainMigrateFlags {
	return m.flags | libvirt.MigrateChangeProtection
}

// targetFlags leave out the flags that are valid only at the source.
func (m *migration) targetFlags() uint32 {
	return uint32(m.flags &^ libvirt.MigrateAutoConverge) //nolint:gosec // bits
}

func number(yes bool) int32 {
	if yes {
		return 1
	}
	return 0
}

// note writes a line of the log.
func (m *migration) note(what string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintf(&m.log, "%s %s\n", time.Now().UTC().Format("15:04:05.000"), what)
}

// enter records that a phase has begun. A phase whose QEMU event arrives after the
// end of the migration is not recorded, because its time is not known.
func (m *migration) enter(phase hypervisor.PhaseName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.phases); n > 0 && (m.phases[n-1].Name == hypervisor.Releasing || m.phases[n-1].Name == phase) {
		return
	}
	m.phases = append(m.phases, hypervisor.Phase{Name: phase, At: time.Now()})
}

func (m *migration) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.log.String()
}
