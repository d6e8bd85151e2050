package simulated

import (
	"context"
	"fmt"

	"heliotrope/internal/ledger"
	"heliotrope/internal/storage"
	"heliotrope/internal/trial"
)

var (
	_ storage.Copier = (*disks)(nil)
	_ storage.Copier = (*replicas)(nil)
)

const (
	// losesMost is the largest number of records that are lost.
	losesMost = 5
	// checkTime is how long reading a copy back takes.
	checkTime = 5 * commandTime
	// losingReplica is the replica that may lose writes.
	losingReplica = "replica-b"
)

// Copies returns the disk at the guest's site.
func (d *disks) Copies(ctx context.Context, disk storage.Disk, at storage.Site) ([]storage.Copy, error) {
	return []storage.Copy{storage.SiteCopy(disk, at, d.bed.siteHost(at))}, d.bed.spend(ctx, commandTime)
}

// Copies returns the disk at the guest's site, and the replicas below it.
func (r *replicas) Copies(ctx context.Context, disk storage.Disk, at storage.Site) ([]storage.Copy, error) {
	copies := []storage.Copy{storage.SiteCopy(disk, at, r.bed.siteHost(at))}
	for _, site := range []storage.Site{storage.SiteA, storage.SiteB} {
		copies = append(copies, storage.Copy{Name: "replica-" + string(site), Host: r.bed.siteHost(site), Path: disk.Device[site] + ".below"})
	}
	return copies, r.bed.spend(ctx, commandTime)
}

// CheckLedger finds every record, unless the trial loses some: then a few consecutive ones are
// missing on one copy.
func (b *Bed) CheckLedger(ctx context.Context, ref trial.Ref, copied storage.Copy, acked uint64) (ledger.Report, error) {
	if !b.isHost(copied.Host) {
		return ledger.Report{}, fmt.Errorf("check the ledger's copy %s on %s: no such host: there are %v", copied.Name, copied.Host, b.HostNames())
	}
	if err := b.spend(ctx, checkTime); err != nil {
		return ledger.Report{}, err
	}
	slots := ledger.Region{SizeBytes: ref.LedgerBytes}.Slots()
	checked := min(acked, uint64(max(0, slots)))
	report := ledger.Report{Copy: copied.Name, Host: copied.Host, Acked: acked, Checked: int64(checked), Newest: acked} //nolint:gosec // slots are an int64
	if checked > 0 && mayLose(ref, copied) && b.faults.losesWrites(ref) {
		random := source(ref, "lost writes")
		count := min(checked, 1+random.Uint64N(losesMost))
		first := acked - checked + 1 + random.Uint64N(checked-count+1)
		for number := first; number < first+count; number++ {
			report.Lost = append(report.Lost, number)
		}
		report.LostCount = int64(len(report.Lost))
	}
	report.Found = report.Checked - report.LostCount
	return report, nil
}

// mayLose reports whether a copy is the one on which a trial may lose writes: site B's replica,
// or the only copy.
func mayLose(ref trial.Ref, copied storage.Copy) bool {
	return ref.Trial.Cell.Storage != replicated || copied.Name == losingReplica
}
