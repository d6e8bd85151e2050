package vcenter

import (
	"context"
	"errors"
	"fmt"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
)

// Move migrates the guest: its memory, and its disk where each site has its own.
func (b *Bed) Move(ctx context.Context, guest Guest, from, to storage.Site, percent func(int)) (storage.Site, *Stun, error) {
	made, hasDisk := b.disk(guest)
	var system storage.System
	var err error
	if hasDisk {
		if system, err = b.system(made.store); err != nil {
			return from, nil, err
		}
		if err := system.PrepareMigration(ctx, made.Disk, from, to); err != nil {
			return from, nil, errors.Join(err, system.FinishMigration(context.WithoutCancel(ctx), made.Disk, from))
		}
	}
	stops := b.watch(ctx, b.domain(guest, from).UUID())
	_, err = b.testbed.Hypervisor(from).Migrate(ctx, hypervisor.Order{Domain: b.domain(guest, from), AtTarget: b.domain(guest, to),
		Target: b.testbed.Hypervisor(to), Progress: func(p hypervisor.Progress) { percent(percentOf(p)) }})
	detached := context.WithoutCancel(ctx)
	at, where := to, error(nil)
	if err != nil {
		at, where = b.find(detached, guest)
	}
	stun := b.stun(detached, stops, err == nil)
	if where != nil {
		return at, stun, errors.Join(err, where)
	}
	if hasDisk {
		err = errors.Join(err, system.FinishMigration(detached, made.Disk, at))
	}
	return at, stun, err
}

// find asks both hosts where a guest is.
func (b *Bed) find(ctx context.Context, guest Guest) (storage.Site, error) {
	var found []storage.Site
	for _, site := range bothSites {
		states, err := b.testbed.Hypervisor(site).List(ctx)
		if err != nil {
			return "", fmt.Errorf("%w: %w", hypervisor.ErrUnknown, err)
		}
		for _, state := range states {
			if state.Name == b.name(guest) && state.Status != hypervisor.Leftover {
				found = append(found, site)
			}
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%w: guest %s is at %d sites", hypervisor.ErrUnknown, guest.ID, len(found))
	}
	return found[0], nil
}

// percentOf is how much of a guest has arrived: of its disk, where one is copied,
// and of its memory.
func percentOf(p hypervisor.Progress) int {
	done, all := p.SentBytes, p.MemoryBytes
	if p.RemainingBytes != nil {
		done = all - *p.RemainingBytes
	}
	if p.SentBytes == 0 {
		done = 0 // nothing is on its way, and nothing remains
	}
	if p.DiskBytes != nil && p.DiskSentBytes != nil {
		done, all = done+*p.DiskSentBytes, all+*p.DiskBytes
	}
	if all <= 0 {
		return 0
	}
	return int(min(max(100*done/all, 0), 100))
}
