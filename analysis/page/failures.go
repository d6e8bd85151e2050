package page

import (
	"fmt"
	"path"
	"strings"

	"heliotrope/analysis/group"
	"heliotrope/analysis/summary"
	"heliotrope/internal/trial"
)

// failure is an attempt that is not valid.
type failure struct {
	Attempt, Cell, Verdict, Cause, Reason string
	Counted                               bool
	Folder                                string   // of the evidence, relative to the campaign's folder
	Evidence                              []string // its files with their sizes
}

// addFailures lists every attempt that ran and is not valid. Attempts that contradict
// themselves are among the problems of the summary instead.
func (v *view) addFailures(c Campaign, names []string) {
	named := map[group.Key]string{}
	for i, cell := range c.Summary.Cells {
		named[group.Key{CellID: cell.ID, Direction: cell.Direction}] = names[i]
	}
	evidence := map[string][]string{}
	for _, file := range c.Manifest.Evidence {
		for folder := path.Dir(file.Path); folder != "."; folder = path.Dir(folder) {
			evidence[folder] = append(evidence[folder], fmt.Sprintf("%s (%d bytes)", strings.TrimPrefix(file.Path, folder+"/"), file.Bytes))
		}
	}
	counted, skipped := 0, 0
	for i := range c.Tables.Trials {
		row := &c.Tables.Trials[i]
		switch trial.Verdict(row.Verdict) {
		case trial.Valid:
			continue
		case trial.Skipped:
			skipped++
			continue
		}
		f := failure{Attempt: row.Key, Verdict: row.Verdict, Cause: row.Cause, Reason: strings.Join(strings.Fields(row.Reason), " "), Counted: row.Counted, Cell: row.CellID}
		if name := named[group.Any(row)]; name != "" {
			f.Cell = name
		}
		if row.Sentinel {
			f.Cell = "sentinel, " + f.Cell
		}
		if f.Cause == "" {
			f.Cause = "–"
		}
		if row.Evidence != "" {
			f.Folder, f.Evidence = row.Evidence, evidence[path.Clean(row.Evidence)]
		}
		if row.Counted {
			counted++
		}
		v.Failures = append(v.Failures, f)
	}
	v.FailuresSay = fmt.Sprintf("%d of %d attempts are not valid; %d of them are the attempt of their trial that counts, the others were tried again. "+
		"Causes are codes to count by; reasons are what was seen. Evidence is in the campaign's folder.", len(v.Failures), len(c.Tables.Trials), counted)
	if skipped > 0 {
		v.FailuresSay += fmt.Sprintf(" %d more were skipped: they are not listed.", skipped)
	}
}

// failureTable has the failures for report.md.
func (v *view) failureTable() summary.Table {
	t := summary.Table{Title: "Every attempt that is not valid", Header: []string{"attempt", "cell", "verdict", "cause", "reason", "evidence"}, Texts: 4}
	for _, f := range v.Failures {
		verdict := f.Verdict
		if !f.Counted {
			verdict += " (tried again)"
		}
		evidence := "–"
		if f.Folder != "" {
			evidence = f.Folder
		}
		t.Rows = append(t.Rows, []string{f.Attempt, f.Cell, verdict, f.Cause, f.Reason, evidence})
	}
	return t
}
