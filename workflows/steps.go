package workflows

import (
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"heliotrope/activities"
	"heliotrope/activities/machine"
	"heliotrope/internal/campaign"
	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
	"heliotrope/internal/trial"
)

// queueOf is the queue on which a machine's own activities run: that of its worker, or ""
// when they run on the controller, over SSH.
func (a *attempt) queueOf(ctx workflow.Context, name string) string {
	controller := workflow.GetInfo(ctx).TaskQueueName
	machine, _ := a.input.Lane.Machine(name)
	switch {
	case !machine.Worker:
		return ""
	case name == trial.Guest:
		return GuestQueue(controller, a.input.Lane.Name, a.ref)
	}
	return HostQueue(controller, a.input.Lane.Name, name)
}

// step is a step as a function for await.
func (a *attempt) step(options workflow.ActivityOptions, activity, input any) func(workflow.Context) workflow.Future {
	return func(ctx workflow.Context) workflow.Future { return a.call(ctx, options, activity, input) }
}

// follow starts an activity that goes on until the attempt is cleaned up, or, for those
// that the warm-up begins, until coolDown. When it ends early, the attempt ends. Nothing
// else cancels it, neither the end of the attempt's time nor the trial's cancellation: if a
// host's worker were stopped first, it could not report that what it runs has ended.
func (a *attempt) follow(ctx workflow.Context, kind, what, queue string, activity, input any) {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	working, cancel := workflow.WithCancel(detached)
	var future workflow.Future
	a.cleanup.add(ending{kind: kind, stop: cancel, wait: func(ctx workflow.Context) {
		if future != nil {
			_ = future.Get(ctx, nil) // it was cancelled, or its failure has ended the attempt
		}
	}})
	future = a.call(working, following(queue, what, a.input.Limits.Trial*2), activity, input)
	a.followed = append(a.followed, followed{what: what, future: future})
}

// prepare waits for the testbed, and sweeps it. It may take any time: the attempt's own
// time begins afterwards.
func (a *attempt) prepare(ctx workflow.Context) error {
	a.enter(ctx, trial.Provision)
	if a.input.Lane.Kind.IsLab() {
		if err := a.call(ctx, awaitTestbed("have the emulated testbed up"), testbedActivities.Raise, a.brief()).Get(ctx, nil); err != nil {
			return err
		}
	}
	if a.input.Lane.Programs() {
		if err := a.call(ctx, awaitTestbed("install our programs on the hosts"), links.Install, a.brief()).Get(ctx, nil); err != nil {
			return err
		}
	}
	input := activities.SweepInput{Target: a.brief(), MinFreeMiB: a.input.Limits.MinFreeMiB}
	if err := a.call(ctx, awaitTestbed("sweep the testbed"), testbedActivities.Sweep, input).Get(ctx, &a.known.Swept); err != nil {
		return err
	}
	a.swept = true
	a.passed(a.known.Swept.Now)
	return nil
}

// provision makes the disk and the guest, and meanwhile starts the hosts' workers. The
// guest's worker comes later: nothing else may use the path while it is measured.
func (a *attempt) provision(ctx workflow.Context) error {
	for _, machine := range a.input.Lane.Machines {
		if machine.Worker && machine.Name != trial.Guest {
			a.link(ctx, machine.Name)
		}
	}
	options := lasting(onTestbed("provision "+a.input.Trial.Cell.Storage+" and start the guest"), a.job().Fill())
	input := activities.ProvisionInput{Target: a.target(), DiskMiB: a.input.Disk.SizeMiB, Precondition: a.input.Disk.Precondition}
	if err := a.call(ctx, options, testbedActivities.Provision, input).Get(ctx, &a.known.Provisioned); err != nil {
		return err
	}
	a.passed(a.known.Provisioned.Now)
	return nil
}

// link keeps a worker running on a machine.
func (a *attempt) link(ctx workflow.Context, name string) {
	target := activities.Target{Lane: a.target().Lane, Ref: a.name()}
	input := activities.LinkInput{Target: target, Machine: name, Queue: a.queueOf(ctx, name)}
	a.follow(ctx, "worker", "worker on "+name, "", links.Link, input)
}

