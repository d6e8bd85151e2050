package machine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/activity"

	"heliotrope/activities/pulse"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/load"
	"heliotrope/internal/load/engine"
	"heliotrope/internal/load/spec"
	"heliotrope/internal/poll"
	"heliotrope/internal/record"
	"heliotrope/internal/witness"
)

// Recordings runs the recordings on one machine during a trial: the load in the guest, and
// the witnesses of the hosts and the guest.
type Recordings struct {
	// Find finds a recording on the machine that it runs on.
	Find func(ctx context.Context, input RecordingInput) (record.Recording, error)
}

// RecordingInput names a recording.
type RecordingInput struct {
	Target
	// Machine is a host of the inventory, or trial.Guest.
	Machine string `json:"machine"`
	// Load says that it is the guest's load; otherwise it is the machine's witness. The
	// activity sets it.
	Load bool `json:"-"`
	// Setup says what to record, for a worker that has no inventory. For activities that
	// only look at a started recording, RecordingSetup.Started is enough.
	Setup RecordingSetup `json:"setup,omitzero"`
}

const (
	// recordingSilence is how long a recording may make no progress. It is longer than any
	// blackout that is not a failure.
	recordingSilence = 5 * time.Minute
	// lookEvery is how often a recording is looked at, for its live figures and to see that
	// it is alive. A look starts a process on the machine, which is expensive where it
	// shares the processor with the measured guest.
	lookEvery = 5 * time.Second
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

// StartLoad starts the load, and returns when I/Os complete.
func (r *Recordings) StartLoad(ctx context.Context, input RecordingInput) error {
	input.Load = true
	return r.start(ctx, input)
}

// StartWitness starts a machine's witness, and returns when it has observed something.
func (r *Recordings) StartWitness(ctx context.Context, input RecordingInput) error {
	return r.start(ctx, input)
}

func (r *Recordings) start(ctx context.Context, input RecordingInput) error {
	working, p, stop := pulse.Start(ctx, 2*time.Minute)
	defer stop()
	p.Done(pulse.Step{Step: "start what records on " + input.Machine})
	recording, err := r.find(working, input)
	if err == nil {
		err = recording.Start(working)
	}
	if errors.Is(err, record.ErrEnded) {
		err = fault.Because(fault.Invalid, input.died(), err)
	}
	return pulse.Result(working, err)
}

// died is the cause when the recording ended by itself.
func (i RecordingInput) died() cause.Code {
	if i.Load {
		return cause.LoadDied
	}
	return cause.WitnessDied
}

// FollowLoad heartbeats the load's record.Progress until it is cancelled, which is its
// normal end. It fails when the load ends by itself, because the measurement then has a
// hole.
func (r *Recordings) FollowLoad(ctx context.Context, input RecordingInput) error {
	input.Load = true
	return r.following(ctx, input)
}

// FollowWitness does the same as FollowLoad for a machine's witness.
func (r *Recordings) FollowWitness(ctx context.Context, input RecordingInput) error {
	return r.following(ctx, input)
}

func (r *Recordings) following(ctx context.Context, input RecordingInput) error {
	working, p, stop := pulse.Start(ctx, recordingSilence)
	defer stop()
	if !input.Load {
		p.Quiet() // only the load's figures are shown, not a witness's
	}
	recording, err := r.find(working, input)
	if err == nil {
		err = follow(working, p, input, recording)
	}
	return pulse.Result(working, err)
}

// follow looks at a recording until the context or the recording ends.
func follow(ctx context.Context, p *pulse.Pulse, input RecordingInput, recording record.Recording) error {
	steps := int64(-1)
	for {
		progress, err := look(ctx, recording)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			// A failed look is no gap in the recording, which is a process of its own. The
			// silence limit ends the activity.
			activity.GetLogger(ctx).Warn("cannot look at the recording", "machine", input.Machine, "error", err.Error())
		case !progress.Running && progress.Problem == "":
			return nil // somebody ended it, for instance a collection
		case !progress.Running:
			return fault.Because(fault.Invalid, input.died(),
				fmt.Errorf("%s: what recorded ended by itself: %s", input.Machine, progress.Problem))
		case progress.Steps > steps:
			steps = progress.Steps
			p.Done(progress)
		}
		if err := poll.Beside(ctx, recording, lookEvery); err != nil {
			return err
		}
	}
}

func look(ctx context.Context, recording record.Recording) (record.Progress, error) {
	limited, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	return recording.Progress(limited)
}

// RecordingSetup says what a machine records, and where: a load, or one of the two
// witnesses.
type RecordingSetup struct {
	Dir string `json:"dir"` // the recording's folder on the machine
	// Program is the path of the witness program on the machine, which contains our own
	// load engine.
	Program string               `json:"program,omitempty"`
	Load    *engine.Config       `json:"load,omitempty"`
	Host    *witness.HostConfig  `json:"host,omitempty"`
	Guest   *witness.GuestConfig `json:"guest,omitempty"`
}

// Started is the part of a setup that is needed to look at a started recording: its folder,
// and for fio, whose progress is measured at its device, the whole setup.
func (s RecordingSetup) Started() RecordingSetup {
	if s.Load != nil && s.Load.Access.Complete().Engine == spec.EngineFio {
		return s
	}
	return RecordingSetup{Dir: s.Dir}
}
