package judge

import (
	"fmt"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// readLedger notes what was read back of the ledger.
func (s *scene) readLedger(rows []dataset.Ledger) {
	s.row.LedgerAcked, s.row.LedgerLost = nil, nil
	for _, row := range rows {
		s.row.LedgerAcked = most(s.row.LedgerAcked, row.Acked)
		s.row.LedgerLost = most(s.row.LedgerLost, row.LostCount)
	}
}

func most(known *int64, value int64) *int64 {
	if known != nil && *known >= value {
		return known
	}
	return &value
}

// gravity orders causes: what is told when there are several. What makes the
// numbers meaningless comes before what makes one of them missing, and a guest or a
// disk that did not come back, which is a result, before the witnesses that had
// nothing to hear of it.
var gravity = []cause.Code{cause.DataDamaged, cause.ClockJumped, cause.ClockUncertain, cause.WANOutOfTolerance, cause.GuestHung, cause.NoRecovery, cause.WitnessDied}

// conclude puts what was found against the attempt together.
func (s *scene) conclude(ledger []dataset.Ledger, judged *Judged) {
	for _, row := range ledger {
		if row.LostCount > 0 {
			judged.Verdict, judged.Cause = trial.TargetFailed, cause.LostWrite
			judged.Reason = fmt.Sprintf("%d acknowledged writes of %d are not in copy %s on %s: %s", row.LostCount, row.Checked, row.Copy, row.Host, row.Lost)
			return
		}
	}
	if s.outcome.code != "" {
		s.problems = append(s.problems, s.outcome)
	}
	if !s.complete() || len(s.problems) == 0 {
		return
	}
	gravest := slices.MinFunc(s.problems, func(a, b problem) int { return slices.Index(gravity, a.code) - slices.Index(gravity, b.code) })
	judged.Verdict, judged.Cause, judged.Reason = trial.Invalid, gravest.code, gravest.text
	if gravest == s.outcome {
		judged.Verdict = trial.TargetFailed
	}
	for _, other := range s.problems {
		if other != gravest {
			judged.Notes = append(judged.Notes, fmt.Sprintf("%s: %s", other.code, other.text))
		}
	}
}

// Apply changes a row's verdict to what was found: a lost write is told before
// anything else, and takes back even a failure that was known; the rest takes
// back a valid verdict only.
func (j Judged) Apply(row *dataset.Trial) {
	if j.Verdict == "" || j.Cause != cause.LostWrite && trial.Verdict(row.Verdict) != trial.Valid {
		return
	}
	row.Judged = trial.Verdict(row.Verdict) == trial.Valid
	row.Verdict, row.Cause, row.Reason = string(j.Verdict), string(j.Cause), j.Reason
}

// Again takes back what Apply did to a row, so that it can be judged again: what
// was valid by all its steps is so until it is judged. What a step said stays.
func Again(row *dataset.Trial) {
	if row.Judged {
		row.Verdict, row.Cause, row.Reason, row.Judged = string(trial.Valid), "", "", false
	}
}
