package campaign

import (
	"slices"
	"time"

	"heliotrope/internal/load/spec"
)

// Assumptions about a trial, from which a campaign's duration and the size of its data are
// estimated beforehand. Nothing but estimates depends on these figures.
const (
	// assumedXenMigration is how long a migration of a small guest under load takes: 10 to 18 s
	// on the emulated testbed.
	assumedXenMigration = 20 * time.Second
	// assumedVSphereMigration is how long the task of a relocation through the lab's vCenter
	// takes, and assumedVSphereWithDisk the same where the disk is moved as well: 17.5 s over
	// iSCSI, 19.6 s over NFS, and 25.1 s with a disk of 32 MiB, each observed once at 60 ms and
	// 100 Mbit/s on a quiet machine (docs/vsphere.md, "The lab's vCenter"). How long it takes with a
	// real vCenter is not known.
	assumedVSphereMigration = 20 * time.Second
	assumedVSphereWithDisk  = 26 * time.Second
	// assumedKVMMigration and assumedKVMOverWAN are the same for QEMU: 7.7 s were observed on the
	// emulated testbed without a WAN; the value over a WAN is a guess.
	assumedKVMMigration = 8 * time.Second
	assumedKVMOverWAN   = 12 * time.Second
	// assumedMirrorBytes is how many bytes of a private disk are copied in a second, besides the
	// memory: 64 MiB took 43 s longer than no disk at 60 ms and 100 Mbit/s, observed once.
	assumedMirrorBytes = 3 << 19
	// assumedChange is how long it takes to stop one emulated testbed and to start another:
	// starting alone took 13 to 25 s.
	assumedChange = 30 * time.Second
	// assumedSetup is how long provisioning, collecting and tearing down take, as observed on the
	// emulated testbed with a disk of some GiB. Filling and comparing a large disk takes longer
	// than all of that.
	assumedSetup = 70 * time.Second
	// assumedCertificate is how long one certificate of the WAN takes, before or after;
	// assumedReadBack is the same for the ledger.
	assumedCertificate = 15 * time.Second
	assumedReadBack    = 3 * time.Second
	// assumedSimulated is how long a whole simulated trial takes: its phases pass without
	// waiting, and the time goes into making, writing and checking its files.
	assumedSimulated = 500 * time.Millisecond
	// bytesPerIO is the size of a row of table io in Parquet, with a margin (9 to 11 bytes were
	// measured).
	bytesPerIO = 12
	// rawPerIO and rawPerIOOfFio are the bytes of an I/O in the raw log, which is kept until its
	// trial is judged. The first is what docs/load.md says, the second what was measured in a
	// compressed log, 8.5 bytes, with a margin.
	rawPerIO      = 6
	rawPerIOOfFio = 12
	// bytesPerSecond is the size of the counters of three hosts.
	bytesPerSecond = 4 << 10
	// bytesPerTrial is the size of the files' own headers, the events and the provenance.
	bytesPerTrial = 64 << 10
)

// assumedIOPS returns the assumed IOPS of a load: per outstanding I/O, up to what a disk can do.
// On the emulated testbed an I/O takes 5 ms; hosts are assumed to have a good disk. An open loop
// has its own rate.
func assumedIOPS(testbed string, access AccessSpec) float64 {
	access = access.Complete()
	if access.RateIOPS != 0 {
		return access.RateIOPS
	}
	outstanding := float64(access.Outstanding * access.Workers * access.Targets)
	if testbed == TestbedHosts {
		return min(5_000*outstanding, 50_000)
	}
	return min(200*outstanding, 1_000)
}

// Estimate is roughly what a campaign will take, if every trial is valid at its first attempt and
// all testbeds have the assumed speed.
type Estimate struct {
	Time time.Duration // with all lanes running at once
	// Least is the time of stop.min repetitions, after which a campaign that stops by precision
	// may end; for any other campaign it is Time.
	Least time.Duration
	Work  time.Duration // of all trials, one after another
	Bytes int64         // of all trials on the controller's disk, with the raw logs of those that run at the same time
}

// Estimate estimates a plan of this campaign.
func (s *Spec) Estimate(plan []Trial) Estimate {
	var sum Estimate
	blocks := map[int]time.Duration{}
	var order []int // of the blocks
	least := s.Repetitions
	if s.Stop != nil {
		least = s.Stop.Min
	}
	inTurn, raw := s.inTurn(), 0.0
	for i, trial := range plan {
		load := s.loadTime(trial.Cell)
		job := JobOf(trial.Cell, s.Disk, 0)
		duration := load + max(assumedSetup, job.Fill()+job.Compare()) + 2*assumedCertificate + assumedReadBack
		if s.Testbed == TestbedSimulated {
			duration = assumedSimulated
		}
		if inTurn && i > 0 && trial.Cell.Hypervisor != plan[i-1].Cell.Hypervisor {
			duration += assumedChange
		}
		if _, known := blocks[trial.Block]; !known {
			order = append(order, trial.Block)
		}
		blocks[trial.Block] += duration
		sum.Work += duration
		ios := assumedIOPS(s.Testbed, trial.Cell.Access) * load.Seconds()
		sum.Bytes += bytesPerTrial + int64(load.Seconds()*bytesPerSecond+ios*bytesPerIO)
		raw = max(raw, ios*rawBytes(trial.Cell.Access))
	}
	lanes := make([]time.Duration, min(s.LaneCount(), len(order)))
	for _, block := range order { // the lane that is free first runs the whole block
		free := slices.Index(lanes, slices.Min(lanes))
		lanes[free] += blocks[block]
		sum.Time = max(sum.Time, lanes[free])
		if block <= least {
			sum.Least = max(sum.Least, lanes[free])
		}
	}
	sum.Bytes += int64(raw) * int64(len(lanes))
	return sum
}

// rawBytes returns the bytes of an I/O in the raw log of a specification's engine.
func rawBytes(access AccessSpec) float64 {
	if access.Complete().Engine == spec.EngineFio {
		return rawPerIOOfFio
	}
	return rawPerIO
}

// loadTime returns how long the load runs in a trial of a cell: the mean warm-up, the phases
// before and after, and the migration or what takes its place.
func (s *Spec) loadTime(cell Cell) time.Duration {
	warmUp := (max(s.Phases.WarmUp, s.SteadyState.window()) + s.Phases.WarmUpMax) / 2
	during := cell.Hold
	if cell.Migrates() {
		during = s.migrationTime(cell)
	}
	return warmUp + s.Phases.Before + during + s.Phases.After
}

// migrationTime returns how long a migration of a cell is assumed to take: at least what the
// WAN's rate allows, and at most what the limit allows.
func (s *Spec) migrationTime(cell Cell) time.Duration {
	assumed := assumedXenMigration
	switch {
	case cell.Hypervisor == VSphere && cell.Storage == Local:
		assumed = assumedVSphereWithDisk
	case cell.Hypervisor == VSphere:
		assumed = assumedVSphereMigration
	case cell.Hypervisor == KVM && mustProfile(cell.WAN).IsShaping():
		assumed = assumedKVMOverWAN
	case cell.Hypervisor == KVM:
		assumed = assumedKVMMigration
	}
	if cell.Storage == Mirror {
		assumed += time.Duration(float64(s.Disk.SizeMiB<<20) / assumedMirrorBytes * float64(time.Second))
	}
	return min(max(assumed, s.firstRound(cell, 0).Least), s.Limits.Migration)
}
