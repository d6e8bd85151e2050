package campaign

import (
	"slices"
	"time"

	"heliotrope/internal/load/spec"
)

// What is assumed of a trial, to say beforehand how long a campaign takes and
// how much it leaves. Nothing but forecasts depends on these figures.
const (
	// assumedXenMigration is a migration of a small guest under load: 10 to
	// 18 s on the emulated testbed.
	assumedXenMigration = 20 * time.Second
	// assumedVSphereMigration is a relocation's task through the lab's vCenter: 63 s
	// over iSCSI, 66 s over NFS, and 71 s with a disk of 32 MiB, each seen once at
	// 60 ms and 100 Mbit/s on a busy machine (docs/vsphere.md). That of a real vCenter
	// is not known.
	assumedVSphereMigration = 70 * time.Second
	// assumedKVMMigration and assumedKVMOverWAN are the same by QEMU: 7.7 s were
	// seen there without a WAN, and the other is a guess.
	assumedKVMMigration = 8 * time.Second
	assumedKVMOverWAN   = 12 * time.Second
	// assumedMirrorBytes is how much of a private disk is copied in a second,
	// beside the memory: 64 MiB took 43 s longer than none at 60 ms and
	// 100 Mbit/s, seen once.
	assumedMirrorBytes = 3 << 19
	// assumedChange is how long it takes to stop one emulated testbed and to
	// start another: starting alone took 13 to 25 s.
	assumedChange = 30 * time.Second
	// assumedSetup is what provisioning, collecting and tearing down take, as
	// seen on the emulated testbed: with a disk of some GiB. Filling and comparing a
	// large one takes longer than all of that.
	assumedSetup = 70 * time.Second
	// assumedCertificate is one certificate of the WAN, before or after, and
	// assumedReadBack the ledger's.
	assumedCertificate = 15 * time.Second
	assumedReadBack    = 3 * time.Second
	// assumedSimulated is a whole simulated trial: its phases pass without
	// waiting, and what takes time is to make, write and check its files.
	assumedSimulated = 500 * time.Millisecond
	// bytesPerIO is a row of table io in Parquet, with a margin (9 to 11
	// bytes were measured).
	bytesPerIO = 12
	// rawPerIO and rawPerIOOfFio are an I/O in the raw log, which is there until
	// its trial is judged: what docs/load.md wants, and what was measured of a
	// packed one, 8.5 bytes, with a margin.
	rawPerIO      = 6
	rawPerIOOfFio = 12
	// bytesPerSecond is what the counters of three hosts leave.
	bytesPerSecond = 4 << 10
	// bytesPerTrial is the files' own headers, the events and the provenance.
	bytesPerTrial = 64 << 10
)

// assumedIOPS is what one outstanding I/O gives, and what a disk gives at
// most: on the emulated testbed 5 ms each, on hosts those of a good disk.
// An open loop has its own rate.
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

// Estimate is what a campaign will take, roughly: if every trial is valid at
// its first attempt, and all testbeds are of the speed that is assumed.
type Estimate struct {
	Time time.Duration // of all lanes together
	// Least is the time of stop.min repetitions, after which a campaign that
	// stops by precision may end; that of another is Time.
	Least time.Duration
	Work  time.Duration // of all trials, one after the other
	Bytes int64         // on the controller's disk, of all trials, with the raw logs of those that run at once
}

// Estimate forecasts a plan of this campaign.
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
	for _, block := range order { // the lane that is free first has it as a whole
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

// rawBytes is an I/O in the raw log of a specification's engine.
func rawBytes(access AccessSpec) float64 {
	if access.Complete().Engine == spec.EngineFio {
		return rawPerIOOfFio
	}
	return rawPerIO
}

// loadTime is how long the load runs in a trial of a cell: the warm-up's mean,
// the phases before and after, and the migration or what is in its place.
func (s *Spec) loadTime(cell Cell) time.Duration {
	warmUp := (max(s.Phases.WarmUp, s.SteadyState.window()) + s.Phases.WarmUpMax) / 2
	during := cell.Hold
	if cell.Migrates() {
		during = s.migrationTime(cell)
	}
	return warmUp + s.Phases.Before + during + s.Phases.After
}

// migrationTime is how long a migration of a cell is assumed to take: never
// less than the WAN's rate allows, and no longer than it may.
func (s *Spec) migrationTime(cell Cell) time.Duration {
	assumed := assumedXenMigration
	switch {
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
