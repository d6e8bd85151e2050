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

// How long an activity may be silent before it counts as lost. A worker behind a WAN may be
// late.
const (
	// heartbeatLimit is for steps: they heartbeat at least every pulse.StillBeat.
	heartbeatLimit = 30 * time.Second
	// followLimit is for activities that go on until they are cancelled: they heartbeat at
	// least every pulse.QuietBeat. It is not needed to find dead ones: a machine's link
	// sees when its worker is gone, and when a controller is started again, its own
	// activities are tried again at once. Running ones are told of their cancellation
	// (workers.PromptCancellations). Together with the minute between two renewals it is
	// shorter than the WAN's lease.
	followLimit = 160 * time.Second
)

// ActivitiesAtOnce is how many activities of one lane may run on the controller at the same
// time. A trial on the largest testbed needs fewer.
const ActivitiesAtOnce = 16

// notRetried is the one error of the SDK itself that is never retried. Our errors say
// themselves whether they may be retried (wire.ToTemporal), because this list is repeated
// in every activity's event.
var notRetried = []string{"payloadSizeError"}

// retry is the retry policy for errors of the infrastructure: at most attempts tries; 0
// means no limit.
func retry(attempts int32, longest time.Duration) *temporal.RetryPolicy {
	return &temporal.RetryPolicy{
		InitialInterval: 2 * time.Second, BackoffCoefficient: 2, MaximumInterval: longest,
		MaximumAttempts: attempts, NonRetryableErrorTypes: notRetried,
	}
}

// The sets of activity options. Nothing else sets a time-out. Where no queue is named, the
// activity runs in the workflow's own queue, the controller's. A cancelled step on a
// testbed is waited for: a teardown that runs at the same time as a step would miss what
// that step makes.

// onDataset is for activities that read or write an attempt's samples, or a campaign's
// rows.
func onDataset(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary: summary, HeartbeatTimeout: heartbeatLimit,
		StartToCloseTimeout: time.Hour, RetryPolicy: retry(0, time.Minute),
	}
}

// onController is for activities that take a moment, such as planning.
func onController(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary:             summary,
		StartToCloseTimeout: time.Minute, RetryPolicy: retry(0, time.Minute),
	}
}

// claiming is for what a lane asks the dataset, which is in the controller's memory. The
// lane does not block on it: meanwhile it takes orders, and reports what it waits for.
func claiming(summary string) workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{Summary: summary, StartToCloseTimeout: time.Minute, RetryPolicy: retry(1, 0)}
}

// amending is for what an update writes into the dataset; the person who steers waits for
// it. What cannot be written is refused at once. A disk that hangs is waited for, because
// it may still write what was begun when it wakes up: an order must not take effect after
// its sender was told that it is refused.
func amending(update string) workflow.LocalActivityOptions {
	return workflow.LocalActivityOptions{Summary: "note the " + update, StartToCloseTimeout: time.Hour, RetryPolicy: retry(2, 0)}
}

// looking is for a look at a testbed that may not be fit. It is tried once; the lane looks
// again later.
func looking(summary string) workflow.ActivityOptions {
	options := onTestbed(summary)
	options.RetryPolicy = retry(1, 0)
	return options
}

// awaitTestbed is for the first thing that an attempt does with its testbed. It waits for a
// testbed that is away: a campaign must not use up its trials on hosts that somebody
// restarts on Monday.
func awaitTestbed(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary: summary, HeartbeatTimeout: heartbeatLimit,
		StartToCloseTimeout: 15 * time.Minute, ScheduleToCloseTimeout: 7 * 24 * time.Hour,
		RetryPolicy: retry(0, 5*time.Minute), WaitForCancellation: true,
	}
}

// lasting adds the expected duration of a step to its limit. Such a step heartbeats its progress:
// when it is silent, that ends it long before the limit does.
func lasting(options workflow.ActivityOptions, expected time.Duration) workflow.ActivityOptions {
	options.StartToCloseTimeout += limits.Margin * expected
	return options
}

// onTestbed is for steps on the testbed that heartbeat their progress.
func onTestbed(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary: summary, HeartbeatTimeout: heartbeatLimit,
		StartToCloseTimeout: 30 * time.Minute, RetryPolicy: retry(3, 30*time.Second), WaitForCancellation: true,
	}
}

// tearingDown is for steps that must succeed before the testbed is used again.
func tearingDown(summary string) workflow.ActivityOptions {
	options := awaitTestbed(summary)
	options.RetryPolicy = retry(0, time.Minute)
	return options
}

// migrating is for the migration itself. It has only one real try, because another one
// would lose what the first one measured; the second try only reports that. Besides the
// limit there are 10 minutes for the storage.
func migrating(summary string, limit time.Duration) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary: summary, HeartbeatTimeout: heartbeatLimit,
		StartToCloseTimeout: limit + 10*time.Minute, RetryPolicy: retry(2, 2*time.Second), WaitForCancellation: true,
	}
}

// onMachine is for steps of a worker on a host or in the guest. When the worker is missing,
// the time-out of its queue reveals that.
func onMachine(queue, summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		TaskQueue: queue, Summary: summary, HeartbeatTimeout: heartbeatLimit,
		ScheduleToStartTimeout: 5 * time.Minute, StartToCloseTimeout: 10 * time.Minute, RetryPolicy: retry(3, 10*time.Second),
		WaitForCancellation: true,
	}
}

// following is for activities that go on until they are cancelled. The activity that
// follows may be lost and come back, because what it follows goes on by itself.
func following(queue, summary string, longest time.Duration) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		TaskQueue: queue, Summary: summary, HeartbeatTimeout: followLimit,
		StartToCloseTimeout: longest, RetryPolicy: retry(0, 10*time.Second), WaitForCancellation: true,
	}
}

// telling is for hooks. Hooks retry by themselves, and log their failures. The second
// attempt is for a controller that was killed meanwhile. A hook that fails for long does
// not keep a campaign from ending.
func telling(summary string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		Summary: summary, StartToCloseTimeout: 2 * time.Minute, ScheduleToCloseTimeout: 5 * time.Minute,
		RetryPolicy: retry(2, 2*time.Second),
	}
}

// StartOptions are the options for starting a campaign's workflow. A campaign that is
// running is never started a second time. queue is the controller's.
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

// maxDetailsBytes is how much of a campaign file the Temporal UI shows: servers refuse
// details of more than 20,000 bytes, and the encoding doubles some bytes.
const maxDetailsBytes = 9 << 10

func details(spec string) string {
	if len(spec) > maxDetailsBytes {
		spec = strings.ToValidUTF8(spec[:maxDetailsBytes], "") + "\n# … and more"
	}
	return "```yaml\n" + spec + "\n```"
}
