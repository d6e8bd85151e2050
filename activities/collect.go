package activities

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"heliotrope/activities/machine"
	"heliotrope/internal/clock"
	"heliotrope/internal/fault"
	"heliotrope/internal/record"
	"heliotrope/internal/testbed"
	"heliotrope/internal/trial"
)

// Collecting brings an attempt's data from its machines into the dataset.
type Collecting struct {
	Open    Opener
	Version string // of this program
}

// CollectInput is what to collect.
type CollectInput struct {
	Target
	// Failed says that the system under test has failed: then what cannot be
	// had any more is a problem to note, not an error.
	Failed bool `json:"failed,omitempty"`
}

// Collected is what was brought to the attempt's work folder: a folder of raw
// files for each machine.
type Collected struct {
	Machines []string                `json:"machines,omitempty"`
	Clocks   map[string]clock.Offset `json:"clocks,omitempty"` // after the load, by machine
	Problems []string                `json:"problems,omitempty"`
	Bytes    int64                   `json:"bytes"` // of the raw files
	Now      time.Time               `json:"now"`
}

// Collect measures the clocks again, ends what records, and fetches the raw
// files. Doing it again fetches them again.
func (c *Collecting) Collect(ctx context.Context, input CollectInput) (Collected, error) {
	collected := Collected{Clocks: map[string]clock.Offset{}}
	err := withBed(ctx, c.Open, input.Target, stepSilence, func(ctx context.Context, bed testbed.Bed, p *machine.Pulse) error {
		var errs []error
		for _, name := range append([]string{trial.Guest}, bed.HostNames()...) {
			if err := collectFrom(ctx, bed, p, input, name, &collected); err != nil {
				errs = append(errs, fmt.Errorf("collect from %s: %w", name, err))
			}
		}
		if err := errors.Join(errs...); err != nil && (!input.Failed || ctx.Err() != nil) {
			return err
		}
		for _, err := range errs {
			collected.Problems = append(collected.Problems, err.Error())
		}
		collected.Now = bed.Now()
		return nil
	})
	return collected, err
}

func collectFrom(ctx context.Context, bed testbed.Bed, p *machine.Pulse, input CollectInput, name string, collected *Collected) error {
	p.Done(machine.Step{Step: "measure the clock of " + name})
	offset, err := bed.Clock(ctx, name)
	if err != nil {
		return err
	}
	collected.Clocks[name] = offset
	var recording record.Recording
	if name == trial.Guest {
		recording, err = bed.Load(input.Ref)
	} else {
		recording, err = bed.Counters(input.Ref, name)
	}
	if err != nil {
		return err
	}
	progress, err := recording.Progress(ctx)
	if err != nil {
		return err
	}
	if !progress.Running && progress.Problem != "" {
		ended := fault.New(fault.Invalid, "what recorded ended by itself: %s", progress.Problem)
		if !input.Failed {
			return ended
		}
		// It may have ended because the target failed: what it wrote is kept.
		collected.Problems = append(collected.Problems, name+": "+ended.Error())
	}
	p.Done(machine.Step{Step: "end what records on " + name})
	if err := recording.Stop(ctx); err != nil {
		return err
	}
	folder := filepath.Join(input.WorkFolder(), name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	var bytes int64
	_, err = recording.Fetch(ctx, folder, func(done, total int64) {
		bytes = total
		p.Done(machine.Step{Step: fmt.Sprintf("fetch from %s: %d of %d bytes", name, done, total)})
	})
	if err != nil {
		return err
	}
	collected.Bytes += bytes
	collected.Machines = append(collected.Machines, name)
	return nil
}
