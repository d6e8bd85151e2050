package temporal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"
	"go.temporal.io/api/serviceerror"
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
	c, err := backoff.Retry(ctx, func() (client.Client, error) { return dialOnce(ctx, options) },
		backoff.WithBackOff(&backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, Multiplier: 1.5, MaxInterval: time.Second}),
		backoff.WithMaxElapsedTime(dialWithin))
	if err == nil {
		return c, nil
	}
	var missing *serviceerror.NamespaceNotFound
	advice := "is it running, and is TEMPORAL_ADDRESS right?"
	switch {
	case errors.As(err, &missing):
		advice = fmt.Sprintf("make the namespace with `temporal operator namespace create --retention 90d %s`, or set TEMPORAL_NAMESPACE", s.Namespace)
	case refused(err):
		advice = "check TEMPORAL_API_KEY and the TEMPORAL_TLS_… variables"
	}
	return nil, fmt.Errorf("connect to Temporal at %s, namespace %s: %w; %s", s.Address, s.Namespace, err, advice)
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
	ctx, cancel := context.WithTimeout(ctx, dialWithin)
	defer cancel()
	c, err := client.DialContext(ctx, options)
	if err == nil {
		_, err = c.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{Namespace: options.Namespace})
		if err == nil {
			return c, nil
		}
		c.Close()
	}
	if refused(err) {
		return nil, backoff.Permanent(err)
	}
	return nil, err
}

// refused says that the server answered, and will not change its mind.
func refused(err error) bool {
	var denied *serviceerror.PermissionDenied
	return errors.As(err, &denied)
}
