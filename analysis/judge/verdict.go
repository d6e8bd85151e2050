package judge

import (
	"fmt"
	"slices"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// readLedger sets what was read back of the ledger.
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

// gravity is the order in which causes are reported when there are several. Causes that
// make the numbers meaningless come before those that make one of them missing. A guest or
// disk that did not come back, which is a result, comes before the witnesses that therefore
// heard nothing.
var gravity = []cause.Code{cause.DataDamaged, cause.ClockJumped, cause.ClockUncertain, cause.WANOutOfTolerance, cause.GuestHung, cause.NoRecovery, cause.WitnessDied}

// conclude sets the verdict from everything that speaks against the attempt.
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

// Apply changes a row's verdict according to what was found. A lost write comes before
// everything else, and even replaces a failure that was known; any other finding only
// replaces a valid verdict.
func (j Judged) Apply(row *dataset.Trial) {
	if j.Verdict == "" || j.Cause != cause.LostWrite && trial.Verdict(row.Verdict) != trial.Valid {
		return
	}
	row.Judged = trial.Verdict(row.Verdict) == trial.Valid
	row.Verdict, row.Cause, row.Reason = string(j.Verdict), string(j.Cause), j.Reason
}

// Again undoes Apply, so that a row can be judged again: an attempt that was valid after
// all its steps is valid until it is judged. A verdict that a step set stays.
func Again(row *dataset.Trial) {
	if row.Judged {
		row.Verdict, row.Cause, row.Reason, row.Judged = string(trial.Valid), "", "", false
	}
}
