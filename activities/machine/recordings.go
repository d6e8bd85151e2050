package machine

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"

	"heliotrope/internal/fault"
	"heliotrope/internal/load"
	"heliotrope/internal/record"
)

// Recordings runs what records on one machine during a trial: the load in the
// guest, the counters of a host.
type Recordings struct {
	// Find finds a recording on the machine that it runs on.
	Find func(ctx context.Context, input RecordingInput) (record.Recording, error)
}

// RecordingInput names a recording.
type RecordingInput struct {
	Target
	// Machine is a host of the inventory, or trial.Guest: then the
	// recording is the load.
	Machine string `json:"machine"`
	// Setup says what to record, for a worker that has no inventory.
	Setup RecordingSetup `json:"setup"`
}

const (
	// recordingSilence is how long a recording may have no progress. It is
	// longer than any blackout that would not be a failure.
	recordingSilence = 5 * time.Minute
	// lookEvery is how often a recording is looked at.
	lookEvery = time.Second
	// lookLimit ends one look: a guest that is being suspended answers late.
	lookLimit = time.Minute
)

func (r *Recordings) find(ctx context.Context, input RecordingInput) (record.Recording, error) {
	recording, err := r.Find(ctx, input)
	if errors.Is(err, load.ErrSpec) {
		err = fault.As(fault.BadInput, err)
	}
	return recording, err
}

// StartLoad starts the load and returns when I/Os complete.
func (r *Recordings) StartLoad(ctx context.Context, input RecordingInput) error {
	working, p, stop := StartPulse(ctx, 2*time.Minute)
	defer stop()
	p.Done(Step{Step: "start the load in the guest"})
	recording, err := r.find(working, input)
	if err == nil {
		err = recording.Start(working)
	}
	if errors.Is(err, record.ErrEnded) {
		err = fault.As(fault.Invalid, err)
	}
	return Result(working, err)
}

// FollowLoad heartbeats the load's record.Progress until it is cancelled, which
// is how it ends well. It fails when the load ends by itself: then the
// measurement has a hole.
func (r *Recordings) FollowLoad(ctx context.Context, input RecordingInput) error {
	working, p, stop := StartPulse(ctx, recordingSilence)
	defer stop()
	recording, err := r.find(working, input)
	if err == nil {
		err = follow(working, p, input.Machine, recording)
	}
	return Result(working, err)
}

// FollowCounters samples a host's counters until it is cancelled.
func (r *Recordings) FollowCounters(ctx context.Context, input RecordingInput) error {
	working, p, stop := StartPulse(ctx, recordingSilence)
	defer stop()
	recording, err := r.find(working, input)
	if err == nil {
		err = recording.Start(working)
	}
	if errors.Is(err, record.ErrEnded) {
		err = fault.As(fault.Invalid, err)
	}
	if err == nil {
		err = follow(working, p, input.Machine, recording)
	}
	return Result(working, err)
}

// follow looks at a recording until the context ends, or the recording.
func follow(ctx context.Context, p *Pulse, machine string, recording record.Recording) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	steps := int64(-1)
	for {
		progress, err := look(ctx, recording)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			// Not being able to look is no gap: the recording is a process of
			// its own. The silence limit ends it.
			activity.GetLogger(ctx).Warn("cannot look at the recording", "machine", machine, "error", err.Error())
		case !progress.Running && progress.Problem == "":
			return nil // somebody ended it, as collecting does
		case !progress.Running:
			return fault.New(fault.Invalid, "%s: what recorded ended by itself: %s", machine, progress.Problem)
		case progress.Steps > steps:
			steps = progress.Steps
			p.Done(progress)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

func look(ctx context.Context, recording record.Recording) (record.Progress, error) {
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	return recording.Progress(limited)
}

// RecordingSetup says what a machine records and where.
type RecordingSetup struct {
	Dir string `json:"dir"` // of the recording, on the machine
	// Device is the disk under test, as the guest sees it. For the load.
	Device string `json:"device,omitempty"`
	// Devices are the devices whose counters are sampled, by role; see
	// package witness. For a host.
	Devices map[string]string `json:"devices,omitempty"`
}
