// Package sdklog is how Temporal's SDK, and the activities and workflows that
// it runs, log: through one zerolog.Logger, as lines that say whose work they
// are about.
//
// It promises that a failed attempt of an activity is logged once, with its
// error, by the process that ran it (Interceptor); and by the process that runs
// its workflow when it has failed for good in another process, such as a
// worker on a host.
//
// Dangerous: an attempt that is lost with its process is logged by nobody
// before the server's time-out tells the workflow.
package sdklog

import (
	"context"
	"errors"
	"slices"

	"github.com/rs/zerolog"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

// Keyed is an activity's input that says whose work it is, as keys and values
// of a log line: campaign, trial, lane, host.
type Keyed interface {
	LogKeys() []any
}

var _ log.WithLogger = Logger{}

// Logger passes on what the SDK logs.
type Logger struct{ To zerolog.Logger }

// Debug logs a line.
func (l Logger) Debug(text string, pairs ...any) { l.To.Debug().Fields(pairs).Msg(text) }

// Info logs a line.
func (l Logger) Info(text string, pairs ...any) { l.To.Info().Fields(pairs).Msg(text) }

// Warn logs a line. That an activity which tidies up after it was cancelled cannot
// heartbeat any more is no warning: it comes each second then.
func (l Logger) Warn(text string, pairs ...any) {
	if text == "RecordActivityHeartbeat with error" && slices.ContainsFunc(pairs, isCancelled) {
		l.Debug(text, pairs...)
		return
	}
	l.To.Warn().Fields(pairs).Msg(text)
}

func isCancelled(value any) bool {
	err, is := value.(error)
	return is && (temporal.IsCanceledError(err) || errors.Is(err, context.Canceled))
}

// Error logs a line, but for those that Interceptor logs better.
func (l Logger) Error(text string, pairs ...any) {
	if !logged(text, pairs) {
		l.To.Error().Fields(pairs).Msg(text)
	}
}

// With returns a logger whose lines have these keys and values too.
func (l Logger) With(pairs ...any) log.Logger {
	return Logger{l.To.With().Fields(pairs).Logger()}
}

// logged says that a line of the SDK is about an error of an activity of ours,
// which Interceptor has logged with whose it was. Others, such as an input that
// cannot be decoded, reach no interceptor.
func logged(text string, pairs []any) bool {
	if text != "Activity error." {
		return false
	}
	return slices.ContainsFunc(pairs, func(value any) bool {
		err, is := value.(error)
		var application *temporal.ApplicationError
		return is && (temporal.IsCanceledError(err) || errors.As(err, &application) && fault.IsClass(application.Type()))
	})
}

// Interceptor gives the lines of activities the keys of their input, and logs
// what fails.
type Interceptor struct {
	interceptor.WorkerInterceptorBase
}

// InterceptActivity is the SDK's.
func (*Interceptor) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &inbound{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}}
}

type inbound struct {
	interceptor.ActivityInboundInterceptorBase
}

type keysOf struct{}

func (i *inbound) Init(next interceptor.ActivityOutboundInterceptor) error {
	return i.Next.Init(&outbound{ActivityOutboundInterceptorBase: interceptor.ActivityOutboundInterceptorBase{Next: next}})
}

func (i *inbound) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	var keys []any
	for _, arg := range in.Args {
		if keyed, is := arg.(Keyed); is {
			keys = append(keys, keyed.LogKeys()...)
		}
	}
	ctx = context.WithValue(ctx, keysOf{}, keys)
	result, err := i.Next.ExecuteActivity(ctx, in)
	switch {
	case err == nil:
	case wire.Of(err) == fault.Cancelled:
		activity.GetLogger(ctx).Debug("the activity was cancelled")
	default:
		activity.GetLogger(ctx).Error("the activity failed", failure(err)...)
	}
	return result, err
}

// failure is an error in a log line.
func failure(err error) []any {
	return []any{"class", string(wire.Of(err)), "cause", string(wire.CauseOf(err)), "error", wire.Reason(err)}
}

type outbound struct {
	interceptor.ActivityOutboundInterceptorBase
}

// GetLogger is activity.GetLogger: its lines have the keys of the activity's
// input beside those of the SDK, such as ActivityType and Attempt.
func (o *outbound) GetLogger(ctx context.Context) log.Logger {
	keys, _ := ctx.Value(keysOf{}).([]any)
	return log.With(o.Next.GetLogger(ctx), keys...)
}

// InterceptWorkflow is the SDK's.
func (*Interceptor) InterceptWorkflow(_ workflow.Context, next interceptor.WorkflowInboundInterceptor) interceptor.WorkflowInboundInterceptor {
	return &workflowInbound{interceptor.WorkflowInboundInterceptorBase{Next: next}}
}

type workflowInbound struct {
	interceptor.WorkflowInboundInterceptorBase
}

func (i *workflowInbound) Init(next interceptor.WorkflowOutboundInterceptor) error {
	return i.Next.Init(&workflowOutbound{interceptor.WorkflowOutboundInterceptorBase{Next: next}})
}

type workflowOutbound struct {
	interceptor.WorkflowOutboundInterceptorBase
}

// ExecuteActivity starts an activity, and logs its failure when that is another
// process's. It decides nothing, so a history is replayed with or without it.
func (o *workflowOutbound) ExecuteActivity(ctx workflow.Context, name string, args ...any) workflow.Future {
	future := o.Next.ExecuteActivity(ctx, name, args...)
	queue := workflow.GetActivityOptions(ctx).TaskQueue
	if queue == "" || queue == workflow.GetInfo(ctx).TaskQueueName {
		return future
	}
	workflow.Go(ctx, func(ctx workflow.Context) {
		err := future.Get(ctx, nil)
		if err == nil || wire.Of(err) == fault.Cancelled {
			return
		}
		keys := []any{"activity", name, "queue", queue}
		for _, arg := range args {
			if keyed, is := arg.(Keyed); is {
				keys = append(keys, keyed.LogKeys()...)
			}
		}
		workflow.GetLogger(ctx).Error("the activity failed for good", append(keys, failure(err)...)...)
	})
	return future
}
