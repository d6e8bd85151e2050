package workflows

import (
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/internal/limits"
)

// How long an activity may be silent before it counts as lost. A worker behind a WAN
// may be late.
const (
	// heartbeatLimit is for steps: they heartbeat each pulse.StillBeat at least.
	heartbeatLimit = 30 * time.Second
	// followLimit is for what goes on until it is cancelled, which heartbeats each
	// pulse.QuietBeat at least. They are not found dead by it: a machine's link sees that
	// its worker is gone, and a controller that is started again has its own tried again
	// at once. Those that run are told of their cancellation (workers.PromptCancellations).
	// With the minute between two renewals it is shorter than the WAN's lease.
	followLimit = 160 * time.Second
)

// ActivitiesAtOnce is how many activities of one lane may run on the controller at the
// same time. A trial on the largest testbed has fewer.
const ActivitiesAtOnce = 16

// notRetried is the SDK's own error that is never tried again. Those of ours say it
// themselves (wire.ToTemporal): the list is in each activity's event.
var notRetried = []string{"payloadSizeError"}

// retry is the policy for the infrastructure's errors: at most attempts tries,
// 0 for no limit.
func retry(attempts int32, longest time.Duration) *temporal.RetryPolicy {
	return &temporal.RetryPolicy{
		InitialInterval: 2 * time.Second, BackoffCoefficient: 2, MaximumInterval: longest,
		MaximumAttempts: attempts, NonRetryableErrorTypes: notRetried,
	}
}

// The sets of activity options. Nothing else sets a time-out. Where no queue is
// named, it is the workflow's own: the controller's. Steps on a testbed
// are waited for when they are cancelled: a teardown beside a step that still
// runs would leave what that makes.

// onDataset is for what reads and writes an attempt's samples, or a campaign's
// rows.
func onDataset(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary: summary, HeartbeatTimeout: heartbeatLimit,
		StartToCloseTimeout: time.Hour, RetryPolicy: retry(0, time.Minute),
	}
}

// onController is for what takes a moment: plans.
func onController(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary:             summary,
		StartToCloseTimeout: time.Minute, RetryPolicy: retry(0, time.Minute),
	}
}

// claiming is for what a lane asks the dataset: it is in the controller's memory. It
// is not waited for: the lane takes orders meanwhile, and says what it waits for.
func claiming(summary string) workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{Summary: summary, StartToCloseTimeout: time.Minute, RetryPolicy: retry(1, 0)}
}

// amending is for what an update writes into the dataset. Whoever steers waits for it.
// What cannot be written is refused at once; a disk that hangs is waited for, as what
// was begun may be written when it wakes up: an order of which the asker was told that
// it is refused must not come to pass.
func amending(update string) workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{Summary: "note the " + update, StartToCloseTimeout: time.Hour, RetryPolicy: retry(2, 0)}
}

// looking is for a look at a testbed that may not be fit. The next one is another's.
func looking(summary string) workflow.ActivityOptions {
	options := onTestbed(summary)
	options.RetryPolicy = retry(1, 0)
	return options
}

// awaitTestbed is for the first thing that an attempt does with its testbed. It
// waits for a testbed that is away: a campaign must not use up its trials on
// hosts that somebody restarts on Monday.
func awaitTestbed(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary: summary, HeartbeatTimeout: heartbeatLimit,
		StartToCloseTimeout: 15 * time.Minute, ScheduleToCloseTimeout: 7 * 24 * time.Hour,
		RetryPolicy: retry(0, 5*time.Minute), WaitForCancellation: true,
	}
}

// lasting is for a step that is expected to take so long beside what every step has, and tells what
// it gets done: its silence ends it, long before its limit does.
func lasting(options workflow.ActivityOptions, expected time.Duration) workflow.ActivityOptions {
	options.StartToCloseTimeout += limits.Margin * expected
	return options
}

// onTestbed is for steps on the testbed that heartbeat what they get done.
func onTestbed(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary: summary, HeartbeatTimeout: heartbeatLimit,
		StartToCloseTimeout: 30 * time.Minute, RetryPolicy: retry(3, 30*time.Second), WaitForCancellation: true,
	}
}

// tearingDown is for what must succeed before the testbed is used again.
func tearingDown(summary string) workflow.ActivityOptions {
	options := awaitTestbed(summary)
	options.RetryPolicy = retry(0, time.Minute)
	return options
}

// migrating is for the migration itself: it has one try, for what it measured
// is lost with it. Its second try only says so. Beside the limit it has 10 minutes, for
// the storage.
func migrating(summary string, limit time.Duration) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary: summary, HeartbeatTimeout: heartbeatLimit,
		StartToCloseTimeout: limit + 10*time.Minute, RetryPolicy: retry(2, 2*time.Second), WaitForCancellation: true,
	}
}

// onMachine is for steps of a worker on a host or in the guest. A worker that
// is not there is found by its queue.
func onMachine(queue, summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		TaskQueue: queue, Summary: summary, HeartbeatTimeout: heartbeatLimit,
		ScheduleToStartTimeout: 5 * time.Minute, StartToCloseTimeout: 10 * time.Minute, RetryPolicy: retry(3, 10*time.Second),
		WaitForCancellation: true,
	}
}

// following is for what goes on until it is cancelled. Whoever follows may be
// lost and come back: what is followed goes on by itself.
func following(queue, summary string, longest time.Duration) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		TaskQueue: queue, Summary: summary, HeartbeatTimeout: followLimit,
		StartToCloseTimeout: longest, RetryPolicy: retry(0, 10*time.Second), WaitForCancellation: true,
	}
}

// telling is for hooks: those try again by themselves, and fail into the log. The
// second attempt is for a controller that was killed meanwhile; none that is away
// for long keeps a campaign from its end.
func telling(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary: summary, StartToCloseTimeout: 2 * time.Minute, ScheduleToCloseTimeout: 5 * time.Minute,
		RetryPolicy: retry(2, 2*time.Second),
	}
}

// StartOptions says how a campaign's workflow is started. A campaign that runs
// is never started twice. queue is the controller's.
func StartOptions(input CampaignInput, queue string) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID: CampaignID(input.Name), TaskQueue: queue,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		TypedSearchAttributes:    temporal.NewSearchAttributes(attrCampaign.ValueSet(input.Name)),
		Memo:                     map[string]any{"spec_sha256": input.SpecSHA256, "data_dir": input.DataDir},
		StaticSummary:            "campaign " + input.Name,
		StaticDetails:            details(input.SpecYAML),
	}
}

// maxDetailsBytes is how much of a campaign file the Temporal UI shows: servers
// refuse details of more than 20,000 bytes, and their encoding doubles some.
const maxDetailsBytes = 9 << 10

func details(spec string) string {
	if len(spec) > maxDetailsBytes {
		spec = strings.ToValidUTF8(spec[:maxDetailsBytes], "") + "\n# … and more"
	}
	return "```yaml\n" + spec + "\n```"
}