func (a *attempt) shaping(queue string) machine.ShapingInput {
	return machine.ShapingInput{Target: a.toWorker(queue), Device: a.known.Swept.WANDevice}
}

func (a *attempt) shape(ctx workflow.Context) error {
	queue := a.queueOf(ctx, a.known.Swept.WANHost)
	input := a.shaping(queue)
	options := onMachine(queue, "shape the WAN: "+a.input.Trial.Cell.WAN)
	if err := a.await(ctx, nil, a.step(options, shaping.Shape, input)); err != nil {
		return err
	}
	a.follow(ctx, "shaping", "hold the WAN's shaping", queue, shaping.HoldWAN, input)
	return nil
}

// blameWAN checks, when the target has failed, whether the path still is what was shaped.
// If it is not, the failure is no result. When nobody can tell, it stays a result: the path
// may be away for reasons of the target itself.
func (a *attempt) blameWAN(ctx workflow.Context, failed error) error {
	if failed == nil || wire.Of(failed) != fault.TargetFailed {
		return failed
	}
	queue := a.queueOf(ctx, a.known.Swept.WANHost)
	options := onMachine(queue, "see whether the WAN is what was shaped")
	if err := a.call(ctx, options, shaping.CheckWAN, a.shaping(queue)).Get(ctx, nil); err != nil && wire.Of(err) == fault.Invalid {
		return err
	}
	return failed
}

// certify measures the path and the clocks.
func (a *attempt) certify(ctx workflow.Context, moment string) error {
	input := activities.CertifyInput{Target: a.brief(), Moment: moment, Tolerance: a.input.Tolerance()}
	options := lasting(onTestbed("measure the path and the clocks "+moment+" the trial"), a.job().Certificate)
	var certified activities.Certified
	if err := a.await(ctx, &certified, a.step(options, certifier.Certify, input)); err != nil {
		return err
	}
	a.passed(certified.Now)
	return nil
}

// warmUp starts the witnesses and the load, and waits until the load is steady.
func (a *attempt) warmUp(ctx workflow.Context) error {
	a.cold = len(a.cleanup.steps)
	if guest, _ := a.input.Lane.Machine(trial.Guest); guest.Worker {
		a.link(ctx, trial.Guest)
	}
	a.follow(ctx, "clocks", "clocks", "", certifier.FollowClocks, a.brief())
	if err := a.watch(ctx); err != nil {
		return err
	}
	queue := a.queueOf(ctx, trial.Guest)
	load := a.recording(queue, trial.Guest, a.known.Provisioned.Load)
	if err := a.await(ctx, nil, a.step(onMachine(queue, "start the load in the guest"), recordings.StartLoad, load)); err != nil {
		return err
	}
	load.Setup = load.Setup.Started()
	a.follow(ctx, "load", "load in the guest", queue, recordings.FollowLoad, load)
	// The warm-up begins with the load, not with the preparations for it.
	a.ref.Timeline[len(a.ref.Timeline)-1].At = a.now(ctx)
	input := machine.SteadyInput{RecordingInput: load, Rule: a.input.SteadyState,
		Least: a.input.Phases.WarmUp, Longest: a.input.Phases.WarmUpMax}
	options := onMachine(queue, fmt.Sprintf("wait until the load is steady, %s to %s", input.Least, input.Longest))
	options.StartToCloseTimeout += input.Longest
	if err := a.await(ctx, &a.known.WarmedUp, a.step(options, recordings.AwaitSteady, input)); err != nil {
		return err
	}
	a.passed(a.known.WarmedUp.Now)
	return nil
}

