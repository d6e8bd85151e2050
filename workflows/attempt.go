package workflows

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/activities/machine"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/limits"
	"heliotrope/internal/trial"
)

// Activities are called by their methods, so that the compiler checks names
// and types. The pointers stay nil.
var (
	testbedActivities *activities.Testbed
	migrator          *activities.Migrator
	certifier         *activities.Certifier
	recordings        *machine.Recordings
	shaping           *machine.Shaping
	links             *activities.Links
	collector         *activities.Collector
	planner           *activities.Planner
)

// attempt is one attempt of a trial.
type attempt struct {
	conductor
	input  TrialInput
	ref    trial.Ref
	status *TrialStatus
	// known is what is known of the attempt so far: it becomes its row.
	known activities.Known
	// followed are activities that go on until they are cancelled. One that
	// ends before has failed, and the attempt with it.
	followed []followed
	cleanup  cleanup
	swept    bool // something may be on the hosts from now on
	// cold is how many steps of the cleanup there were before the warm-up.
	cold int
}

type followed struct {
	what   string
	future workflow.Future
}

func newAttempt(input TrialInput, n int, status *TrialStatus) *attempt {
	ref := trial.Ref{Campaign: input.Campaign, Trial: input.Trial, Attempt: n, Now: input.Began,
		DiskBytes: int64(input.Disk.SizeMiB) << 20, LedgerBytes: int64(input.Disk.LedgerMiB) << 20}
	status.Attempt, status.Key = n, ref.Key()
	a := &attempt{input: input, ref: ref, status: status}
	a.conductor = newConductor(input, &a.ref.Now)
	return a
}

// job is what there is to do in the attempt: limits follow from it.
func (a *attempt) job() limits.Job { return campaign.JobOf(a.input.Trial.Cell, a.input.Disk, 0) }

// target is all that a step is told of the attempt. What its machines can do the steps
// ask the testbed: with them each trial's history would be a sixth longer.
func (a *attempt) target() activities.Target {
	lane := a.input.Lane
	lane.Machines, lane.Others = nil, nil
	ref := a.ref
	ref.Timeline = slices.Clone(ref.Timeline) // a local activity has what it is given, no copy of it
	return activities.Target{Lane: lane, Ref: ref, DataDir: a.input.DataDir, Dataset: a.input.Dataset}
}

// brief is target for steps that want neither the load nor when the phases began: with
// all of it in every step a trial's history was a third longer. A model makes everything
// up anew from all of it.
func (a *attempt) brief() activities.Target {
	target := a.target()
	if a.clock == nil {
		target.Ref.Timeline, target.Ref.Trial.Cell.Access = nil, campaign.AccessSpec{}
	}
	return target
}

// toWorker is target for what a machine's own worker does: it has no inventory, and is told
// in the step's own input what to do. Over SSH, with no queue, the controller finds the
// machine and what records there by the whole of it.
func (a *attempt) toWorker(queue string) activities.Target {
	if queue == "" {
		return a.target()
	}
	return activities.Target{Lane: trial.Lane{Name: a.input.Lane.Name, Kind: a.input.Lane.Kind}, Ref: a.name()}
}

// name is as much of the attempt's reference as says which one it is, and over which WAN.
func (a *attempt) name() trial.Ref {
	of := a.ref.Trial
	return trial.Ref{Campaign: a.ref.Campaign, Attempt: a.ref.Attempt,
		Trial: campaign.Trial{Sequence: of.Sequence, Cell: campaign.Cell{WAN: of.Cell.WAN}}}
}

// execute runs the attempt, writes its row whatever happened, and leaves the testbed as
// it was. It returns an error only when one of these could not be done.
func (a *attempt) execute(ctx workflow.Context) (activities.Concluded, error) {
	failed := a.prepare(ctx)
	if failed == nil {
		failed = a.inTime(ctx, a.measure)
	}
	detached, _ := workflow.NewDisconnectedContext(ctx)
	concluded := a.judge(failed)
	if concluded.Verdict == trial.TargetFailed || concluded.Verdict == trial.Invalid {
		concluded = a.evidence(detached, concluded)
	}
	// What was measured is kept before anything else: the hosts may be away for days.
	concluded, failed = a.conclude(detached, concluded)
	if a.swept {
		a.retain(ctx, concluded)
		failed = errors.Join(failed, a.teardown(detached))
	}
	return concluded, failed
}

// conclude ends what is followed, and has the attempt's row written.
func (a *attempt) conclude(ctx workflow.Context, concluded activities.Concluded) (activities.Concluded, error) {
	a.cleanup.run(ctx)
	a.known.Verdict, a.known.Cause, a.known.Reason = concluded.Verdict, concluded.Cause, concluded.Reason
	a.known.SpecSHA256 = a.input.SpecSHA256
	a.known.Provisioned.Witnesses = nil // what they have seen is collected
	options := onDataset("write the trial's row: " + string(a.known.Verdict))
	input := activities.ConcludeInput{Target: a.target(), Known: a.known, Ended: a.now(ctx)}
	if err := a.call(ctx, options, collector.Conclude, input).Get(ctx, &concluded); err != nil {
		return activities.Concluded{Verdict: trial.Invalid, Cause: wire.CauseOf(err), Reason: wire.Reason(err)}, err
	}
	return concluded, nil
}

