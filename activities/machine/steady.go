package machine

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"

	"heliotrope/activities/pulse"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/steady"
)

// SteadyInput says when a load counts as steady, and how long to wait for it.
type SteadyInput struct {
	RecordingInput
	Rule campaign.SteadyState `json:"rule"`
	// Least and Longest are the shortest and the longest warm-up of the load.
	Least   time.Duration `json:"least"`
	Longest time.Duration `json:"longest"`
}

// Steady describes the load when the waiting ended.
type Steady struct {
	Verdict steady.Verdict `json:"verdict"`
	Waited  time.Duration  `json:"waited"`
	Now     time.Time      `json:"now,omitzero"` // time at the end
}

// AwaitSteady waits until the load is steady, but at most as long as it may: a load that is
// not steady by then is reported as that, and is no error. It judges what the guest's disk
// completes in each round. When it is called again, it waits for a new window.
func (r *Recordings) AwaitSteady(ctx context.Context, input SteadyInput) (Steady, error) {
	working, p, stop := pulse.Start(ctx, recordingSilence+input.Rule.Round)
	defer stop()
	input.Load = true
	recording, err := r.find(working, input.RecordingInput)
	if err != nil {
		return Steady{}, pulse.Result(working, err)
	}
	result, err := awaitSteady(working, p, input, recording)
	return result, pulse.Result(working, err)
}

func awaitSteady(ctx context.Context, p *pulse.Pulse, input SteadyInput, recording record.Recording) (Steady, error) {
	clock := poll.ClockOf(recording)
	began := clock.Now()
	var rounds []float64
	var result Steady
	for first := true; ; first = false {
		progress, err := look(ctx, recording)
		switch {
		case ctx.Err() != nil:
			return result, ctx.Err()
		case err != nil:
			activity.GetLogger(ctx).Warn("cannot look at the load", "error", err.Error())
		case !progress.Running:
			return result, fault.Because(fault.Invalid, input.died(), fmt.Errorf("the load ended by itself: %s", progress.Problem))
		case !first: // the first look only begins a round
			rounds = append(rounds, progress.IOPS)
			p.Done(progress)
		}
		result.Now = clock.Now()
		result.Waited = result.Now.Sub(began)
		result.Verdict = steady.Judge(rounds, input.Rule.Window, input.Rule.RangePercent, input.Rule.SlopePercent)
		if result.Waited >= input.Longest || result.Waited >= input.Least && result.Verdict.Steady {
			return result, nil
		}
		// All rounds have the same length, however long a look takes.
		if err := clock.Wait(ctx, input.Rule.Round-clock.Now().Sub(began)%input.Rule.Round); err != nil {
			return result, err
		}
	}
}
