package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/internal/campaign"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/trial"
)

// leastBad is the smallest number of attempts in a row that lead to a quarantine.
const leastBad = 6

// badInARow is how many attempts in a row, of more than one trial, may end without a measurement before their
// testbed is put in quarantine. A trial has attempts of them (limits.attempts).
func badInARow(attempts int) int { return max(leastBad, 2*attempts) }

// lostInARow is how many attempts in a row may end without a verdict, as a terminated one
// does.
const lostInARow = 3

// count judges the testbed by how an attempt ended.
func (l *laneRun) count(ctx workflow.Context, planned campaign.Trial, result TrialResult, err error) {
	sequence := planned.Sequence
	switch {
	case temporal.IsWorkflowExecutionAlreadyStartedError(err):
		l.state.Left = TrialID(l.input.Campaign, sequence)
		return
	case err != nil && wire.Of(err) == fault.Cancelled, err == nil && result.Verdict == trial.Skipped:
		return // this says nothing about the testbed
	case err == nil && result.Verdict != trial.Invalid:
		l.state.Bad, l.state.Lost, l.state.Quarantines = nil, 0, 0
		return
	case err != nil:
		l.state.Lost++
		result = TrialResult{Verdict: trial.Invalid, Cause: wire.CauseOf(err), Reason: wire.Reason(err)}
	default:
		l.state.Lost = 0
	}
	l.state.Bad, l.state.BadTrial, l.state.Before = append(l.state.Bad, sequence), planned, result
	bad := len(l.state.Bad)
	// A single trial that cannot be measured is no reason for a quarantine.
	if several := l.state.Bad[0] != sequence; bad >= l.input.QuarantineAfter && several || l.state.Lost >= lostInARow {
		l.quarantine(ctx, Quarantine{Cause: result.Cause,
			Reason: fmt.Sprintf("%d attempts in a row were not measured, the last: %s", bad, result.Reason)})
		l.state.Quarantines++
		l.state.Report.Quarantine.Next = workflow.Now(ctx).Add(l.patience(l.state.Report.Quarantine))
	}
}

// leastPatience is the time from the beginning of a quarantine to the first look at the
// testbed, and mostPatience the longest time between two looks: each wait is twice as long
// as the one before.
const (
	leastPatience = time.Minute
	mostPatience  = 30 * time.Minute
)

// patience is the time to wait for the next look.
func (l *laneRun) patience(q *Quarantine) time.Duration {
	waits := max(0, l.state.Quarantines-1) + q.Checks
	return min(mostPatience, leastPatience<<min(waits, 10))
}

func (l *laneRun) quarantine(ctx workflow.Context, quarantine Quarantine) {
	quarantine.Since = workflow.Now(ctx)
	l.state.Report.Quarantine = &quarantine
	l.tellQuarantine(ctx, quarantine)
}

func (l *laneRun) release() {
	l.state.Report.Quarantine, l.state.Bad, l.state.Lost = nil, nil, 0
}

// sitOut is one round in quarantine: it waits, looks at the testbed, and releases the
// testbed when it is fit. A quarantine that a person ordered ends only by an order. An
// order may end the quarantine during any of this: then the round is over.
func (l *laneRun) sitOut(ctx workflow.Context) error {
	q := l.state.Report.Quarantine
	if !q.GaveBack {
		l.giveBack(ctx)
		q.GaveBack = true
	}
	if l.state.Report.Quarantine != q {
		return nil
	}
	why := q.Reason
	if q.Problem != "" {
		why += "; and now: " + q.Problem
	}
	l.tell(ctx, LaneQuarantined, why)
	if q.By != "" {
		l.awaitOrders(ctx, stillThere, "tell that it is still in quarantine")
		return nil
	}
	if left := q.Next.Sub(workflow.Now(ctx)); left > 0 {
		l.awaitOrders(ctx, left, "look at the testbed again at "+q.Next.UTC().Format(time.TimeOnly))
		return nil
	}
	err := l.look(ctx)
	switch {
	case l.state.Report.Quarantine != q, ctx.Err() != nil:
	case err != nil:
		q.Checks++
		q.Problem, q.Next = wire.Reason(err), workflow.Now(ctx).Add(l.patience(q))
	default:
		l.release()
	}
	return nil
}

// look finds out whether the testbed is fit for the last trial that could not be measured.
func (l *laneRun) look(ctx workflow.Context) error {
	bed := l.input.Lane
	if other, has := bed.For(l.state.BadTrial.Cell.Hypervisor); has {
		bed = other
	}
	input := activities.ReadyInput{DiskMiB: l.input.Disk.SizeMiB, Target: activities.Target{Lane: bed, DataDir: l.input.DataDir, Dataset: l.input.Dataset,
		Ref: trial.Ref{Campaign: l.input.Campaign, Trial: l.state.BadTrial}}}
	ctx = workflow.WithActivityOptions(ctx, looking("see whether "+bed.Name+" is fit again"))
	return workflow.ExecuteActivity(ctx, testbedActivities.Ready, input).Get(ctx, nil)
}
