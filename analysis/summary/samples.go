package summary

import (
	"maps"
	"math"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/group"
	"heliotrope/analysis/stats"
	"heliotrope/internal/trial"
)

// Spread is the values of a quantity over trials: one value of each trial that has it.
type Spread struct {
	N                int
	Infinite         int     // how many of them are infinite
	Median, Min, Max float64 // meaningless when N is 0
}

// spread is the spread of some values. The median of an even number of values is the mean
// of the two in the middle.
func spread(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	slices.Sort(values)
	n := len(values)
	finite, _ := slices.BinarySearch(values, math.Inf(1))
	return Spread{N: n, Infinite: n - finite, Median: stats.Median(values), Min: values[0], Max: values[n-1]}
}

// samples is a cell and the values of its trials.
type samples struct {
	cell                                                                  Cell
	migrationS, blackoutMs, uncertaintyMs, longestGapMs, wanMB            []float64
	disagreementMs, recoveryMs, ioLostS, toldMs                           []float64
	maxResponseMs, readResponseMs, writeResponseMs, responseUncertaintyMs []float64
	clockMs, driftPPM, guestStepMs                                        []float64
	prepareMs, finishMs, copyMs, convergeMs, sentMB, outOfSyncBytes       []float64
	phases                                                                map[string]*loadSamples
	stalls                                                                map[string]*stallSamples
	traffic                                                               map[string]*trafficSamples
	ledgers                                                               map[string]*Ledger
}

func newSamples(key group.Key, example dataset.Trial) *samples {
	return &samples{
		cell:   Cell{ID: key.CellID, Direction: key.Direction, Example: example, Verdicts: map[trial.Verdict]int{}},
		phases: map[string]*loadSamples{}, stalls: map[string]*stallSamples{},
		traffic: map[string]*trafficSamples{}, ledgers: map[string]*Ledger{},
	}
}

type loadSamples struct {
	iops, mbPerS, meanMs, p99Ms, maxMs []float64
}

type stallSamples struct{ ms, uncertaintyMs []float64 }

// add adds a trial.
func (s *samples) add(attempt *dataset.Attempt) {
	row := &attempt.Trial
	verdict := trial.Verdict(row.Verdict)
	s.cell.Verdicts[verdict]++
	for metric, of := range map[string]struct {
		values *[]float64
		factor float64
	}{group.TotalMigrationMs: {&s.migrationS, 1e-3}, group.BlackoutMs: {&s.blackoutMs, 1}, group.RecoveryMs: {&s.recoveryMs, 1}, group.IOLostS: {&s.ioLostS, 1},
		group.MaxResponseMs: {&s.maxResponseMs, 1}, group.ReadResponseMs: {&s.readResponseMs, 1}, group.WriteResponseMs: {&s.writeResponseMs, 1}} {
		if value, known := group.Value(row, metric); known {
			*of.values = append(*of.values, value*of.factor)
		}
	}
	for _, l := range attempt.Ledger {
		entry(s.ledgers, l.Copy).add(l)
	}
	if verdict == trial.Valid {
		s.addValid(row, attempt.Phases, attempt.Witnesses)
		for _, t := range attempt.Traffic {
			if t.Phase == dataset.During {
				entry(s.traffic, t.Class).add(t)
			}
		}
	}
}

