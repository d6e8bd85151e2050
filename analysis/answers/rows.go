package answers

import (
	"fmt"

	"heliotrope/analysis/dataset"
)

// Rows are the tables that answers are made of, as package dataset reads them. All
// but the first may be empty: what they would tell is not known then.
type Rows struct {
	Trials  []dataset.Trial // table attempts
	Phases  []dataset.Phase
	Traffic []dataset.Traffic
}

// Of answers a campaign's questions from its rows. Trials of another kind of testbed
// are an error: they are never mixed.
func Of(campaign, testbedKind string, rows Rows) (Answers, error) {
	for i := range rows.Trials {
		if row := &rows.Trials[i]; row.TestbedKind != testbedKind {
			return Answers{}, fmt.Errorf("answer for campaign %s: trial %s ran on a testbed that is %s, the campaign's are %s",
				campaign, row.Key, row.TestbedKind, testbedKind)
		}
	}
	return Answers{Campaign: campaign, TestbedKind: testbedKind}, nil
}
