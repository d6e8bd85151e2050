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

// Activities are called through methods of these pointers, so that the compiler checks
// names and types. The pointers stay nil.
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
	// known is what is known of the attempt so far: its row is made from it.
	known activities.Known
	// followed are activities that go on until they are cancelled. One that ends earlier
	// has failed, and the attempt fails with it.
	followed []followed
	cleanup  cleanup
	swept    bool // from now on there may be something on the hosts
	// cold is the number of cleanup steps there were before the warm-up.
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

// job is the attempt's work, from which time limits are computed.
func (a *attempt) job() limits.Job { return campaign.JobOf(a.input.Trial.Cell, a.input.Disk, 0) }

// target is what steps are told about the attempt. It leaves out what the machines can do:
// steps ask the testbed for that, because it would make each trial's history longer by a
// sixth.
func (a *attempt) target() activities.Target {
	lane := a.input.Lane
	lane.Machines, lane.Others = nil, nil
	ref := a.ref
	ref.Timeline = slices.Clone(ref.Timeline) // a local activity gets its input itself, not a copy
	return activities.Target{Lane: lane, Ref: ref, DataDir: a.input.DataDir, Dataset: a.input.Dataset}
}

// brief is target for steps that need neither the load nor the times at which phases began:
// with those in every step, a trial's history was longer by a third. A model needs all of
// it to compute everything again.
func (a *attempt) brief() activities.Target {
	target := a.target()
	if a.clock == nil {
		target.Ref.Timeline, target.Ref.Trial.Cell.Access = nil, campaign.AccessSpec{}
	}
	return target
}

// toWorker is target for steps in a machine's own worker, which has no inventory and finds
// its instructions in the step's own input. When the step runs over SSH (queue is ""), the
// controller needs the whole target to find the machine and its recording.
func (a *attempt) toWorker(queue string) activities.Target {
	if queue == "" {
		return a.target()
	}
	return activities.Target{Lane: trial.Lane{Name: a.input.Lane.Name, Kind: a.input.Lane.Kind}, Ref: a.name()}
}

// name is the part of the attempt's reference that identifies the attempt, and its WAN.
func (a *attempt) name() trial.Ref {
	of := a.ref.Trial
	return trial.Ref{Campaign: a.ref.Campaign, Attempt: a.ref.Attempt,
		Trial: campaign.Trial{Sequence: of.Sequence, Cell: campaign.Cell{WAN: of.Cell.WAN}}}
}

// execute runs the attempt, writes its row whatever happened, and leaves the testbed as it
// was. It returns an error only when the row or the testbed could not be dealt with.
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
	// What was measured is stored before anything else: the hosts may be away for days.
	concluded, failed = a.conclude(detached, concluded)
	if a.swept {
		a.retain(ctx, concluded)
		failed = errors.Join(failed, a.teardown(detached))
	}
	return concluded, failed
}

// conclude ends the followed activities, and has the attempt's row written.
func (a *attempt) conclude(ctx workflow.Context, concluded activities.Concluded) (activities.Concluded, error) {
	a.cleanup.run(ctx)
	a.known.Verdict, a.known.Cause, a.known.Reason = concluded.Verdict, concluded.Cause, concluded.Reason
	a.known.SpecSHA256 = a.input.SpecSHA256
	a.known.Provisioned.Witnesses = nil // what they saw has been collected
	options := onDataset("write the trial's row: " + string(a.known.Verdict))
	input := activities.ConcludeInput{Target: a.target(), Known: a.known, Ended: a.now(ctx)}
	if err := a.call(ctx, options, collector.Conclude, input).Get(ctx, &concluded); err != nil {
		return activities.Concluded{Verdict: trial.Invalid, Cause: wire.CauseOf(err), Reason: wire.Reason(err)}, err
	}
	return concluded, nil
}

// judge is the verdict on an attempt according to its steps.
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

// inTime runs do until it ends or until the attempt's time is over.
func (a *attempt) inTime(ctx workflow.Context, do func(workflow.Context) error) error {
	late, err := a.limited(ctx, a.input.Limits.Trial, do)
	if late && wire.Of(err) != fault.TargetFailed { // a result stands, even when something was still to be read
		return fault.Because(fault.Invalid, cause.TimeOut,
			fmt.Errorf("the attempt took longer than its limit of %s, in phase %s", a.input.Limits.Trial, a.status.Phase))
	}
	return err
}

// measure does the attempt's steps, from a testbed that is ready to the point before the
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

// wait lets a measuring phase pass. It ends early when an activity that must go on has
// ended.
func (a *attempt) wait(ctx workflow.Context, length time.Duration) error {
	return a.await(ctx, nil, func(ctx workflow.Context) workflow.Future {
		return a.timer(ctx, length, fmt.Sprintf("%s, %s", a.status.Phase, length))
	})
}

// await starts do and waits for it; the result goes to value. When a followed activity ends
// first, await cancels do, waits until it has ended, and returns the followed activity's
// failure.
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