// judge is the verdict on an attempt by what its steps said.
func (a *attempt) judge(failed error) activities.Concluded {
	if failed != nil {
		return verdictOf(failed)
	}
	if differ := a.known.Verified.OutOfSyncBytes; differ != nil && *differ > 0 {
		return activities.Concluded{Verdict: trial.TargetFailed, Cause: cause.ReplicasDiffer,
			Reason: fmt.Sprintf("the replicas differ in %d bytes", *differ)}
	}
	for _, report := range a.known.Verified.Ledger {
		if report.LostCount > 0 {
			return activities.Concluded{Verdict: trial.TargetFailed, Cause: cause.LostWrite,
				Reason: fmt.Sprintf("%d of %d acknowledged writes are not on %s of %s", report.LostCount, report.Checked, report.Copy, report.Host)}
		}
	}
	return activities.Concluded{Verdict: trial.Valid}
}

// inTime runs do until it ends or the attempt's time is over.
func (a *attempt) inTime(ctx workflow.Context, do func(workflow.Context) error) error {
	late, err := a.limited(ctx, a.input.Limits.Trial, do)
	if late && wire.Of(err) != fault.TargetFailed { // a result stands, whatever was still to be read
		return fault.Because(fault.Invalid, cause.TimeOut,
			fmt.Errorf("the attempt took longer than its limit of %s, in phase %s", a.input.Limits.Trial, a.status.Phase))
	}
	return err
}

// measure is the attempt's steps, from a testbed that is ready up to the
// teardown.
func (a *attempt) measure(ctx workflow.Context) error {
	if err := a.provision(ctx); err != nil {
		return err
	}
	steps := []struct {
		phase trial.Phase
		do    func(workflow.Context) error
	}{
		{trial.Shape, a.shape},
		{trial.Attest, func(ctx workflow.Context) error { return a.certify(ctx, activities.BeforeTrial) }},
		{trial.WarmUp, a.warmUp},
		{trial.Before, func(ctx workflow.Context) error { return a.wait(ctx, a.input.Phases.Before) }},
	}
	for _, step := range steps {
		a.enter(ctx, step.phase)
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	a.enter(ctx, trial.Migrate)
	failed := a.disturb(ctx)
	if failed == nil {
		a.enter(ctx, trial.After)
		failed = a.wait(ctx, a.input.Phases.After)
	}
	failed = a.blameWAN(ctx, failed)
	if class := wire.Of(failed); failed != nil && class != fault.TargetFailed && class != fault.Invalid {
		return failed
	}
	// What was measured up to a failure is kept, and looked at: a load that has
	// ended may have met an I/O error, which is the target's failure.
	a.enter(ctx, trial.Collect)
	failed = a.look(ctx, failed)
	if err := a.collect(ctx, failed != nil); err != nil {
		return errors.Join(failed, err)
	}
	a.coolDown(ctx)
	a.enter(ctx, trial.Verify)
	if failed != nil {
		if wire.Of(failed) == fault.TargetFailed {
			if err := a.verify(ctx, true); err != nil {
				workflow.GetLogger(ctx).Warn("the ledger could not be read after the failure", "error", err.Error())
			}
		}
		return failed
	}
	if err := a.certify(ctx, activities.AfterTrial); err != nil {
		return err
	}
	return a.verify(ctx, false)
}

// enter begins a phase.
func (a *attempt) enter(ctx workflow.Context, phase trial.Phase) {
	a.ref.Timeline = append(a.ref.Timeline, trial.Mark{Phase: phase, At: a.now(ctx)})
	a.status.Phase, a.status.Since = phase, workflow.Now(ctx)
	workflow.SetCurrentDetails(ctx, a.details())
	a.mark(ctx, attrPhase.ValueSet(string(phase)))
}

// wait lets a measuring phase pass. It ends early when something that must go
// on has ended.
func (a *attempt) wait(ctx workflow.Context, length time.Duration) error {
	return a.await(ctx, nil, func(ctx workflow.Context) workflow.Future {
		return a.timer(ctx, length, fmt.Sprintf("%s, %s", a.status.Phase, length))
	})
}

// await waits for what do starts, but not longer than everything followed goes
// on: then it cancels that, and waits until it has ended. What it tells goes to
// value.
func (a *attempt) await(ctx workflow.Context, value any, do func(workflow.Context) workflow.Future) error {
	working, cancel := workflow.WithCancel(ctx)
	defer cancel()
	future := do(working)
	selector := workflow.NewSelector(ctx)
	var failed error
	selector.AddFuture(future, func(f workflow.Future) { failed = f.Get(ctx, value) })
	for _, f := range a.followed {
		selector.AddFuture(f.future, func(done workflow.Future) {
			if failed = done.Get(ctx, nil); failed == nil {
				failed = fault.New(fault.Invalid, "%s ended by itself", f.what)
			}
		})
	}
	selector.Select(ctx)
	if !future.IsReady() {
		cancel()
		_ = future.Get(ctx, value) // why the attempt ends is known already
	}
	return failed
}
