package judge

import (
	"iter"
	"time"

	"heliotrope/internal/steady"
	"heliotrope/internal/trial"
)

// recoveryRound is the length of the rounds by which the load's return and its
// loss are judged.
const recoveryRound = time.Second

// times are the completions' on the controller's time base.
func (s *scene) times() iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for _, c := range s.completions {
			if !yield(c.ts) {
				return
			}
		}
	}
}

// judgeLoad finds whether the load was steady when the warm-up ended, and in an
// attempt that got through its phases, when it came back and what was lost.
func (s *scene) judgeLoad() {
	row, limits := s.row, s.limits.SteadyState
	row.Steady, row.SteadyRangePercent, row.SteadySlopePercent, row.RecoveryMs, row.IOLostS = nil, nil, nil, nil, nil
	warmUp, ok := phaseSpan(s.timeline, trial.WarmUp)
	if !ok || !row.HasIO() {
		return
	}
	// The last whole window: rounds count back from the warm-up's end.
	from := warmUp.to - int64(limits.Window)*limits.Round.Nanoseconds()
	if from >= warmUp.from {
		rounds := steady.Rounds(s.times(), from, warmUp.to, limits.Round)
		if verdict := steady.Judge(rounds, limits.Window, limits.RangePercent, limits.SlopePercent); verdict.Judged {
			row.SteadyRangePercent, row.SteadySlopePercent = &verdict.RangePercent, &verdict.SlopePercent
			row.Steady = &verdict.Steady
		}
	}
	if row.Steady == nil { // too short, or without I/O: not steady
		row.Steady = new(bool)
	}
	before, ok := phaseSpan(s.timeline, trial.Before)
	if !ok || !s.complete() {
		return
	}
	level := float64(len(s.within(before))) / before.seconds()
	if level == 0 {
		return
	}
	window, _ := s.window()
	row.IOLostS = pointer(s.lost(window, level))
	if s.stall != nil {
		row.RecoveryMs = s.recovery(span{s.stall.to, window.to}, level)
	}
}

// recovery is the time from a stall's end until the load was back for as long
// as the limits say: the beginning of the first of those rounds. Nil when it did
// not come back in the span.
func (s *scene) recovery(part span, level float64) *float64 {
	rounds := steady.Rounds(s.times(), part.from, part.to, recoveryRound)
	need := int((s.limits.Recovery.For + recoveryRound - 1) / recoveryRound)
	back := 0
	for i, iops := range rounds {
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

// lost is the integral of the drop below a level of IOPS over a span, in
// seconds of that level, by rounds; the last one may be shorter.
func (s *scene) lost(part span, level float64) float64 {
	total := 0.0
	for from := part.from; from < part.to; from += recoveryRound.Nanoseconds() {
		round := span{from, min(from+recoveryRound.Nanoseconds(), part.to)}
		drop := level*round.seconds() - float64(len(s.within(round)))
		total += max(0, drop) / level
	}
	return total
}
