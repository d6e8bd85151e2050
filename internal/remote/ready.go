package remote

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// The pauses between the tries of WaitReady, and the time limit of each try.
const (
	readyFirstPause = 500 * time.Millisecond
	readyMaxPause   = time.Second
	readyTimeout    = time.Minute
)

// WaitReady waits until the host runs the probe successfully, or the context
// ends. Without a probe, being able to run any command is enough. It gives up
// at once on a host key that is not accepted, a refused login and a closed
// host, because waiting does not help with those.
func WaitReady(ctx context.Context, host Runner, probe ...string) error {
	if len(probe) == 0 {
		probe = []string{"true"}
	}
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = readyFirstPause, readyMaxPause
	started := time.Now()
	var last error
	_, err := backoff.Retry(ctx, func() (Result, error) {
		result, err := host.Run(ctx, Command{Args: probe, Timeout: readyTimeout})
		if ctx.Err() == nil || last == nil {
			last = err
		}
		for _, hopeless := range []error{ErrHostKey, ErrAuthentication, ErrClosed} {
			if errors.Is(err, hopeless) {
				return result, backoff.Permanent(err)
			}
		}
		return result, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0))
	if err == nil || ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%s was not ready after %s (%w): %w",
		host.Name(), time.Since(started).Round(time.Second), context.Cause(ctx), last)
}
