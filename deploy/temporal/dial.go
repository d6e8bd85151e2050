package temporal

import (
	"context"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/grpc"

	"heliotrope/internal/sdklog"
)

// dialWithin is how long Dial tries. A namespace that was made a moment ago is
// not known to every part of a server at once.
const dialWithin = 10 * time.Second

// Dial connects to the server and sees that it serves the namespace. It tries
// for some seconds; what the server refuses for good ends it at once. The
// caller closes the client. connection are further options of the connection.
func Dial(ctx context.Context, s Settings, logger zerolog.Logger, connection ...grpc.DialOption) (client.Client, error) {
	options := s.ClientOptions()
	options.ConnectionOptions.DialOptions = append(options.ConnectionOptions.DialOptions, connection...)
	options.Logger = sdklog.Logger{To: logger}
	c, err := s.retried(ctx, func(ctx context.Context) (client.Client, error) { return dialOnce(ctx, options) })
	if err != nil {
		return nil, s.explain(fmt.Errorf("connect to Temporal at %s, namespace %s: %w", s.Address, s.Namespace, err))
	}
	return c, nil
}

// retried tries for some seconds to connect; what the server or this side refuses for
// good is not tried again.
func (s Settings) retried(ctx context.Context, dial func(context.Context) (client.Client, error)) (client.Client, error) {
	if err := s.checkCertificates(ctx); err != nil {
		return nil, err
	}
	return backoff.Retry(ctx, func() (client.Client, error) {
		ctx, cancel := context.WithTimeout(ctx, dialWithin)
		defer cancel()
		c, err := dial(ctx)
		if err != nil && refused(err) {
			return nil, backoff.Permanent(err)
		}
		return c, err
	}, backoff.WithBackOff(&backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, Multiplier: 1.5, MaxInterval: time.Second}),
		backoff.WithMaxElapsedTime(dialWithin))
}

// ForOthers is a client for calls that are passed on for workers on other machines: each
// ends with its context, and none is counted as one of ours. It connects when it is
// used first; the caller closes it.
func ForOthers(s Settings, logger zerolog.Logger) (client.Client, error) {
	options := s.ClientOptions()
	options.Logger = sdklog.Logger{To: logger}
	options.MetricsHandler = nil
	c, err := client.NewLazyClient(options)
	if err != nil {
		return nil, fmt.Errorf("reach Temporal at %s for workers on other machines: %w", s.Address, err)
	}
	return c, nil
}

// dialOnce connects, and asks a question that goes through the same checks of
// the namespace as starting a workflow.
func dialOnce(ctx context.Context, options client.Options) (client.Client, error) {
	c, err := client.DialContext(ctx, options)
	if err != nil {
		return nil, err
	}
	if _, err = c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: options.Namespace}); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
