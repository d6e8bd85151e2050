package vsphere

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmware/govmomi/vim25/types"

	"heliotrope/internal/fault"
	"heliotrope/internal/hypervisor"
)

// errFailed is a relocation whose task says that it failed.
type errFailed struct{ error }

func (e errFailed) Unwrap() error { return e.error }

// errCancelled is a relocation that was cancelled, and whose machine goes on at the
// source.
type errCancelled struct{ error }

func (e errCancelled) Unwrap() error { return e.error }

// errBegun is an error of a relocation that vCenter had begun, or may have begun.
type errBegun struct{ error }

func (e errBegun) Unwrap() []error { return []error{e.error, hypervisor.ErrBegun} }

// begun marks an error that came after vCenter was told to relocate; nil stays nil.
func begun(account hypervisor.Migration, err error) (hypervisor.Migration, error) {
	if err == nil {
		return account, nil
	}
	return account, errBegun{err}
}

// classified adds what was tried. Only a relocation that failed becomes a
// *hypervisor.MigrationError; the caller knows who has cancelled a cancelled one.
func (m *migration) classified(err error) error {
	var failed errFailed
	var cancelled errCancelled
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failed):
		return &hypervisor.MigrationError{Name: m.name, From: m.from.Host(), To: m.to.Host(), Log: m.log.String(), Err: failed.error}
	}
	err = fmt.Errorf("migrate %s from %s to %s: %w", m.name, m.from.Host(), m.to.Host(), err)
	if errors.As(err, &cancelled) {
		return err
	}
	return fault.As(classOf(err), err)
}

// outcome finds out where the machine is after a relocation that ended with err.
func (m *migration) outcome(ctx context.Context, info types.TaskInfo, err error) (hypervisor.Migration, error) {
	account := m.account(ctx, info)
	m.note("the relocation ended: %s", endOf(err))
	at, found, where := m.find(ctx)
	if where == nil {
		_, where = m.from.status(at)
	}
	switch {
	case where != nil:
		return account, fmt.Errorf("%w: %w", hypervisor.ErrUnknown, errors.Join(err, where))
	case err == nil && m.isOn(m.target, at, found):
		return account, nil
	case err == nil:
		return account, fmt.Errorf("the relocation ended well, and the machine is on %s: it was another's", at.host.Value)
	case m.isOn(m.target, at, found) && at.power == types.VirtualMachinePowerStatePoweredOn && saysNothing(err):
		return account, nil // its task was cancelled too late, or is no longer known
	case relocationFailed(err):
		return account, errFailed{fmt.Errorf("%w; the machine is on %s", err, m.nameOf(at, found))}
	}
	return account, fmt.Errorf("%w; the machine is on %s", err, m.nameOf(at, found))
}

// saysNothing says that an error is not one of the relocation itself: the relocation
// was cancelled, its task is no longer known, or there was no answer. Any other error
// of a task means that something was not done, wherever the machine is.
func saysNothing(err error) bool {
	return is[*types.RequestCanceled](err) || is[*types.ManagedObjectNotFound](err) || errors.Is(err, errNoAnswer)
}

// nameOf is a host's name in the inventory or, when it is not there, vCenter's
// reference.
func (m *migration) nameOf(at machine, found *site) string {
	switch {
	case m.isOn(m.source, at, found):
		return m.from.Host()
	case m.isOn(m.target, at, found):
		return m.to.Host()
	}
	return at.host.Value
}

func endOf(err error) string {
	if err == nil {
		return "well"
	}
	return err.Error()
}

// account converts the task's times from vCenter's clock to this machine's. When
// vCenter did not report an end, the end stays unknown, because the time at which it
// was noticed here includes the time of waiting for vCenter. The start is then when
// vCenter was asked, which is not later.
func (m *migration) account(ctx context.Context, info types.TaskInfo) hypervisor.Migration {
	account := hypervisor.Migration{Started: m.asked}
	if info.StartTime == nil {
		m.note("total migration time is not known: vCenter does not tell when it began")
		return account
	}
	clock, err := m.at.centerClock(ctx)
	if err != nil {
		m.note("total migration time is not known: %s", err)
		return account
	}
	account.Started = clock.Ours(*info.StartTime)
	m.note("the task waited %s, and ran from %s; the vCenter's clock is %s ahead of this machine's, give or take %s",
		info.StartTime.Sub(info.QueueTime), stamp(account.Started), clock.Ahead, clock.Uncertainty)
	if info.CompleteTime == nil {
		m.note("total migration time is not known: vCenter does not tell when it ended")
		return account
	}
	account.Finished = clock.Ours(*info.CompleteTime)
	m.note("it ran until %s", stamp(account.Finished))
	return account
}
