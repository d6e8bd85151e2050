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

// dialWithin is how long Dial tries. A namespace that has just been made is not known to every
// part of a server at once.
const dialWithin = 10 * time.Second

// Dial connects to the server and checks that it serves the namespace. It tries for some seconds,
// but stops at once when the server refuses permanently. The caller must close the client.
// connection are further options of the connection.
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

// retried tries for some seconds to connect. It does not repeat what the server or this side
// refuses permanently.
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

// ForOthers returns a client for calls that are passed on for workers on other machines. Each
// call ends with its context, and none is counted in our metrics. Where payloads are encrypted, this
// client encrypts and decrypts them, so that those workers need no key. The client connects when it is
// first used; the caller must close it.
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

// dialOnce connects, and makes a request for which the server checks the namespace as it does
// when a workflow is started.
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
