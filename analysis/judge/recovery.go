package judge

import (
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/steady"
	"heliotrope/internal/trial"
)

// recoveryRound is the length of the rounds by which the load's return is judged.
const recoveryRound = time.Second

// warmUpRounds are the last whole window of the warm-up: rounds count back from
// its end. There are none when it was shorter.
func (s *scene) warmUpRounds() *steady.Rounds {
	warmUp, limits := s.phase(trial.WarmUp), s.limits.SteadyState
	from := warmUp.to - int64(limits.Window)*limits.Round.Nanoseconds()
	if from < warmUp.from {
		return steady.NewRounds(0, 0, limits.Round)
	}
	return steady.NewRounds(from, warmUp.to, limits.Round)
}

// afterRounds are those of phase after from the stall's end on, counted back from
// the phase's end.
func (s *scene) afterRounds() *steady.Rounds {
	after, round := s.phase(trial.After), s.limits.SteadyState.Round
	from := after.from
	if s.stall != nil {
		from = max(from, s.stall.to)
	}
	if round <= 0 || from >= after.to {
		return steady.NewRounds(0, 0, round)
	}
	whole := (after.to - from) / round.Nanoseconds()
	return steady.NewRounds(after.to-whole*round.Nanoseconds(), after.to, round)
}

// judgeLoad finds whether the load was steady when the warm-up ended, and in an
// attempt that got through its phases its level afterwards, when it came back and
// what was lost. It gives notes.
func (s *scene) judgeLoad() []string {
	row, limits := s.row, s.limits.SteadyState
	row.Steady, row.SteadyRangePercent, row.SteadySlopePercent = nil, nil, nil
	row.LevelAfterIOPS, row.RecoveryMs, row.IOLostS = nil, nil, nil
	if _, ok := phaseSpan(s.timeline, trial.WarmUp); !ok || s.load.ios() == 0 {
		return nil
	}
	if s.load.blurred.coarse {
		return []string{"the load's levels, recovery and I/O lost are not known: the histograms of its log are too coarse"}
	}
	row.Steady = new(bool) // too short, or without I/O: not steady
	if verdict := steady.Judge(s.load.warmUp.IOPS(), limits.Window, limits.RangePercent, limits.SlopePercent); verdict.Judged {
		row.SteadyRangePercent, row.SteadySlopePercent = &verdict.RangePercent, &verdict.SlopePercent
		row.Steady = &verdict.Steady
	}
	if !s.complete() {
		return nil
	}
	row.LevelAfterIOPS = s.levelAfter()
	row.IOLostS = s.lost()
	if s.stall == nil {
		return nil
	}
	if row.LevelAfterIOPS == nil && s.load.phaseIOs(s.phase(trial.After)) > 0 {
		return []string{"recovery and I/O lost are not known: no steady level at the new site"}
	}
	if row.LevelAfterIOPS != nil {
		row.RecoveryMs = s.recovery(*row.LevelAfterIOPS)
	}
	return nil
}

// levelAfter is the load's own level where the guest is in the end: the mean of
// the last window of phase after that was steady. Nil when none was.
func (s *scene) levelAfter() *float64 {
	rounds, limits := s.load.after.IOPS(), s.limits.SteadyState
	for ; len(rounds) >= limits.Window; rounds = rounds[:len(rounds)-1] {
		if !steady.Judge(rounds, limits.Window, limits.RangePercent, limits.SlopePercent).Steady {
			continue
		}
		sum := 0.0
		for _, iops := range rounds[len(rounds)-limits.Window:] {
			sum += iops
		}
		return pointer(sum / float64(limits.Window))
	}
	return nil
}

// recovery is the time from a stall's end until the load was back at a level for as
// long as the limits say: the beginning of the first of those rounds. Nil when it did
// not come back.
func (s *scene) recovery(level float64) *float64 {
	need := int((s.limits.Recovery.For + recoveryRound - 1) / recoveryRound)
	back := 0
	for i, iops := range s.load.recovery.IOPS() {
		if iops < level*(1-s.limits.Recovery.WithinPercent/100) {
			back = 0
			continue
		}
		if back++; back >= max(need, 1) {
			return durationMs(time.Duration(i+1-back) * recoveryRound)
		}
	}
	return nil
}

// lost is how many I/Os fewer than at a steady level completed where a stall is
// looked for, in seconds of that level: below 0 is a gain. The level is that of phase
// before up to the stall, and from its beginning on that at the new site; of a load
// that never came back it is that of phase before, throughout. Nil when one of the two
// is not known, or when the guest moved and nobody saw its stall.
func (s *scene) lost() *float64 {
	before := s.phase(trial.Before)
	level := float64(s.load.phaseIOs(before)) / before.seconds()
	if !(level > 0) {
		return nil
	}
	lost := s.load.untilStall.seconds() - float64(s.load.untilStall.ios)/level
	switch {
	case s.stall == nil && s.row.Control == campaign.ControlNone:
		return &lost
	case s.stall == nil:
		return nil
	case s.row.LevelAfterIOPS != nil:
		level = *s.row.LevelAfterIOPS
	case s.load.phaseIOs(s.phase(trial.After)) > 0:
		return nil
	}
	return pointer(lost + s.load.fromStall.seconds() - float64(s.load.fromStall.ios)/level)
}

// phaseIOs is how many I/Os completed in a phase.
func (l *load) phaseIOs(part span) int64 {
	for _, phase := range l.phases {
		if phase.span == part {
			return phase.reads.Count + phase.writes.Count
		}
	}
	return 0
}
