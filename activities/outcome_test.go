package activities_test

import (
	"strings"
	"testing"
	"time"

	"heliotrope/activities"
	"heliotrope/internal/cause"
	"heliotrope/internal/simulated"
	"heliotrope/internal/trial"
)

// returned goes up to the end of phase after, and looks whether the guest came back.
func (a *attempt) returned(t *testing.T) *attempt {
	t.Helper()
	a.before(t)
	a.known.Migrated = must[activities.Migrated](t, a.migrator.Migrate, a.migrateInput())
	a.passed(a.known.Migrated.Now)
	a.enter(trial.After)
	a.passed(a.target.Ref.Now.Add(20 * time.Second))
	a.enter(trial.Collect)
	a.known.Looked = must[activities.Looked](t, a.collector.Look, activities.LookInput{Target: a.target, Quiet: 5 * time.Second})
	a.passed(a.known.Looked.Now)
	return a
}

// TestLook is what is found at the end of phase after, with a ledger and without.
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
