package activities

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"

	"heliotrope/activities/pulse"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/owner"
	"heliotrope/internal/testbed"
)

// leased is a testbed whose hosts are leased to the campaign that measures on them.
type leased interface {
	Leases() owner.Hosts
	// Forgo prevents anything more from being done on the named hosts, for the given
	// reasons.
	Forgo(away map[string]error)
}

// ownerOf is the owner on whose behalf an activity works.
func ownerOf(ctx context.Context, target Target) string {
	return owner.Campaign(activity.GetInfo(ctx).TaskQueue, target.Ref.Campaign)
}

// work is something to do on a testbed, under a pulse.
type work func(context.Context, testbed.Bed, *pulse.Pulse) error

// owning runs work while the target's campaign holds the leases of the testbed's hosts, and
// renews the leases meanwhile. Nothing is touched unless all leases were taken: a host that
// could not be asked may belong to another owner. When a lease is lost to another owner,
// the work is cut off.
func owning(target Target, do work) work {
	return func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		shared, is := bed.(leased)
		if !is {
			return do(ctx, bed, p)
		}
		p.Done(pulse.Step{Step: "lease the hosts"})
		hosts, name := shared.Leases(), ownerOf(ctx, target)
		if err := hosts.Take(ctx, name, owner.Lease); err != nil {
			return err
		}
		return hosts.Keep(ctx, name, func(ctx context.Context) error { return do(ctx, bed, p) })
	}
}

// clearing is owning for work that removes things. It runs the work on the hosts whose
// leases were taken, if there are any; the others are left alone, which is an error.
//
// One lease proves that nobody else measures on the testbed, because measuring takes all of
// them. Therefore hosts that cannot be leased are cleared, too.
func clearing(target Target, do work) work {
	return func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		shared, is := bed.(leased)
		if !is {
			return do(ctx, bed, p)
		}
		p.Done(pulse.Step{Step: "lease the hosts"})
		hosts, name := shared.Leases(), ownerOf(ctx, target)
		taken, err := hosts.TakeAnswering(ctx, name, owner.Lease, "")
		if err != nil {
			return err
		}
		if len(taken.Leased) == 0 && len(hosts) > 0 {
			return taken.Err()
		}
		shared.Forgo(taken.Away)
		err = taken.Leased.Keep(ctx, name, func(ctx context.Context) error { return do(ctx, bed, p) })
		return errors.Join(err, taken.Err())
	}
}

// renewing returns a function that renews the leases of the target's testbed, but not more
// often than needed. Measurements on hosts that may have belonged to another owner cannot
// be trusted.
func renewing(ctx context.Context, bed testbed.Bed, target Target) func() error {
	shared, is := bed.(leased)
	if !is {
		return func() error { return nil }
	}
	hosts, name, last := shared.Leases(), ownerOf(ctx, target), time.Time{}
	return func() error {
		if time.Since(last) < owner.RenewEvery {
			return nil
		}
		last = time.Now()
		return fault.Because(fault.Invalid, cause.Infrastructure, hosts.Refresh(ctx, name))
	}
}

// releasing is clearing, and gives the leases back after the work succeeded. After work
// that failed the leases expire: something of ours may still be on the hosts, and the end
// of the lease ends it there.
func releasing(target Target, do work) work {
	return clearing(target, func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		if err := do(ctx, bed, p); err != nil {
			return err
		}
		shared, is := bed.(leased)
		if !is {
			return nil
		}
		p.Done(pulse.Step{Step: "give the hosts back"})
		return shared.Leases().Release(ctx, ownerOf(ctx, target))
	})
}

// ours checks whose the hosts are: it is an error when one belongs to another owner, or
// cannot be asked.
func ours(ctx context.Context, bed testbed.Bed, target Target, p *pulse.Pulse) error {
	shared, is := bed.(leased)
	if !is {
		return nil
	}
	p.Done(pulse.Step{Step: "ask whose the hosts are"})
	states, err := shared.Leases().State(ctx)
	for _, held := range states {
		if held.Owner != ownerOf(ctx, target) {
			return fault.As(fault.Infrastructure, &held)
		}
	}
	return err
}

// RetainInput says for how long an attempt's setup is kept.
type RetainInput struct {
	Target
	Length time.Duration `json:"length"`
}

// Retain leases the hosts for as long as the setup is kept on them: nobody else gets them,
// and afterwards each host itself ends what still runs there.
func (t *Testbed) Retain(ctx context.Context, input RetainInput) error {
	return t.with(ctx, input.Target, func(ctx context.Context, bed testbed.Bed, _ *pulse.Pulse) error {
		if shared, is := bed.(leased); is {
			return shared.Leases().Take(ctx, ownerOf(ctx, input.Target), input.Length)
		}
		return nil
	})
}