// watch starts the witnesses of all machines at once.
func (a *attempt) watch(ctx workflow.Context) error {
	working, cancel := workflow.WithCancel(ctx)
	defer cancel()
	var names []string
	for _, machine := range a.input.Lane.Machines {
		if machine.Witness {
			names = append(names, machine.Name)
		}
	}
	var started []workflow.Future
	for _, name := range names {
		queue := a.queueOf(ctx, name)
		input := a.recording(queue, name, a.known.Provisioned.Witnesses[name])
		started = append(started, a.call(working, onMachine(queue, "start the witness on "+name), recordings.StartWitness, input))
	}
	var failed error
	for i, name := range names {
		err := a.await(ctx, nil, func(workflow.Context) workflow.Future { return started[i] })
		if err != nil && failed == nil {
			failed = err
			cancel() // the others are waited for: nothing may run at the same time as the teardown
		}
		if failed == nil {
			queue := a.queueOf(ctx, name)
			a.follow(ctx, "witness", "witness on "+name, queue, recordings.FollowWitness, a.recording(queue, name, a.known.Provisioned.Witnesses[name].Started()))
		}
	}
	return failed
}

// recording identifies a recording on a machine. Over SSH, with no queue, the controller
// knows the recording's setup.
func (a *attempt) recording(queue, name string, setup machine.RecordingSetup) machine.RecordingInput {
	input := machine.RecordingInput{Target: a.toWorker(queue), Machine: name}
	if queue != "" {
		input.Setup = setup
	}
	return input
}

// disturb does what the trial is about: a migration, a pause, or nothing.
func (a *attempt) disturb(ctx workflow.Context) error {
	cell := a.input.Trial.Cell
	if cell.Control == campaign.ControlNone {
		return a.wait(ctx, cell.Hold)
	}
	var options workflow.ActivityOptions
	var activity, input any
	if cell.Control == campaign.ControlPause {
		options = migrating(fmt.Sprintf("pause the guest for %s", cell.Hold), cell.Hold)
		activity, input = migrator.Pause, activities.PauseInput{Target: a.target(), Domain: a.known.Provisioned.Domain, Hold: cell.Hold}
	} else {
		options = migrating("migrate, "+a.input.Trial.Direction, a.input.Limits.Migration+a.job().Settle())
		activity, input = migrator.Migrate, activities.MigrateInput{Target: a.target(), Disk: a.known.Provisioned.Disk,
			Domain: a.known.Provisioned.Domain, Limit: a.input.Limits.Migration}
	}
	err := a.await(ctx, &a.known.Migrated, a.step(options, activity, input))
	a.passed(a.known.Migrated.Now)
	return err
}

// leastQuiet is a few of the intervals, in seconds, at which heartbeats and progress are
// written.
const leastQuiet = 3 * time.Second

// look finds out whether the guest and its disk came back after the migration or pause
// before phase after. If they did not, that is a result, even when it ended the phase
// early.
func (a *attempt) look(ctx workflow.Context, failed error) error {
	_, after := a.ref.Timeline.Start(trial.After)
	if !after || a.input.Trial.Cell.Control == campaign.ControlNone || failed != nil && !mayHang(failed) {
		return failed
	}
	input := activities.LookInput{Target: a.target(), Ended: failed != nil,
		Quiet: max(a.input.Recovery.For, leastQuiet), Waits: pauseOf(a.input.Trial.Cell.Access)}
	if err := a.call(ctx, onTestbed("see whether the guest and its disk came back"), collector.Look, input).Get(ctx, &a.known.Looked); err != nil {
		if wire.Of(err) == fault.Cancelled {
			return err
		}
		workflow.GetLogger(ctx).Warn("whether the guest came back is not known", "error", err.Error())
		return failed
	}
	a.passed(a.known.Looked.Now)
	if found := a.known.Looked.Failure(); found != nil {
		return a.blameWAN(ctx, found)
	}
	return failed
}

// mayHang says whether the error that ended phase after may come from a guest that hangs.
func mayHang(failed error) bool {
	switch wire.CauseOf(failed) {
	case cause.LoadDied, cause.WitnessDied, cause.Infrastructure, cause.TimeOut:
		return wire.Of(failed) == fault.Invalid
	}
	return false
}

