package xen

import (
	"context"
	"errors"
	"fmt"

	"heliotrope/internal/hypervisor"
)

// presence says whether a host has a domain. Unknown never counts as absent.
type presence int

const (
	unknown presence = iota // the host could not be asked
	absent
	present
)

// sighting is what one host reports about a domain.
type sighting struct {
	is    presence
	state hypervisor.State // of a domain that is present
	away  bool             // the host has a suspended copy of a domain that was handed to the target
}

// look asks one host. A dying domain counts as absent. A domain of somebody else that has
// the name is an error.
func (h *Host) look(ctx context.Context, name string) (sighting, error) {
	states, all, err := h.list(ctx)
	if err != nil {
		return sighting{}, fmt.Errorf("%s could not be asked: %w", h.Host(), err)
	}
	if err := h.refuseForeign(all, name); err != nil {
		return sighting{}, err
	}
	seen := sighting{is: absent}
	for _, state := range states {
		switch {
		case state.Name == name && state.Status != hypervisor.Dying:
			seen.is, seen.state = present, state
		case state.Name == name+awaySuffix && state.Status != hypervisor.Dying:
			seen.away = true
		}
	}
	return seen, nil
}

// whereabouts asks both ends of a migration. The error is about those that could not
// be asked.
func whereabouts(ctx context.Context, from, to *Host, name string) (source, target sighting, err error) {
	source, sourceErr := from.look(ctx, name)
	target, targetErr := to.look(ctx, name)
	return source, target, errors.Join(sourceErr, targetErr)
}

func onBoth(name string) error {
	return fmt.Errorf("domain %s exists on both hosts: destroy the copy that was never meant to run", name)
}

// settle cleans up after a failed migration. The error is nil when the domain runs on
// one host, and wraps hypervisor.ErrUnknown when it is not known where the domain is.
func (m *migration) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	name := m.order.Domain.Name
	cleared := m.to.clearLeftover(ctx, name)
	source, target, err := whereabouts(ctx, m.from, m.to, name)
	if err != nil {
		return fmt.Errorf("%w: %w", hypervisor.ErrUnknown, err)
	}
	switch {
	case source.is == present && target.is == present:
		return onBoth(name)
	case target.is == present, source.is == present && source.state.Status == hypervisor.Running:
		return cleared
	case source.is == present:
		return errors.Join(fmt.Errorf("domain %s is %s on %s", name, source.state.Status, m.from.Host()), cleared)
	case source.away:
		return errors.Join(fmt.Errorf("domain %s runs nowhere: %s has it suspended as %s, and %s has it not", name, m.from.Host(), name+awaySuffix, m.to.Host()), cleared)
	}
	return errors.Join(fmt.Errorf("domain %s is on neither host", name), cleared)
}
