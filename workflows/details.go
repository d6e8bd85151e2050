package workflows

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/cause"
	"heliotrope/internal/trial"
)

// table formats rows of tab-separated cells for the Temporal UI as preformatted text: the
// UI's own tables have no space between the columns.
func table(rows []string) string {
	var text strings.Builder
	columns := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		_, _ = columns.Write([]byte(row + "\n")) // a strings.Builder never fails
	}
	_ = columns.Flush()
	return "\n```\n" + text.String() + "```\n"
}

// answer is the campaign's status.
func (c *campaignRun) answer() CampaignStatus {
	status := CampaignStatus{Name: c.input.Name, SpecSHA256: c.input.SpecSHA256, DataDir: c.input.DataDir, State: c.status,
		Progress: c.state.Progress, Running: []RunningTrial{}, Controls: c.controls}
	for _, lane := range c.input.Lanes {
		status.Kind = lane.Kind
		report, known := c.state.Lanes[lane.Name]
		if !known {
			continue
		}
		status.Lanes = append(status.Lanes, report)
		if report.Trial != nil && !report.Over() {
			status.Running = append(status.Running, *report.Trial)
		}
	}
	return status
}

// show shows in the Temporal UI what the campaign is doing (Markdown).
func (c *campaignRun) show(ctx workflow.Context, state string) {
	c.status = state
	status := c.answer()
	p := status.Progress
	text := fmt.Sprintf("Campaign **%s** on a testbed of kind **%s**: %s, %d of %d trials\n", status.Name, status.Kind, state, p.Done(), p.Total)
	text += table([]string{"valid\ttarget-failed\tinvalid\tskipped\ttried again",
		fmt.Sprintf("%d\t%d\t%d\t%d\t%d", p.Verdicts[trial.Valid], p.Verdicts[trial.TargetFailed],
			p.Verdicts[trial.Invalid], p.Verdicts[trial.Skipped], p.Retried)})
	text += p.causesTable()
	if p.Precise != nil {
		text += "\n" + p.Precise.String() + "\n"
	}
	for _, control := range status.Controls {
		text += "\nA control **failed**: " + control + "\n"
	}
	rows := []string{"lane\tstate\tsince (UTC)\ttrial\tcell"}
	for _, lane := range status.Lanes {
		row := fmt.Sprintf("%s\t%s\t%s", lane.Lane, lane.State, lane.Since.UTC().Format(time.DateTime))
		if running := lane.Trial; running != nil && !lane.Over() {
			row += "\t" + sequenceText(running.Sequence) + "\t" + running.CellID
		}
		rows = append(rows, row)
		if lane.Why != "" {
			text += "\nLane **" + lane.Lane + "** is " + lane.State + ": " + lane.Why + "\n"
		}
	}
	workflow.SetCurrentDetails(ctx, text+table(rows)+mediansTable(c.medians)+"\nData: `"+c.input.DataDir+"`\n")
}

// show shows in the Temporal UI what the lane is doing (Markdown).
func (l *laneRun) show(ctx workflow.Context) {
	report := l.state.Report
	text := fmt.Sprintf("Lane **%s** of campaign **%s** is %s since %s (UTC)\n", report.Lane, l.input.Campaign, report.State, report.Since.UTC().Format(time.DateTime))
	if report.Why != "" {
		text += "\n" + report.Why + "\n"
	}
	if running := report.Trial; running != nil {
		text += fmt.Sprintf("\nTrial %s, `%s`: %s\n", sequenceText(running.Sequence), running.WorkflowID, running.CellID)
	}
	if q := report.Quarantine; q != nil && !q.Next.IsZero() {
		text += fmt.Sprintf("\nThe testbed was looked at %d times, and is again at %s (UTC).\n", q.Checks, q.Next.UTC().Format(time.DateTime))
	}
	workflow.SetCurrentDetails(ctx, text)
}

// verdictText says how a trial ended, with the code under which it is counted.
func verdictText(result TrialResult) string {
	return "\nVerdict: **" + string(result.Verdict) + "**" + causeText(result.Cause) + " " + result.Reason + "\n"
}

func causeText(code cause.Code) string {
	if code == "" {
		return ""
	}
	return " (`" + string(code) + "`)"
}

// causesTable says why trials were not valid; "" when all were valid.
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

// mediansTable has the measured medians by cell; "" before there is a summary.
func mediansTable(medians []activities.Median) string {
	if len(medians) == 0 {
		return ""
	}
	rows := []string{"cell\tresults\tblackout (ms)\tlongest response (ms)\trecovery (ms)"}
	for _, m := range medians {
		rows = append(rows, fmt.Sprintf("%s\t%d\t%s\t%s\t%s", m.Cell, m.Results, m.Blackout, m.MaxResponse, m.Recovery))
	}
	return "\nMedians, when the last summary was written:\n" + table(rows)
}

// details describes the trial in the Temporal UI (Markdown).
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
