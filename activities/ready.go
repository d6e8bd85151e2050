package activities

import (
	"context"
	"fmt"

	"heliotrope/activities/pulse"
	"heliotrope/internal/fault"
	"heliotrope/internal/testbed"
)

// ReadyInput is a testbed, and a trial that it should be fit for.
type ReadyInput struct {
	Target
	DiskMiB int `json:"disk_mib"` // of the disk under test
}

// checker is a testbed that can say what it lacks. A simulated testbed lacks nothing.
type checker interface {
	Check(ctx context.Context, uses testbed.Uses) testbed.Checked
}

// Ready checks whether a testbed could run a trial: its machines must answer, have what the
// trial needs, belong to nobody else, and have clocks that can be read and have settled. It
// changes nothing and leases nothing, so that a person who repairs a host can sweep it; but
// it starts an emulated testbed that is down.
func (t *Testbed) Ready(ctx context.Context, input ReadyInput) error {
	if input.Lane.Kind.IsLab() {
		if err := t.Raise(ctx, input.Target); err != nil {
			return err
		}
	}
	return withBed(ctx, t.Open, input.Target, silenceOf(input.Target), func(ctx context.Context, bed testbed.Bed, p *pulse.Pulse) error {
		if err := ours(ctx, bed, input.Target, p); err != nil {
			return err
		}
		p.Done(pulse.Step{Step: "ask the hosts what they are"})
		if _, err := bed.Facts(ctx); err != nil {
			return err
		}
		if able, is := bed.(checker); is {
			p.Done(pulse.Step{Step: "see what the hosts lack"})
			if err := able.Check(ctx, input.uses()).Err(); err != nil {
				return fault.As(fault.Infrastructure, fmt.Errorf("testbed %s: %w", input.Lane.Name, err))
			}
		}
		if _, err := readClocks(ctx, bed, p); err != nil {
			return err
		}
		return settle(ctx, bed, p)
	})
}

// uses are the trial's requirements for the testbed; almost none when there is no trial.
func (r ReadyInput) uses() testbed.Uses {
	cell := r.Ref.Trial.Cell
	uses := testbed.Uses{DiskBytes: int64(r.DiskMiB) << 20, MemoryMiB: cell.GuestMemoryMiB, VCPUs: cell.GuestVCPUs}
	if cell.Storage != "" {
		uses.Storages = []testbed.StorageUse{{Name: cell.Storage, Options: cell.StorageOptions()}}
	}
	return uses
}
