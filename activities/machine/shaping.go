package machine

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"

	"heliotrope/activities/pulse"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/owner"
	"heliotrope/internal/poll"
	"heliotrope/internal/wan"
)

// Shaping shapes the WAN, on the host that bridges the sites.
type Shaping struct {
	// Find finds the WAN's shaper.
	Find func(ctx context.Context, input ShapingInput) (Shaper, error)
}

// Shaper is the path between the sites; see package wan.
type Shaper interface {
	Shape(ctx context.Context, owner string, profile wan.Profile, lease time.Duration) error
	Renew(ctx context.Context, owner string, profile wan.Profile, lease time.Duration) error
}

// ShapingInput says how to shape.
type ShapingInput struct {
	Target
	// Device is the interface that leads to site B, for a worker that has no
	// inventory.
	Device string `json:"device"`
}

// lease is how long the shaping outlives its last renewal. Three renewals may
// fail in a row.
const (
	lease      = 4 * time.Minute
	renewEvery = time.Minute
)

// owner is who holds the path: one attempt of one controller, so that what is left of
// an earlier one does not renew it, nor another controller's of the same name.
func (i ShapingInput) owner(ctx context.Context) string {
	return owner.Campaign(activity.GetInfo(ctx).TaskQueue, i.Ref.Campaign) + ", trial " + i.Ref.Key()
}

// profile is the cell's.
func (i ShapingInput) profile() (wan.Profile, error) {
	profile, err := wan.ParseProfile(i.Ref.Trial.Cell.WAN)
	return profile, fault.As(fault.BadInput, err)
}

// Shape shapes the WAN as the trial's cell says. A path that somebody else holds
// makes the attempt invalid: the next one begins with removing what is there.
func (s *Shaping) Shape(ctx context.Context, input ShapingInput) error {
	working, p, stop := pulse.Start(ctx, 2*time.Minute)
	defer stop()
	p.Done(pulse.Step{Step: "shape the WAN: " + input.Ref.Trial.Cell.WAN})
	_, err := s.with(working, input, Shaper.Shape)
	return pulse.Result(working, err)
}

// with finds the shaper, and has it do something for the attempt's lease.
func (s *Shaping) with(ctx context.Context, input ShapingInput, do func(Shaper, context.Context, string, wan.Profile, time.Duration) error) (Shaper, error) {
	profile, err := input.profile()
	if err != nil {
		return nil, err
	}
	shaper, err := s.Find(ctx, input)
	if err != nil {
		return nil, err
	}
	err = do(shaper, ctx, input.owner(ctx), profile, lease)
	switch {
	case errors.Is(err, wan.ErrChanged), errors.Is(err, wan.ErrHeld):
		err = fault.Because(fault.Invalid, cause.WANChanged, err)
	case errors.Is(err, wan.ErrLapsed):
		err = fault.Because(fault.Invalid, cause.WANOutOfTolerance, err)
	}
	return shaper, err
}

// Held is the heartbeat of HoldWAN.
type Held struct {
	Renewals int `json:"renewals"`
}

// HoldWAN renews the shaping's lease, at once and then each minute, until it is
// cancelled. A lease that lapsed, and a path that is not what was shaped, make the
// measurement invalid.
func (s *Shaping) HoldWAN(ctx context.Context, input ShapingInput) error {
	working, p, stop := pulse.Start(ctx, lease)
	defer stop()
	p.Quiet()
	// At once: it may be the next try, and the last one may be long ago.
	for renewals := 1; ; renewals++ {
		shaper, err := s.with(working, input, Shaper.Renew)
		if err == nil {
			p.Done(Held{renewals})
			err = poll.Beside(working, shaper, renewEvery)
		}
		if err != nil {
			return pulse.Result(working, err)
		}
	}
}

// CheckWAN renews the lease once. It is for a failure of the target: a path that
// somebody has changed since the last renewal may be all there is to it.
func (s *Shaping) CheckWAN(ctx context.Context, input ShapingInput) error {
	working, p, stop := pulse.Start(ctx, 2*time.Minute)
	defer stop()
	p.Done(pulse.Step{Step: "see whether the WAN is what was shaped"})
	_, err := s.with(working, input, Shaper.Renew)
	return pulse.Result(working, err)
}
