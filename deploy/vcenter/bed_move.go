package vcenter

import (
	"context"
	"errors"
	"fmt"

	"heliotrope/internal/hypervisor"
	"heliotrope/internal/storage"
)

// Move migrates the guest: its memory, and its disk if each site has its own.
func (b *Bed) Move(ctx context.Context, guest Guest, from, to storage.Site, percent func(int)) (storage.Site, []Stun, error) {
	made, hasDisk := b.disk(guest)
	if hasDisk {
		system, err := b.system(made.store)
		if err != nil {
			return from, nil, err
		}
		if err := system.PrepareMigration(ctx, made.Disk, from, to); err != nil {
			return from, nil, errors.Join(err, system.FinishMigration(context.WithoutCancel(ctx), made.Disk, from))
		}
	}
	stops := b.watch(ctx, b.domain(guest, from).UUID())
	_, err := b.hosts[from].Migrate(ctx, hypervisor.Order{Domain: b.domain(guest, from), AtTarget: b.domain(guest, to),
		Target: b.hosts[to], Progress: func(p hypervisor.Progress) { percent(percentOf(p)) }})
	detached := context.WithoutCancel(ctx)
	if err == nil {
		stuns := b.stuns(detached, stops, true)
		return to, stuns, b.finish(detached, guest, to)
	}
	at, where := b.Find(detached, guest, from)
	stuns := b.stuns(detached, stops, false)
	if where == nil && errors.Is(err, hypervisor.ErrUnknown) {
		err = errors.New(err.Error()) // the guest's place is known now, so the error must not be hypervisor.ErrUnknown
	}
	return at, stuns, errors.Join(err, where)
}

// finish closes the window in which both sites may open a guest's disk.
func (b *Bed) finish(ctx context.Context, guest Guest, at storage.Site) error {
	made, hasDisk := b.disk(guest)
	if !hasDisk {
		return nil
	}
	system, err := b.system(made.store)
	if err != nil {
		return err
	}
	return system.FinishMigration(ctx, made.Disk, at)
}

// find asks both hosts where a guest is. The error is hypervisor.ErrUnknown when a host does not
// answer or both have the guest, and errGone when neither has it.
func (b *Bed) find(ctx context.Context, guest Guest) (storage.Site, error) {
	var found []storage.Site
	for _, site := range bothSites {
		states, err := b.hosts[site].List(ctx)
		if err != nil {
			return "", fmt.Errorf("%w: %w", hypervisor.ErrUnknown, err)
		}
		for _, state := range states {
			if state.Name == b.name(guest) && state.Status != hypervisor.Leftover {
				found = append(found, site)
			}
		}
	}
	switch len(found) {
	case 0:
		return "", errGone
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%w: guest %s is at both sites", hypervisor.ErrUnknown, guest.ID)
}

// Find asks both hosts, and closes the window in which both may open the disk.
func (b *Bed) Find(ctx context.Context, guest Guest, from storage.Site) (storage.Site, error) {
	at, where := b.find(ctx, guest)
	gone := errors.Is(where, errGone)
	switch {
	case gone:
		at = from
	case where != nil:
		return from, where
	}
	if err := b.finish(ctx, guest, at); err != nil {
		return from, fmt.Errorf("%w: %w", hypervisor.ErrUnknown, err)
	}
	if gone {
		b.release(guest)
	}
	return at, where
}

// percentOf returns how much of a guest has arrived, in percent: of its memory, and of its disk
// if that is copied.
func percentOf(p hypervisor.Progress) int {
	done, all := p.SentBytes, p.MemoryBytes
	if p.RemainingBytes != nil {
		done = all - *p.RemainingBytes
	}
	if p.SentBytes == 0 {
		done = 0 // neither is anything under way, nor does anything remain
	}
	if p.DiskBytes != nil && p.DiskSentBytes != nil {
		done, all = done+*p.DiskSentBytes, all+*p.DiskBytes
	}
	if all <= 0 {
		return 0
	}
	return int(min(max(100*done/all, 0), 100))
}
