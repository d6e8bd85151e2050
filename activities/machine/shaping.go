package machine

import (
	"context"
	"errors"
	"time"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/wan"
)

// Shaping shapes the WAN, on the host that bridges the sites.
type Shaping struct {
	// Find finds the WAN's shaper.
	Find func(ctx context.Context, input ShapingInput) (Shaper, error)
}

// Shaper is the path between the sites; see package wan.
type Shaper interface {
	Shape(ctx context.Context, profile wan.Profile, lease time.Duration) error
	Renew(ctx context.Context, lease time.Duration) error
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

// Shape shapes the WAN as the trial's cell says.
func (s *Shaping) Shape(ctx context.Context, input ShapingInput) error {
	working, p, stop := StartPulse(ctx, 2*time.Minute)
	defer stop()
	p.Done(Step{Step: "shape the WAN: " + input.Ref.Trial.Cell.WAN})
	profile, err := wan.ParseProfile(input.Ref.Trial.Cell.WAN)
	if err != nil {
		return wire.ToTemporal(fault.As(fault.BadInput, err))
	}
	shaper, err := s.Find(working, input)
	if err == nil {
		err = shaper.Shape(working, profile, lease)
	}
	return Result(working, err)
}

// Held is the heartbeat of HoldWAN.
type Held struct {
	Renewals int `json:"renewals"`
}

// HoldWAN renews the shaping's lease, at once and then each minute, until it is
// cancelled. A lease that lapsed makes the measurement invalid.
func (s *Shaping) HoldWAN(ctx context.Context, input ShapingInput) error {
	working, p, stop := StartPulse(ctx, lease)
	defer stop()
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	// At once: it may be the next try, and the last one may be long ago.
	for renewals := 1; ; renewals++ {
		shaper, err := s.Find(working, input)
		if err == nil {
			err = shaper.Renew(working, lease)
		}
		if errors.Is(err, wan.ErrLapsed) {
			err = fault.Because(fault.Invalid, cause.WANOutOfTolerance, err)
		}
		if err != nil {
			return Result(working, err)
		}
		p.Done(Held{renewals})
		select {
		case <-working.Done():
			return Result(working, working.Err())
		case <-ticker.C:
		}
	}
}
