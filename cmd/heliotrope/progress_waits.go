package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	failurepb "go.temporal.io/api/failure/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/temporal"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault/wire"
)

// wait is an activity of a trial that has failed and is being retried.
type wait struct {
	Activity string     `json:"activity"`
	Attempt  int32      `json:"attempt"`            // the attempt that runs, or that comes next
	Attempts int32      `json:"attempts,omitempty"` // the most that there may be; 0 stands for no limit
	Failure  string     `json:"failure"`            // of the previous attempt; it names the host
	Cause    cause.Code `json:"cause,omitempty"`
	Failed   time.Time  `json:"failed,omitzero"` // when that attempt ended
	Next     time.Time  `json:"next,omitzero"`   // when the next attempt begins; zero while one runs
	more     int        // number of other activities that failed for the same reason
}

// distinct are the waits of a lane, one for each reason: a controller that was killed fails
// everything it was doing at once. Their order is always the same.
func (l laneSnapshot) distinct() []wait {
	waits := slices.Clone(l.Waits)
	slices.SortStableFunc(waits, func(a, b wait) int {
		return cmp.Or(cmp.Compare(a.Failure, b.Failure), cmp.Compare(b.Attempts, a.Attempts), cmp.Compare(a.Activity, b.Activity))
	})
	var one []wait
	for _, w := range waits {
		if last := len(one) - 1; last >= 0 && one[last].Failure == w.Failure {
			one[last].more++
			continue
		}
		one = append(one, w)
	}
	return one
}

// recovered is the time after which an activity that was retried counts as working: one
// that hangs has failed by then.
const recovered = 5 * time.Minute

// waitOf is what a pending activity waits for at that time; false when none of its attempts
// has failed, or when it works again.
func waitOf(activity *workflowpb.PendingActivityInfo, at time.Time) (wait, bool) {
	failed := failure(activity.GetLastFailure())
	runs := activity.GetState() == enumspb.PENDING_ACTIVITY_STATE_STARTED
	if failed == nil || runs && at.Sub(activity.GetLastStartedTime().AsTime()) > recovered {
		return wait{}, false
	}
	w := wait{Activity: activity.GetActivityType().GetName(), Attempt: activity.GetAttempt(), Attempts: activity.GetMaximumAttempts(),
		Failure: wire.Reason(failed), Cause: wire.CauseOf(failed)}
	if ended := activity.GetLastAttemptCompleteTime(); ended != nil {
		w.Failed = ended.AsTime()
	}
	if next := activity.GetNextAttemptScheduleTime(); next != nil && !runs {
		w.Next = next.AsTime()
	}
	return w, true
}

func failure(told *failurepb.Failure) error {
	if told == nil {
		return nil
	}
	return temporal.GetDefaultFailureConverter().FailureToError(told)
}

// text says what is waited for, since when, and what to do.
func (w wait) text(at time.Time) string {
	who, state := w.Activity, "waits"
	if w.Next.IsZero() {
		state = "is tried again"
	}
	if w.more > 0 {
		who = fmt.Sprintf("%s (and %d more)", w.Activity, w.more)
	}
	line := fmt.Sprintf("%s %s, attempt %d", who, state, w.Attempt)
	if w.Attempts > 0 {
		line += fmt.Sprintf("/%d", w.Attempts)
	}
	if !w.Failed.IsZero() {
		line += ", failed " + seconds(at.Sub(w.Failed)) + " ago"
	}
	if w.Next.After(at) {
		line += ", next in " + seconds(w.Next.Sub(at))
	}
	return line + ": " + w.Failure
}

// advice says in one sentence what to do about the lane's waits.
func (l laneSnapshot) advice() string {
	waits := l.distinct()
	if len(waits) == 0 {
		return ""
	}
	advice := "mend that, and lane " + l.Lane + " goes on by itself: it is tried again for as long as it takes"
	for _, w := range waits {
		if w.Attempts > 0 {
			advice = "it is tried again by itself; when that fails as well, the trial is tried again"
		}
	}
	if waits[0].Activity == "Teardown" {
		advice += `; docs/troubleshooting.md, "A teardown does not end"`
	}
	return advice
}
