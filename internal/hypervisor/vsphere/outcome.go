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

// errCancelled is a relocation that was called back, and whose machine goes on at
// the source.
type errCancelled struct{ error }

func (e errCancelled) Unwrap() error { return e.error }

// errBegun is an error of a relocation that vCenter had begun, or may have.
type errBegun struct{ error }

func (e errBegun) Unwrap() []error { return []error{e.error, hypervisor.ErrBegun} }

// begun marks what came after vCenter was told to relocate; nil stays nil.
func begun(account hypervisor.Migration, err error) (hypervisor.Migration, error) {
	if err == nil {
		return account, nil
	}
	return account, errBegun{err}
}

// classified says what was tried. Only a relocation that failed is a
// *hypervisor.MigrationError; whose fault a cancelling is, the caller knows.
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

// outcome looks where the machine is after a relocation that ended so.
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
		return account, nil // its task was cancelled too late, or forgotten
	case relocationFailed(err):
		return account, errFailed{fmt.Errorf("%w; the machine is on %s", err, m.nameOf(at, found))}
	}
	return account, fmt.Errorf("%w; the machine is on %s", err, m.nameOf(at, found))
}

// saysNothing says that an error is none of the relocation itself: somebody called it
// back, its task is forgotten, or there was no answer. Any other error of a task means
// that something was left undone, wherever the machine is.
func saysNothing(err error) bool {
	return is[*types.RequestCanceled](err) || is[*types.ManagedObjectNotFound](err) || errors.Is(err, errNoAnswer)
}

// nameOf is a host's name in the inventory, or else vCenter's reference.
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

// account puts the task's times, which are vCenter's, on this machine's clock. An end
// that vCenter did not tell stays unknown: when it was seen here has in it how long
// vCenter was waited for. The start is then when vCenter was asked, which is not later.
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
