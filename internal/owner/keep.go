package owner

import (
	"context"
	"errors"

	"heliotrope/internal/poll"
)

// Keep runs do while it renews the owner's leases every RenewEvery. When a lease is lost,
// Keep ends the context of do, and the error of do becomes the one of Refresh.
func (h Hosts) Keep(ctx context.Context, owner string, do func(context.Context) error) error {
	working, cancel := context.WithCancelCause(ctx)
	renewed := make(chan struct{})
	go func() {
		defer close(renewed)
		cancel(h.refreshUntilLost(working, owner))
	}()
	err := do(working)
	if lost := context.Cause(working); ctx.Err() == nil && lost != nil && err != nil {
		err = lost
	}
	cancel(nil)
	<-renewed
	return err
}

// refreshUntilLost renews leases until the context ends, or until one is lost.
func (h Hosts) refreshUntilLost(ctx context.Context, owner string) error {
	for poll.Pause(ctx, RenewEvery) == nil {
		if err := h.Refresh(ctx, owner); err != nil {
			return err
		}
	}
	return nil
}

// Refresh renews the owner's leases, and fails only when one is lost: the error is then
// ErrHeld or ErrLapsed. A host that does not answer is asked again by the next Refresh.
func (h Hosts) Refresh(ctx context.Context, owner string) error {
	err := h.Renew(ctx, owner, Lease)
	if errors.Is(err, ErrHeld) || errors.Is(err, ErrLapsed) {
		return err
	}
	return nil
}
