package kvm

import (
	"context"
	"errors"
	"fmt"
	"time"

	libvirt "github.com/digitalocean/go-libvirt"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/poll"
)

// settleEvery is the interval of checking whether a job has ended.
const settleEvery = 200 * time.Millisecond

// startLimit is how long a target may take to carry out a finish call that it
// received before the connection to it broke. The guest stands still for all that
// time.
const startLimit = 10 * time.Second

// answer is a host's answer about the domain: it is there, it is not, or the host
// could not be asked.
type answer struct {
	client *client // nil when the host could not be asked
	at     found
	err    error // nil when the domain is there
}

func (a answer) there() bool   { return a.err == nil }
func (a answer) notHere() bool { return errors.Is(a.err, hypervisor.ErrNotFound) }

// lost says why the host could not be asked.
func (a answer) lost() error {
	if a.there() || a.notHere() {
		return nil
	}
	return a.err
}

// waits says that the host has an end of a migration that was told nothing yet,
// or has not carried it out yet.
func (a answer) waits() bool {
	return a.there() && a.at.Status == hypervisor.Leftover && !a.postCopy()
}

// ran says that the domain runs there, or has run: the host has it, but not as an
// end that waits.
func (a answer) ran() bool { return a.there() && !a.waits() }

// postCopy says that part of the domain's memory is still on the other host.
func (a answer) postCopy() bool {
	reason := libvirt.DomainPausedReason(a.at.reason)
	return a.there() && a.at.Status == hypervisor.Leftover && (reason == libvirt.DomainPausedPostcopy || reason == libvirt.DomainPausedPostcopyFailed)
}

// settle asks both hosts where the domain is, removes an end of a migration that
// never ran, and makes the domain go on at the source when the target is known
// not to have it. It returns whether the domain is at the target.
func (m *migration) settle(ctx context.Context) (atTarget bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, settleLimit, fmt.Errorf("the hosts did not come to rest within %s", settleLimit))
	defer cancel()
	source := ask(ctx, m.from, m.name)
	defer source.close()
	// Ask the target last: of the two answers, the target's must be the newer
	// one.
	target := ask(ctx, m.to, m.name)
	defer target.close()
	if source.waits() && target.waits() {
		target = m.awaitStart(ctx, target)
	}
	return m.decide(ctx, source, target)
}

// awaitStart asks a target again, within startLimit, until its end runs or has
// gone. When both ends wait, a controller that has lost the connection to the
// target, this process or an earlier one, may have told the target to start the
// domain.
func (m *migration) awaitStart(ctx context.Context, target answer) answer {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	_ = poll.Until(ctx, settleEvery, func(context.Context) (bool, error) { // at the limit, the last answer counts
		target.at, target.err = target.client.find(m.name)
		return !target.waits(), nil
	})
	return target
}

// ask asks a host on a new connection, because that of a migration may be gone.
func ask(ctx context.Context, host *Host, name string) answer {
	c, err := host.connect(ctx)
	if err != nil {
		return answer{err: err}
	}
	at, err := c.find(name)
	return answer{client: c, at: at, err: err}
}

func (a answer) close() {
	if a.client != nil {
		a.client.close()
	}
}

// decide acts on the two answers. When one of them is missing, it does nothing.
func (m *migration) decide(ctx context.Context, source, target answer) (atTarget bool, err error) {
	switch lost := errors.Join(source.lost(), target.lost()); {
	case lost != nil:
		return false, m.unknown(lost)
	case source.postCopy(), target.postCopy():
		return false, fmt.Errorf("domain %s is in post-copy, with a part of it on %s and a part on %s: wait for its end, or destroy both",
			m.name, m.from.Host(), m.to.Host())
	case target.ran() && source.notHere():
		return true, nil
	case target.ran() && source.at.Status == hypervisor.Leftover:
		return true, m.leave(ctx, source)
	case target.ran():
		return false, fmt.Errorf("domain %s is %s on %s and %s on %s: destroy the copy that was never meant to run",
			m.name, source.at.Status, m.from.Host(), target.at.Status, m.to.Host())
	case source.notHere() && target.there():
		return false, fmt.Errorf("all that is left of domain %s is an end on %s that never ran: %w", m.name, m.to.Host(), source.err)
	case source.notHere():
		return false, fmt.Errorf("domain %s is on neither host: %w", m.name, source.err)
	case target.there(): // an end that never ran
		if err := m.removeEnd(ctx, target); err != nil {
			return false, err
		}
	}
	return false, m.goOn(ctx, source)
}

// unknown is the error that says why it is not known where the domain is.
func (m *migration) unknown(why error) error {
	return fmt.Errorf("domain %s: %w: %w", m.name, hypervisor.ErrUnknown, why)
}

// removeEnd destroys the target's end, which never ran. Immediately before, it
// checks once more that this is still so.
func (m *migration) removeEnd(ctx context.Context, target answer) error {
	target.at, target.err = target.client.find(m.name)
	switch {
	case target.lost() != nil:
		return m.unknown(target.lost())
	case target.ran():
		return m.unknown(fmt.Errorf("%s: its end there was waiting and is %s now: nothing was destroyed; try again, which asks both hosts anew",
			m.to.Host(), target.at.Status))
	case target.there():
		if err := target.client.kill(target.at); err != nil {
			return err
		}
	}
	return target.client.destroy(ctx, m.name) // waits until it has ended
}

// leave ends the source's copy of a domain that runs at the target.
func (m *migration) leave(ctx context.Context, source answer) error {
	if source.client.confirm(source.at.domain, nil, nil, flagsOf(m.order)|libvirt.MigrateChangeProtection, false) == nil {
		return nil
	}
	return source.client.destroy(ctx, m.name)
}

// goOn makes the domain run at the source when the target does not have it. A job
// that still runs is aborted; a job that waits for the last phase is told that
// the target has nothing.
func (m *migration) goOn(ctx context.Context, source answer) error {
	c, domain := source.client, source.at.domain
	for first := true; ; first = false {
		kind, _, err := c.virt.DomainGetJobStats(domain, 0)
		if err != nil && !libvirt.IsNotFound(err) {
			return c.failed("ask for the job of "+m.name, err)
		}
		at, err := c.find(m.name)
		if err != nil {
			return err
		}
		busy, stopped := libvirt.DomainJobType(kind) != libvirt.DomainJobNone, at.Status == hypervisor.Leftover
		switch {
		case !busy && !stopped:
			return nil
		case !busy:
			if err := c.virt.DomainResume(domain); err != nil {
				return c.failed("let "+m.name+" go on", err)
			}
		case first: // refused when the stream has ended
			_ = c.virt.DomainAbortJob(domain)
		case stopped: // refused when the stream has not ended
			_ = c.confirm(domain, nil, nil, flagsOf(m.order)|libvirt.MigrateChangeProtection, true)
		}
		if err := poll.Pause(ctx, settleEvery); err != nil {
			return c.failed("wait for the end of the job of "+m.name, err)
		}
	}
}
