package campaign

import "time"

// What is assumed of a trial, to say beforehand how long a campaign takes and
// how much it leaves. Nothing but forecasts depends on these figures.
const (
	// assumedMigration is a migration of a small guest under load: 10 to 18 s
	// on the emulated testbed.
	assumedMigration = 20 * time.Second
	// assumedOverhead is all but the measuring phases, the migration
	// included, as seen on the emulated testbed.
	assumedOverhead = 90 * time.Second
	// assumedSimulated is a whole simulated trial: its phases pass without
	// waiting, and what takes time is to make, write and check its files.
	assumedSimulated = 500 * time.Millisecond
	// bytesPerIO is a row of table io in Parquet, with a margin (9 to 11
	// bytes were measured).
	bytesPerIO = 12
	// bytesPerSecond is what the counters of three hosts leave.
	bytesPerSecond = 4 << 10
	// bytesPerTrial is the files' own headers, the events and the provenance.
	bytesPerTrial = 64 << 10
)

// assumedIOPS is what one outstanding I/O gives, and what a disk gives at
// most: on the emulated testbed 5 ms each, on hosts those of a good disk.
func assumedIOPS(testbed string, outstanding int) float64 {
	if testbed == TestbedHosts {
		return min(5_000*float64(outstanding), 50_000)
	}
	return min(200*float64(outstanding), 1_000)
}

// Estimate is what a campaign will take, roughly: if every trial is valid at
// its first attempt, and all testbeds are of the speed that is assumed.
type Estimate struct {
	Time  time.Duration // of all lanes together
	Bytes int64         // on the controller's disk
}

// Estimate forecasts a plan of this campaign.
func (s *Spec) Estimate(plan []Trial) Estimate {
	load := s.Phases.WarmUp + s.Phases.Before + assumedMigration + s.Phases.After
	duration := s.Phases.WarmUp + s.Phases.Before + s.Phases.After + assumedOverhead
	if s.Testbed == TestbedSimulated {
		duration = assumedSimulated
	}
	var sum Estimate
	for _, trial := range plan {
		ios := assumedIOPS(s.Testbed, trial.Cell.Access.Outstanding) * load.Seconds()
		sum.Bytes += bytesPerTrial + int64(load.Seconds()*bytesPerSecond+ios*bytesPerIO)
	}
	// The lanes take trials in turns, so the longest has one more at most.
	rounds := (len(plan) + s.LaneCount() - 1) / s.LaneCount()
	sum.Time = time.Duration(rounds) * duration
	return sum
}
