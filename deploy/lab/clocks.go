package lab

import (
	"context"
	"fmt"
	"strconv"

	"golang.org/x/sync/errgroup"

	"heliotrope/internal/clock"
	"heliotrope/internal/remote"
)

// clockRounds is how often a node's clock is read before it is set.
const clockRounds = 10

// setClock is a script that sets the node's clock back by its argument, in ns. It reads and sets
// the clock in one script, so the delay on the way to the node does not matter.
const setClock = `now=$(($(date +%s%N) - $1))
exec date -u -s "@$((now / 1000000000)).$(printf %09d $((now % 1000000000)))"`

// setClocks sets the named nodes' clocks to this machine's. Nodes boot with clocks that are up to
// a second apart, because their real-time clocks have whole seconds only; and a guest that moves
// to a host whose clock is behind the guest's loses time.
func (l *Lab) setClocks(ctx context.Context, names []string) error {
	nodes, ctx := errgroup.WithContext(ctx)
	for _, name := range names {
		nodes.Go(func() error {
			host, err := l.Connect(name)
			if err != nil {
				return err
			}
			defer host.Close() //nolint:errcheck // only asked
			offset, err := clock.Measure(ctx, host, clockRounds)
			if err == nil {
				_, err = host.Run(ctx, remote.Command{Args: []string{"sh", "-c", setClock, "sh", strconv.FormatInt(offset.Ahead.Nanoseconds(), 10)}})
			}
			if err != nil {
				return fmt.Errorf("set the clock of %s: %w", name, err)
			}
			return nil
		})
	}
	return nodes.Wait()
}
