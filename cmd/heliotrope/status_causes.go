package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"heliotrope/analysis/dataset"
	"heliotrope/internal/trial"
)

// cellCause counts the attempts of a cell that were not valid for the same reason.
type cellCause struct {
	Cell     string `json:"cell"`
	Cause    string `json:"cause"`
	Attempts int    `json:"attempts"`
	// Last is the last of these attempts, and Reason is its reason.
	Last   string `json:"last"`
	Reason string `json:"reason"`
}

// causesByCell says for each cell in a campaign's folder why attempts were not valid. When
// the folder cannot be read, for instance because it is on another machine, it returns
// nothing.
func causesByCell(ctx context.Context, folder string) []cellCause {
	record, err := dataset.Open(ctx, folder, "")
	if err != nil {
		return nil
	}
	return countCauses(record.Rows(0))
}

func countCauses(rows []dataset.Trial) []cellCause {
	byCell := map[[2]string]cellCause{}
	for _, row := range rows {
		if row.Verdict == string(trial.Valid) {
			continue
		}
		key := [2]string{row.CellID, row.Cause}
		byCell[key] = cellCause{Cell: row.CellID, Cause: row.Cause, Attempts: byCell[key].Attempts + 1, Last: row.Key, Reason: row.Reason}
	}
	var causes []cellCause
	for _, one := range byCell {
		causes = append(causes, one)
	}
	slices.SortFunc(causes, func(a, b cellCause) int {
		return cmp.Or(cmp.Compare(a.Cell, b.Cell), cmp.Compare(b.Attempts, a.Attempts), cmp.Compare(a.Cause, b.Cause))
	})
	return causes
}

// causesTable shows the causes to people.
func causesTable(out io.Writer, causes []cellCause) error {
	if len(causes) == 0 {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nCELL\tNOT VALID FOR\tATTEMPTS\tTHE LAST")
	for _, c := range causes {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s: %s\n", c.Cell, c.Cause, c.Attempts, c.Last, printable(c.Reason))
	}
	return w.Flush()
}
