package wire_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"heliotrope/internal/cause"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

func TestOf(t *testing.T) {
	canceled := temporal.NewCanceledError()
	target := wire.ToTemporal(fault.New(fault.TargetFailed, "did not converge"))
	for _, test := range []struct {
		name string
		err  error
		want fault.Class
	}{
		{"no class", errors.New("no route"), fault.Infrastructure},
		{"wrapped", fmt.Errorf("step: %w", fault.New(fault.BadInput, "no")), fault.BadInput},
		{"a class given to a cancellation", fault.As(fault.Infrastructure, context.Canceled), fault.Infrastructure},
		{"a context", fmt.Errorf("ssh: %w", context.Canceled), fault.Cancelled},
		{"a deadline", context.DeadlineExceeded, fault.Infrastructure},
		{"a time-out", temporal.NewHeartbeatTimeoutError(), fault.Infrastructure},
		{"an unknown type", temporal.NewApplicationError("no", "payloadSizeError"), fault.Infrastructure},
		{"the target failed, and its samples too", errors.Join(target, wire.ToTemporal(fault.New(fault.Invalid, "the load ended"))), fault.TargetFailed},
		{"the target failed, and then somebody cancelled", errors.Join(target, canceled), fault.TargetFailed},
		{"nothing, and somebody cancelled", errors.Join(nil, canceled), fault.Cancelled},
		{"a stopped worker", temporal.NewApplicationErrorWithCause("unexpected activity cancel error", "wrapError", canceled), fault.Infrastructure},
	} {
		if got := wire.Of(test.err); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if fault.As(fault.BadInput, nil) != nil || wire.ToTemporal(nil) != nil {
		t.Error("no error became one")
	}
}

// TestThroughTemporal: classes and messages come out of an activity and a child
// workflow as they went in, and only the infrastructure's are tried again.
func TestThroughTemporal(t *testing.T) {
	for _, class := range []fault.Class{fault.BadInput, fault.Infrastructure, fault.TargetFailed, fault.Invalid} {
		t.Run(string(class), func(t *testing.T) {
			var suite testsuite.WorkflowTestSuite
			env := suite.NewTestWorkflowEnvironment()
			env.SetTestTimeout(time.Minute) // a busy machine is no deadlock
			tries := 0
			env.RegisterActivityWithOptions(func(context.Context) error {
				tries++
				return wire.ToTemporal(fmt.Errorf("on host-a: %w", fault.New(class, "no luck")))
			}, activity.RegisterOptions{Name: "act"})
			env.RegisterWorkflowWithOptions(func(ctx workflow.Context) error {
				options := workflow.ActivityOptions{StartToCloseTimeout: time.Minute, RetryPolicy: &temporal.RetryPolicy{MaximumAttempts: 3}}
				return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), "act").Get(ctx, nil)
			}, workflow.RegisterOptions{Name: "child"})
			var inChild error
			env.ExecuteWorkflow(func(ctx workflow.Context) error {
				inChild = workflow.ExecuteChildWorkflow(ctx, "child").Get(ctx, nil)
				return inChild
			})
			for _, err := range []error{inChild, env.GetWorkflowError()} {
				if wire.Of(err) != class || wire.Reason(err) != "on host-a: no luck" {
					t.Errorf("%v is %s with reason %q", err, wire.Of(err), wire.Reason(err))
				}
			}
			if want := map[bool]int{true: 3, false: 1}[class == fault.Infrastructure]; tries != want {
				t.Errorf("%d tries, want %d", tries, want)
			}
		})
	}
}

func TestReason(t *testing.T) {
	for want, err := range map[string]error{
		"":          nil,
		"plain":     errors.New("plain"),
		"cancelled": temporal.NewCanceledError(),
		"timed out (Heartbeat): heartbeat timeout": temporal.NewHeartbeatTimeoutError(),
	} {
		if got := wire.Reason(err); got != want {
			t.Errorf("reason of %v is %q, want %q", err, got, want)
		}
	}
}

// TestLongMessages: a failure that is longer than Temporal keeps says how it
// began and how it ended.
func TestLongMessages(t *testing.T) {
	for _, class := range []fault.Class{fault.BadInput, fault.Infrastructure, fault.TargetFailed, fault.Invalid} {
		long := fault.New(class, "fill the disk on host-a: %s: no space left on device", strings.Repeat("ä lot of output\xff, ", 1000))
		reason := wire.Reason(wire.ToTemporal(long))
		if len(reason) > wire.MaxMessageBytes || len(reason) < wire.MaxMessageBytes-8 || !utf8.ValidString(reason) ||
			!strings.HasPrefix(reason, "fill the disk on host-a: ") || !strings.HasSuffix(reason, ": no space left on device") {
			t.Errorf("%s: %d bytes: %s", class, len(reason), reason)
		}
	}
}

// TestCauseOf: a code survives its way through Temporal, and wrapping.
func TestCauseOf(t *testing.T) {
	lost := errors.New("no route")
	for _, c := range []struct {
		err  error
		want cause.Code
	}{
		{nil, ""},
		{lost, cause.Infrastructure},
		{fault.As(fault.BadInput, lost), cause.BadInput},
		{fault.As(fault.Cancelled, lost), cause.Cancelled},
		{fault.As(fault.TargetFailed, lost), cause.StorageFailed},
		{fault.Because(fault.Invalid, cause.WitnessDied, lost), cause.WitnessDied},
		{fmt.Errorf("on host-a: %w", fault.Because(fault.TargetFailed, cause.SplitBrain, lost)), cause.SplitBrain},
		// The outer class stands, and the inner cause.
		{fault.As(fault.TargetFailed, fault.Because(fault.Invalid, cause.GuestCrash, lost)), cause.GuestCrash},
	} {
		if got := wire.CauseOf(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
		if got := wire.CauseOf(wire.ToTemporal(c.err)); got != c.want {
			t.Errorf("%v through Temporal: %q, want %q", c.err, got, c.want)
		}
	}
	if fault.Because(fault.Invalid, cause.TimeOut, nil) != nil {
		t.Error("no error has a cause")
	}
}
