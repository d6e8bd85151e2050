package activities

import (
	"context"
	"path"

	"heliotrope/activities/pulse"
	"heliotrope/internal/campaign"
	"heliotrope/internal/filling"
	"heliotrope/internal/record"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
	"heliotrope/internal/witness"
)

// fill says how the disk under test must be filled: as far as the load uses it.
func (i ProvisionInput) fill() storage.Fill {
	if i.Precondition != campaign.PreconditionFill {
		return storage.Fill{}
	}
	return storage.Fill{Seed: i.Ref.Trial.Seed, Bytes: i.Ref.LoadBytes()}
}

// fillInGuest has the guest fill a disk that its hypervisor has made, because nobody else
// can. It must run before the load, the heartbeats and the WAN's shaping, and needs the
// witness program in the guest.
func fillInGuest(ctx context.Context, machines Machines, p *pulse.Pulse, disk *storage.Disk) error {
	if disk.Fill.Bytes == 0 || disk.Filled.Bytes != 0 {
		return nil
	}
	p.Done(pulse.Step{Step: "fill the disk in " + trial.Guest})
	filler := filling.Disk{
		Process: record.Process{Host: machines.Machine(trial.Guest), Dir: machines.RunDir(trial.Guest, "fill")},
		Program: path.Join(machines.ProgramDir(trial.Guest), witness.Program), Path: machines.GuestDevices().Disk}
	// The guest keeps in its memory that the filling is done, so that another try finds
	// that.
	took, err := filler.Fill(ctx, 0, disk.Fill.Bytes, disk.Fill.Seed, func(int64) error { return nil })
	if err == nil && disk.Fill.Bytes < disk.SizeBytes {
		err = filler.Zero(ctx, disk.Fill.Bytes, disk.SizeBytes)
	}
	if err == nil {
		disk.Filled = storage.Filled{Bytes: disk.Fill.Bytes, Took: took}
	}
	return err
}

// fillPrecondition sets in the row what was done to the disk before it was used.
func (a *account) fillPrecondition() {
	provisioned := a.input.Known.Provisioned
	if provisioned.Precondition == "" {
		return
	}
	filled := provisioned.Disk.Filled
	seconds := filled.Took.Seconds()
	a.row.Precondition, a.row.PreconditionBytes, a.row.PreconditionS = &provisioned.Precondition, &filled.Bytes, &seconds
}
