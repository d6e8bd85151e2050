package judge_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/analysis/judge"
	"heliotrope/internal/trial"
)

// TestOverwrittenLedger: it is reported what a ring that was too short has lost of the
// migration; what it has lost from before does not matter.
func TestOverwrittenLedger(t *testing.T) {
	for name, c := range map[string]struct {
		checked int64
		want    string
	}{
		"all are there":            {225, ""},
		"those of before are gone": {121, ""}, // 104 were acknowledged before 51 s
		"some are gone":            {100, "ledger: overwritten: 21 records of the migration and the minute after its stall, up to number 125,"},
		"all are gone":             {1, "ledger: overwritten: 120 records"},
	} {
		row, rows := attempt(trial.Teardown), migration()
		for i := range rows.heartbeats { // five a second, from 30 s on
			rows.heartbeats[i].Acked = (rows.heartbeats[i].TsNs - at(30_000)) / 200e6
		}
		rows.ledger = []dataset.Ledger{{Copy: "replica-a", Acked: 225, Checked: 225, Found: 225},
			{Copy: "replica-b", Acked: 225, Checked: c.checked, Found: c.checked}}
		judged := run(t, &row, rows, judge.DefaultLimits())
		require.Empty(t, judged.Reason, name)
		notes := strings.Join(judged.Notes, "\n")
		require.Equal(t, c.want != "", strings.Contains(notes, "overwritten"), "%s: %s", name, notes)
		require.Contains(t, notes, c.want, name)
	}
}
