package simulated

import (
	"context"
	"fmt"

	"heliotrope/internal/limits"
	"heliotrope/internal/storage"
)

var (
	_ storage.System   = (*disks)(nil)
	_ storage.System   = (*replicas)(nil)
	_ storage.Verifier = (*replicas)(nil)
)

// disks is the model of a storage system.
type disks struct {
	bed  *Bed
	kind string
}

func (d *disks) Kind() string { return d.kind }

func (d *disks) Provision(ctx context.Context, spec storage.Spec, _ storage.Site) (storage.Disk, error) {
	disk := storage.Disk{Spec: spec, Device: map[storage.Site]string{}}
	if err := storage.CheckSpec(spec); err != nil {
		return disk, err
	}
	if spec.SizeBytes < diskBytes {
		return disk, fmt.Errorf("disk %s: %d bytes: the simulated load uses the first %d of every disk", spec.Name, spec.SizeBytes, diskBytes)
	}
	fills := limits.Job{FilledBytes: spec.Fill.Bytes}.Fill()
	if err := d.bed.work(ctx, provisionTime+fills); err != nil {
		return disk, err
	}
	disk.Filled = storage.Filled{Bytes: spec.Fill.Bytes, Took: fills}
	if d.bed.faults.provisionFails(d.bed.ref) {
		return disk, fmt.Errorf("providing disk %s with %s on %s: the model was asked to let it fail",
			spec.Name, d.kind, d.bed.store())
	}
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		disk.Device[site] = "/dev/simulated/" + d.bed.lane + "." + spec.Name
	}
	return disk, d.bed.put(d.bed.store(), madeDisk)
}

func (d *disks) PrepareMigration(ctx context.Context, _ storage.Disk, _, _ storage.Site) error {
	m, err := modelOf(d.bed.ref, d.bed.faults)
	if err != nil {
		return err
	}
	return d.bed.spend(ctx, m.schedule.prepare)
}

func (d *disks) FinishMigration(ctx context.Context, _ storage.Disk, _ storage.Site) error {
	m, err := modelOf(d.bed.ref, d.bed.faults)
	if err != nil {
		return err
	}
	return d.bed.spend(ctx, m.schedule.finish)
}

func (d *disks) Teardown(ctx context.Context) error { return d.bed.spend(ctx, commandTime) }

// replicas is the model of DRBD, whose replicas can be compared.
type replicas struct{ disks }

// Verify finds no differences.
func (r *replicas) Verify(ctx context.Context, disk storage.Disk) (int64, error) {
	return 0, r.bed.work(ctx, limits.Job{ComparedBytes: disk.SizeBytes, Path: disk.Path}.Compare())
}
