package judge

import (
	"time"

	"heliotrope/internal/campaign"
	"heliotrope/internal/steady"
	"heliotrope/internal/trial"
)

// recoveryRound is the length of the rounds by which the load's recovery is judged.
const recoveryRound = time.Second

// warmUpRounds are the rounds of the last whole window of the warm-up, counted back from
// its end; none when the warm-up was shorter.
func (s *scene) warmUpRounds() *steady.Rounds {
	warmUp, limits := s.phase(trial.WarmUp), s.limits.SteadyState
	from := warmUp.to - int64(limits.Window)*limits.Round.Nanoseconds()
	if from < warmUp.from {
		return steady.NewRounds(0, 0, limits.Round)
	}
	return steady.NewRounds(from, warmUp.to, limits.Round)
}

// afterRounds are the rounds of phase after that come after the stall, counted back from
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

// judgeLoad finds out whether the load was steady when the warm-up ended. For an attempt
// that completed its phases it also finds the load's level afterwards, when it came back to
// that level, and what was lost. It returns notes.
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
	row.Steady = new(bool) // a warm-up that is too short, or without I/O, is not steady
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

// levelAfter is the load's own level at the place where the guest ends up: the mean of the
// last steady window of phase after; nil when no window was steady.
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

// recovery is the time from the stall's end to the beginning of the first rounds in which
// the load was at the level for as long as the limits require; nil when there are none.
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

// lost is how many fewer I/Os than at a steady level completed in the window of the stall,
// in seconds of that level; below 0 it is a gain. The level is that of phase before until
// the stall begins, and the level at the new site from then on. For a load that never came
// back it is that of phase before throughout. Nil when one of the two levels is not known,
// or when the guest moved and nobody saw its stall.
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

// phaseIOs is the number of I/Os that completed in a phase.
func (l *load) phaseIOs(part span) int64 {
	for _, phase := range l.phases {
		if phase.span == part {
			return phase.reads.Count + phase.writes.Count
		}
	}
	return 0
}
