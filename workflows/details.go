package workflows

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"go.temporal.io/sdk/workflow"

	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// table is rows of tab-separated cells as the Temporal UI shows them well: its
// own tables have no space between the columns.
func table(rows []string) string {
	var text strings.Builder
	columns := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		_, _ = columns.Write([]byte(row + "\n")) // a strings.Builder takes everything
	}
	_ = columns.Flush()
	return "\n```\n" + text.String() + "```\n"
}

// show tells the Temporal UI what is happening (Markdown).
func (r *runner) show(ctx workflow.Context, state string) {
	r.status.State = state
	p := r.status.Progress
	text := fmt.Sprintf("Campaign **%s** on a testbed of kind **%s**: %s, %d of %d trials\n", r.input.Name, r.status.Kind, state, p.Done(), p.Total)
	text += table([]string{"valid\ttarget-failed\tinvalid\tskipped\ttried again",
		fmt.Sprintf("%d\t%d\t%d\t%d\t%d", p.Verdicts[trial.Valid], p.Verdicts[trial.TargetFailed],
			p.Verdicts[trial.Invalid], p.Verdicts[trial.Skipped], p.Retried)})
	text += p.causesTable()
	if p.Precise != nil {
		text += "\n" + p.Precise.String() + "\n"
	}
	for _, control := range r.status.Controls {
		text += "\nA control **failed**: " + control + "\n"
	}
	if len(r.status.Running) > 0 {
		rows := []string{"lane\ttrial\tcell\tsince (UTC)"}
		for _, running := range r.status.Running {
			rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s", running.Lane, sequenceText(running.Sequence), running.CellID,
				running.Started.UTC().Format(time.TimeOnly)))
		}
		text += table(rows)
	}
	workflow.SetCurrentDetails(ctx, text+"\nData: `"+r.input.DataDir+"`\n")
}

// verdictText is how a trial ended, with the code that it is counted by.
func verdictText(result TrialResult) string {
	return "\nVerdict: **" + string(result.Verdict) + "**" + causeText(result.Cause) + " " + result.Reason + "\n"
}

func causeText(code cause.Code) string {
	if code == "" {
		return ""
	}
	return " (`" + string(code) + "`)"
}

// causesTable is why trials were not valid; "" when all were.
func (p Progress) causesTable() string {
	if len(p.Causes) == 0 {
		return ""
	}
	rows := []string{"cause\ttrials"}
	for _, code := range workflow.DeterministicKeys(p.Causes) {
		rows = append(rows, fmt.Sprintf("%s\t%d", code, p.Causes[code]))
	}
	return table(rows)
}

// details is the trial's account in the Temporal UI (Markdown).
func (a *attempt) details() string {
	cell := a.input.Trial.Cell
	text := fmt.Sprintf("Trial **%s**, attempt %d of %d, on lane **%s**: %s over %s, %s\n",
		sequenceText(a.input.Trial.Sequence), a.ref.Attempt, max(1, a.input.Limits.Attempts), a.input.Lane.Name, cell.Storage, cell.WAN, cell.Access.Name)
	rows := []string{"phase\tsince the start"}
	for _, mark := range a.ref.Timeline {
		rows = append(rows, fmt.Sprintf("%s\t%s", mark.Phase, mark.At.Sub(a.ref.Timeline[0].At).Round(100*time.Millisecond)))
	}
	text += table(rows)
	if a.status.Problem != "" {
		text += "\nThe attempt before ended with" + causeText(a.status.Cause) + ": " + a.status.Problem + "\n"
	}
	return text
}