// pauseOf is the longest time for which a load leaves its disk idle of its own accord.
func pauseOf(access campaign.AccessSpec) time.Duration {
	longest := time.Duration(0)
	for _, line := range access.Lines {
		longest = max(longest, time.Duration(line.DelayMs)*time.Millisecond)
	}
	if access.RateIOPS > 0 {
		longest = max(longest, time.Duration(float64(time.Second)/access.RateIOPS))
	}
	return longest
}

// collect ends the recordings and brings their raw files to the dataset. failed says that
// the system under test has failed.
func (a *attempt) collect(ctx workflow.Context, failed bool) error {
	input := activities.CollectInput{Target: a.target(), Failed: failed, Hung: a.known.Looked.Cause == cause.GuestHung}
	a.followed = nil // the followed activities end now
	options := onTestbed("collect the samples")
	options.StartToCloseTimeout += a.input.Limits.Trial // the number of samples depends on the trial's length
	if err := a.call(ctx, options, collector.Collect, input).Get(ctx, &a.known.Collected); err != nil {
		return err
	}
	a.passed(a.known.Collected.Now)
	return nil
}

// coolDown ends what the warm-up began, including the guest's worker: the guest may be
// switched off so that its disk can be read, and an activity that follows it would wait in
// vain.
func (a *attempt) coolDown(ctx workflow.Context) {
	detached, _ := workflow.NewDisconnectedContext(ctx)
	a.cleanup.runTo(detached, a.cold)
}

// verify reads the ledger back. failed says that the system under test has failed: then the
// ledger matters most.
func (a *attempt) verify(ctx workflow.Context, failed bool) error {
	input := activities.VerifyInput{Target: a.brief(), Disk: a.known.Provisioned.Disk, Failed: failed}
	if err := a.call(ctx, lasting(onTestbed("verify the disk"), a.job().Verify()), testbedActivities.Verify, input).Get(ctx, &a.known.Verified); err != nil {
		return err
	}
	a.passed(a.known.Verified.Now)
	return nil
}

// evidence collects what may explain a failure, and uses what it shows: a guest that
// crashed is a result, whatever ended the attempt, unless the path was not what was shaped.
func (a *attempt) evidence(ctx workflow.Context, concluded activities.Concluded) activities.Concluded {
	options := onTestbed("collect evidence of " + string(concluded.Cause))
	if err := a.call(ctx, options, collector.Evidence, activities.EvidenceInput{Target: a.target(), Disk: a.known.Provisioned.Disk}).Get(ctx, &a.known.Found); err != nil {
		workflow.GetLogger(ctx).Warn("there is no evidence", "error", err.Error())
		return concluded
	}
	a.passed(a.known.Found.Now)
	// A verdict that was found to be a result stands, unless the evidence gives a more
	// specific cause.
	if found := a.known.Found; found.Cause != "" && !cause.OfPath(concluded.Cause) && (concluded.Verdict != trial.TargetFailed || isVague(concluded.Cause)) {
		concluded.Verdict, concluded.Cause = trial.TargetFailed, found.Cause
		concluded.Reason = found.Reason + " (" + concluded.Reason + ")"
	}
	return concluded
}

// isVague says whether a cause only says which part has failed.
func isVague(code cause.Code) bool {
	switch code {
	case cause.StorageFailed, cause.MigrationFailed, cause.TimeOut, cause.NoRecovery, cause.GuestHung:
		return true
	}
	return false
}

// teardown leaves the testbed as it was, and notes how. It keeps trying, because nothing
// may use the testbed before.
func (a *attempt) teardown(ctx workflow.Context) error {
	a.enter(ctx, trial.Teardown)
	input := activities.TornDownInput{Target: a.brief(), Began: a.now(ctx)}
	failed := a.call(ctx, tearingDown("tear everything down"), testbedActivities.Teardown, a.brief()).Get(ctx, &input.TornDown)
	a.passed(input.TornDown.Now)
	if failed != nil {
		failed = fmt.Errorf("the testbed could not be torn down: %w", failed)
		input.Problem, input.TornDown.Now = wire.Reason(failed), a.now(ctx)
	}
	return errors.Join(failed, a.call(ctx, onDataset("write how the hosts were left"), collector.TornDown, input).Get(ctx, nil))
}
