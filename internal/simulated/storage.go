package simulated

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"heliotrope/internal/storage"
	"heliotrope/internal/testbed"
	"heliotrope/internal/wan"
)

var (
	_ storage.System   = (*disks)(nil)
	_ storage.System   = (*replicas)(nil)
	_ storage.Verifier = (*replicas)(nil)
	_ testbed.WAN      = path{}
)

// disks is a storage system.
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
	if err := d.bed.spend(ctx, provisionTime); err != nil {
		return disk, err
	}
	if d.bed.faults.provisionFails(d.bed.ref) {
		return disk, fmt.Errorf("providing disk %s with %s on %s: the model was asked to let it fail",
			spec.Name, d.kind, d.bed.store())
	}
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		disk.Device[site] = "/dev/simulated/" + d.bed.lane + "." + spec.Name
	}
	return disk, nil
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

// replicas is DRBD, whose disks can be compared.
type replicas struct{ disks }

// Verify finds no difference.
func (r *replicas) Verify(ctx context.Context, disk storage.Disk) (int64, error) {
	return 0, r.bed.spend(ctx, fromSeconds(float64(disk.SizeBytes)/diskBytesPerS))
}

// path is the WAN.
type path struct{ bed *Bed }

func (p path) Shape(ctx context.Context, profile wan.Profile, _ time.Duration) error {
	if err := profile.Validate(); err != nil {
		return fmt.Errorf("shape the WAN: %s: %w", profile, err)
	}
	return p.bed.spend(ctx, shapeTime)
}

func (p path) Renew(ctx context.Context, _ time.Duration) error {
	return p.bed.spend(ctx, commandTime)
}

func (p path) Clear(ctx context.Context) error { return p.bed.spend(ctx, commandTime) }

// pingSpread is how far a round trip is above its least, on average.
const pingSpread = 300 * time.Microsecond

// ping draws round trips: at least rtt − jitter, evenly spread over the jitter,
// with an exponential tail.
func ping(random *rand.Rand, rtt time.Duration, profile wan.Profile, count int) wan.Ping {
	trips := make([]time.Duration, 0, count)
	total := time.Duration(0)
	lost := lossOfRoundTrip(profile)
	for range count {
		if random.Float64() < lost {
			continue
		}
		trip := rtt + evenly(random, profile.Jitter) + time.Duration(random.ExpFloat64()*float64(pingSpread))
		trips = append(trips, trip)
		total += trip
	}
	result := wan.Ping{Sent: count, Received: len(trips)}
	if len(trips) == 0 {
		return result
	}
	slices.Sort(trips)
	result.Min, result.Max = trips[0], trips[len(trips)-1]
	result.Mean = total / time.Duration(len(trips))
	result.Median = (trips[(len(trips)-1)/2] + trips[len(trips)/2]) / 2
	return result
}

// lossOfRoundTrip is the probability, 0 to 1, that one of two packets is lost.
func lossOfRoundTrip(profile wan.Profile) float64 {
	kept := 1 - profile.LossPercent/100
	return 1 - kept*kept
}