func (s *samples) addValid(row *dataset.Trial, phases []dataset.Phase, witnesses []dataset.Witness) {
	s.uncertaintyMs = appendKnown(s.uncertaintyMs, row.BlackoutUncertaintyMs, 1)
	s.responseUncertaintyMs = appendKnown(s.responseUncertaintyMs, row.Response.UncertaintyMs, 1)
	s.longestGapMs = appendKnown(s.longestGapMs, row.LongestGapMs, 1)
	s.toldMs = appendKnown(s.toldMs, row.DowntimeMs, 1)
	s.disagreementMs = appendKnown(s.disagreementMs, row.DisagreementMs, 1)
	s.clockMs = appendKnown(s.clockMs, row.ClockUncertaintyMs, 1)
	s.driftPPM = appendKnown(s.driftPPM, row.ClockDriftPPM, 1)
	s.guestStepMs = appendKnown(s.guestStepMs, row.GuestClockStepMs, 1)
	s.addHandover(row)
	if row.Steady != nil {
		s.cell.SteadyKnown++
		if *row.Steady {
			s.cell.Steady++
		}
	}
	if row.WANBytes != nil {
		s.wanMB = append(s.wanMB, float64(*row.WANBytes)/1e6)
	}
	for _, phase := range phases {
		load := entry(s.phases, phase.Phase)
		load.iops = appendKnown(load.iops, phase.IOPS, 1)
		load.mbPerS = appendKnown(load.mbPerS, phase.MBPerS, 1)
		load.meanMs = appendKnown(load.meanMs, phase.MeanMs, 1)
		load.p99Ms = appendKnown(load.p99Ms, phase.P99Ms, 1)
		load.maxMs = appendKnown(load.maxMs, phase.MaxMs, 1)
	}
	for _, witness := range witnesses {
		stall := entry(s.stalls, witness.Witness)
		stall.ms = appendKnown(stall.ms, witness.StallMs, 1)
		stall.uncertaintyMs = appendKnown(stall.uncertaintyMs, witness.UncertaintyMs, 1)
	}
}

func (s *samples) addHandover(row *dataset.Trial) {
	s.prepareMs = appendKnown(s.prepareMs, row.StoragePrepareMs, 1)
	s.finishMs = appendKnown(s.finishMs, row.StorageFinishMs, 1)
	s.copyMs = appendKnown(s.copyMs, row.DiskCopyMs, 1)
	s.convergeMs = appendKnown(s.convergeMs, row.DiskConvergeMs, 1)
	if row.DiskBytes != nil {
		s.sentMB = append(s.sentMB, float64(*row.DiskBytes)/1e6)
	}
	if row.OutOfSyncBytes != nil {
		s.outOfSyncBytes = append(s.outOfSyncBytes, float64(*row.OutOfSyncBytes))
	}
}

func appendKnown(values []float64, value *float64, factor float64) []float64 {
	if value == nil {
		return values
	}
	return append(values, *value*factor)
}

func (s *samples) finish() Cell {
	cell := s.cell
	cell.MigrationS, cell.BlackoutMs = spread(s.migrationS), spread(s.blackoutMs)
	cell.UncertaintyMs, cell.LongestGapMs, cell.WANMB = spread(s.uncertaintyMs), spread(s.longestGapMs), spread(s.wanMB)
	cell.ToldMs = spread(s.toldMs)
	cell.MaxResponseMs, cell.ReadResponseMs, cell.WriteResponseMs = spread(s.maxResponseMs), spread(s.readResponseMs), spread(s.writeResponseMs)
	cell.ResponseUncertaintyMs = spread(s.responseUncertaintyMs)
	cell.DisagreementMs, cell.RecoveryMs, cell.IOLostS = spread(s.disagreementMs), spread(s.recoveryMs), spread(s.ioLostS)
	cell.ClockMs, cell.DriftPPM, cell.GuestStepMs = spread(s.clockMs), spread(s.driftPPM), spread(s.guestStepMs)
	cell.Handover = Handover{spread(s.prepareMs), spread(s.finishMs), spread(s.copyMs), spread(s.convergeMs), spread(s.sentMB), spread(s.outOfSyncBytes)}
	cell.Witnesses = map[string]Stall{}
	for name, stall := range s.stalls {
		cell.Witnesses[name] = Stall{Ms: spread(stall.ms), UncertaintyMs: spread(stall.uncertaintyMs)}
	}
	cell.Phases = map[string]Load{}
	for name, load := range s.phases {
		cell.Phases[name] = Load{IOPS: spread(load.iops), MBPerS: spread(load.mbPerS),
			MeanMs: spread(load.meanMs), P99Ms: spread(load.p99Ms), MaxMs: spread(load.maxMs)}
	}
	for _, class := range slices.Sorted(maps.Keys(s.traffic)) {
		bytes := s.traffic[class]
		cell.Traffic = append(cell.Traffic, Traffic{Class: class, ToBMB: spread(bytes.toB), ToAMB: spread(bytes.toA)})
	}
	for _, name := range slices.Sorted(maps.Keys(s.ledgers)) {
		ledger := *s.ledgers[name]
		ledger.Copy = name
		cell.Ledgers = append(cell.Ledgers, ledger)
	}
	return cell
}
