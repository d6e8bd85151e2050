package activities_test

import (
	"strings"
	"testing"
	"time"

	"heliotrope/activities"
	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/cause"
	"heliotrope/internal/simulated"
	"heliotrope/internal/trial"
)

// returned goes up to the end of phase after, and checks whether the guest came back.
func (a *attempt) returned(t *testing.T) *attempt {
	t.Helper()
	a.before(t)
	a.known.Migrated = must[activities.Migrated](t, a.migrator.Migrate, a.migrateInput())
	a.passed(a.known.Migrated.Now)
	a.enter(trial.After)
	a.passed(a.target.Ref.Now.Add(10 * time.Second))
	a.enter(trial.Collect)
	a.known.Looked = must[activities.Looked](t, a.collector.Look, activities.LookInput{Target: a.target, Quiet: 5 * time.Second})
	a.passed(a.known.Looked.Now)
	return a
}

// TestLook checks what is found at the end of phase after, with a ledger and without.
func TestLook(t *testing.T) {
	for name, c := range map[string]struct {
		faults  simulated.Faults
		verdict trial.Verdict
		cause   cause.Code
		text    string
	}{
		"all came back":         {simulated.Faults{}, "", "", ""},
		"the guest hangs":       {simulated.Faults{GuestHangs: 1}, trial.TargetFailed, cause.GuestHung, "domain sim-1.guest is running on sim-1-b, and nothing was heard of the guest for "},
		"the disk stays away":   {simulated.Faults{DiskStaysAway: 1}, trial.TargetFailed, cause.NoRecovery, "the guest is heard, and no I/O has completed for "},
		"its target is removed": {simulated.Faults{TargetUnplugged: 1}, trial.Invalid, cause.LoadDied, "ended by itself"},
	} {
		for _, ledger := range []int64{8 << 20, 0} {
			a := newAttempt(t, c.faults)
			a.target.Ref.LedgerBytes = ledger
			looked := a.returned(t).known.Looked
			if looked.Verdict != c.verdict || looked.Cause != c.cause || !strings.Contains(looked.Reason, c.text) || looked.Now.IsZero() {
				t.Errorf("%s, ledger of %d bytes: %+v", name, ledger, looked)
			}
		}
	}
}

// TestWhatDoesNotComeBackIsAResult: what Look finds is in the row, together with what the
// hosts saw. It also is when Look could not run, and when the attempt is judged again.
func TestWhatDoesNotComeBackIsAResult(t *testing.T) {
	for name, c := range map[string]struct {
		faults simulated.Faults
		cause  cause.Code
		io     bool
	}{
		"the guest hangs":       {simulated.Faults{GuestHangs: 1}, cause.GuestHung, false},
		"the disk stays away":   {simulated.Faults{DiskStaysAway: 1}, cause.NoRecovery, true},
		"its target is removed": {simulated.Faults{TargetUnplugged: 1}, cause.IOError, true},
	} {
		for _, looks := range []bool{true, false} {
			if !looks && !c.io {
				continue // then nothing could be collected either
			}
			a := newAttempt(t, c.faults).returned(t)
			verdict := trial.Valid
			if looks {
				verdict = a.known.Looked.Verdict
				a.known.Cause, a.known.Reason = a.known.Looked.Cause, a.known.Looked.Reason
			} else {
				a.known.Looked = activities.Looked{}
			}
			a.known.Collected = must[activities.Collected](t, a.collector.Collect, activities.CollectInput{Target: a.target,
				Failed: true, Hung: a.known.Looked.Cause == cause.GuestHung})
			a.passed(a.known.Collected.Now)
			concluded := a.torn(t, verdict).conclude(t)
			if concluded.Verdict != trial.TargetFailed || concluded.Cause != c.cause {
				t.Errorf("%s, looked at %v: %+v", name, looks, concluded)
			}
			row := a.row(t)
			if row.HasIO() != c.io || row.DomainRows == nil || *row.DomainRows == 0 {
				t.Errorf("%s, looked at %v: its log is known: %v", name, looks, row.HasIO())
			}
			if looks && (row.HeartbeatRows == nil || *row.HeartbeatRows == 0) {
				t.Errorf("%s: what was heard of it is not kept", name)
			}
			judge.Again(&row)
			folder := dataset.CampaignFolder(a.target.DataDir, "unit")
			judged, err := judge.Judge(&row, judge.RawOf(folder, &row), judge.DefaultLimits())
			if err != nil {
				t.Fatal(err)
			}
			judged.Apply(&row)
			if row.Verdict != string(trial.TargetFailed) || row.Cause != string(c.cause) || row.RecoveryMs != nil || row.BlackoutMs == nil {
				t.Errorf("%s, looked at %v: judged again %s, %s", name, looks, row.Verdict, row.Cause)
			}
		}
	}
}
