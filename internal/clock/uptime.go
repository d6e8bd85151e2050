package clock

import (
	"context"
	"fmt"
	"strings"
	"time"

	"heliotrope/internal/remote"
)

// Uptime returns how long ago a host was started, by a clock of the host that nobody sets.
func Uptime(ctx context.Context, host remote.Runner) (time.Duration, error) {
	result, err := host.Run(ctx, remote.Command{Args: []string{"cat", "/proc/uptime"}})
	if err != nil {
		return 0, fmt.Errorf("ask %s for how long it has run: %w", host.Name(), err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(result.Stdout)), " ")
	uptime, err := time.ParseDuration(first + "s")
	if err != nil || uptime < 0 {
		return 0, fmt.Errorf("%s: %.80q does not say for how long it has run", host.Name(), result.Stdout)
	}
	return uptime, nil
}
