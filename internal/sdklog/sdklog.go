// Package sdklog is the logging of Temporal's SDK and of the activities and workflows that it
// runs: through one zerolog.Logger, with lines that say whose work they are about.
//
// It promises that a failed attempt of an activity is logged once, with its error, by the process
// that ran it (Interceptor). When an activity has finally failed in another process, such as a
// worker on a host, the process that runs its workflow logs it too.
//
// Dangerous: nobody logs an attempt that is lost with its process until the server's time-out
// tells the workflow.
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

// Keyed is an activity's input that says whose work it is, as keys and values of a log line:
// campaign, trial, lane, host.
type Keyed interface {
	LogKeys() []any
}

var _ log.WithLogger = Logger{}

// Logger logs what the SDK logs to a zerolog.Logger.
type Logger struct{ To zerolog.Logger }

// Debug logs a line.
func (l Logger) Debug(text string, pairs ...any) { l.To.Debug().Fields(pairs).Msg(text) }

// Info logs a line.
func (l Logger) Info(text string, pairs ...any) { l.To.Info().Fields(pairs).Msg(text) }

// Warn logs a line. One line is logged at the debug level instead: an activity that cleans up
// after it was cancelled cannot heartbeat any more, and the SDK reports that each second.
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

// Error logs a line, unless Interceptor logs the same with more detail.
func (l Logger) Error(text string, pairs ...any) {
	if !logged(text, pairs) {
		l.To.Error().Fields(pairs).Msg(text)
	}
}

// With returns a logger whose lines have these keys and values too.
func (l Logger) With(pairs ...any) log.Logger {
	return Logger{l.To.With().Fields(pairs).Logger()}
}

// logged reports whether a line of the SDK is about an error of one of our activities:
// Interceptor has logged that with whose work it was. Other errors, such as an input that cannot
// be decoded, reach no interceptor.
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

// Interceptor adds the keys of an activity's input to the activity's log lines, and logs
// failures.
type Interceptor struct {
	interceptor.WorkerInterceptorBase
}

// InterceptActivity implements interceptor.WorkerInterceptor.
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

// failure returns the keys and values of an error for a log line.
func failure(err error) []any {
	return []any{"class", string(wire.Of(err)), "cause", string(wire.CauseOf(err)), "error", wire.Reason(err)}
}

type outbound struct {
	interceptor.ActivityOutboundInterceptorBase
}

// GetLogger returns the logger of activity.GetLogger: its lines have the keys of the activity's
// input besides those of the SDK, such as ActivityType and Attempt.
func (o *outbound) GetLogger(ctx context.Context) log.Logger {
	keys, _ := ctx.Value(keysOf{}).([]any)
	return log.With(o.Next.GetLogger(ctx), keys...)
}

// InterceptWorkflow implements interceptor.WorkerInterceptor.
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

// ExecuteActivity starts an activity, and logs its failure when the activity runs in another
// process. It makes no decisions, so a history can be replayed with or without it.
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
