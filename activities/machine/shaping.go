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

// Shaper is the path between the sites, which can be shaped; see package wan.
type Shaper interface {
	Shape(ctx context.Context, owner string, profile wan.Profile, lease time.Duration) error
	Renew(ctx context.Context, owner string, profile wan.Profile, lease time.Duration) error
}

// ShapingInput says how to shape.
type ShapingInput struct {
	Target
	// Device is the interface that leads to site B, for a worker that has no inventory.
	Device string `json:"device"`
}

// lease is how long the shaping stays after its last renewal. Three renewals may fail in a
// row.
const (
	lease      = 4 * time.Minute
	renewEvery = time.Minute
)

// owner is the path's owner: one attempt of one controller, so that neither what is left of
// an earlier attempt renews the path, nor another controller's attempt with the same name.
func (i ShapingInput) owner(ctx context.Context) string {
	return owner.Campaign(activity.GetInfo(ctx).TaskQueue, i.Ref.Campaign) + ", trial " + i.Ref.Key()
}

// profile is the WAN profile of the cell.
func (i ShapingInput) profile() (wan.Profile, error) {
	profile, err := wan.ParseProfile(i.Ref.Trial.Cell.WAN)
	return profile, fault.As(fault.BadInput, err)
}

// Shape shapes the WAN as the trial's cell says. When somebody else owns the path, the
// attempt is invalid: the next one begins by removing what is there.
func (s *Shaping) Shape(ctx context.Context, input ShapingInput) error {
	working, p, stop := pulse.Start(ctx, 2*time.Minute)
	defer stop()
	p.Done(pulse.Step{Step: "shape the WAN: " + input.Ref.Trial.Cell.WAN})
	_, err := s.with(working, input, Shaper.Shape)
	return pulse.Result(working, err)
}

// with finds the shaper, and calls do with the attempt's lease.
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

// HoldWAN renews the shaping's lease, at once and then each minute, until it is cancelled.
// A lease that expired, or a path that is not what was shaped, makes the measurement
// invalid.
func (s *Shaping) HoldWAN(ctx context.Context, input ShapingInput) error {
	working, p, stop := pulse.Start(ctx, lease)
	defer stop()
	p.Quiet()
	// It renews at once, because this may be another try, long after the last one.
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

// CheckWAN renews the lease once. It is used after a failure of the target: the reason may
// be only that somebody has changed the path since the last renewal.
func (s *Shaping) CheckWAN(ctx context.Context, input ShapingInput) error {
	working, p, stop := pulse.Start(ctx, 2*time.Minute)
	defer stop()
	p.Done(pulse.Step{Step: "see whether the WAN is what was shaped"})
	_, err := s.with(working, input, Shaper.Renew)
	return pulse.Result(working, err)
}
