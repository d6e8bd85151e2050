// Package pulsetest runs an activity by itself, as Temporal would.
package pulsetest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/converter"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

// Run runs an activity with the context ctx, and returns the heartbeats that the test
// environment lets through: one in 30 s, and the last one.
func Run(ctx context.Context, do func(context.Context) error) ([]string, error) {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestActivityEnvironment()
	env.SetWorkerOptions(worker.Options{BackgroundActivityContext: ctx})
	var mu sync.Mutex
	var beats []string
	env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
		mu.Lock()
		defer mu.Unlock()
		var detail any
		if details.HasValues() {
			_ = details.Get(&detail) // any detail is compared as text
		}
		beats = append(beats, fmt.Sprint(detail))
	})
	env.RegisterActivityWithOptions(do, activity.RegisterOptions{Name: "do"})
	_, err := env.ExecuteActivity("do")
	mu.Lock()
	defer mu.Unlock()
	return beats, err
}

// Cancellable is a context that can be cancelled as the server cancels one.
func Cancellable(t *testing.T) (ctx context.Context, cancel func()) {
	t.Helper()
	ctx, cause := context.WithCancelCause(t.Context())
	return ctx, func() { cause(temporal.NewCanceledError()) }
}

// WantClass fails the test unless the error has the class and contains the text.
func WantClass(t *testing.T, err error, class fault.Class, text string) {
	t.Helper()
	if err == nil || wire.Of(err) != class || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, which is %s; want %s with %q", err, wire.Of(err), class, text)
	}
}
