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

// cellCause is how many attempts of a cell were not valid for one cause.
type cellCause struct {
	Cell     string `json:"cell"`
	Cause    string `json:"cause"`
	Attempts int    `json:"attempts"`
	// Last is the last of them, and Reason that one's.
	Last   string `json:"last"`
	Reason string `json:"reason"`
}

// causesByCell says for each cell of a campaign's folder why attempts were not
// valid. Where the folder cannot be read, as from another machine, it says nothing.
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

// causesTable prints them for people.
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
