package clock

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"heliotrope/internal/remote"
)

// answer is a script that answers each line of its input with the time in seconds and a fraction.
// A shell that knows the time itself needs no process for it, which under emulation is the
// difference between 2 ms and 40 ms: bash 5 and busybox's shell do. The guest's busybox has no
// date with fractions of seconds.
const answer = `
loop='while read -r line; do echo "$EPOCHREALTIME"; done'
if [ -n "$EPOCHREALTIME" ]; then
	eval "$loop"
elif [ -n "$(busybox sh -c 'echo "$EPOCHREALTIME"' 2> /dev/null)" ]; then
	exec busybox sh -c "$loop"
elif [ -n "$(bash -c 'echo "$EPOCHREALTIME"' 2> /dev/null)" ]; then
	exec bash -c "$loop"
else
	while read -r line; do date +%s.%N; done
fi`

const (
	// MaxRounds is the largest number of exchanges that Measure makes.
	MaxRounds = 1000
	// measureTimeout limits all exchanges together; an exchange over a round trip of 160 ms takes
	// a second at worst.
	measureTimeout = time.Minute
)

// Measure estimates the offset of a host's clock (CLOCK_REALTIME) from `rounds` exchanges in one
// session. It uses the exchange with the shortest round trip, and takes the host's reading to be
// from the middle of it. The first exchange includes the start of the session and is not counted.
//
// Measured on the emulated testbed, idle and on lan, with 40 rounds: best round trips of 0.7 to 2
// ms to the hosts and 6 to 8 ms to the guest. A guest under load answers in 30 ms and more.
//
// What a migration does to a Xen guest's clocks, as observed there (Linux 6.1, PVH):
// CLOCK_MONOTONIC stands still during the last suspension. When the target host's clock is ahead
// of the guest's at the suspension, the guest takes over the target's clock at once, within 4 ms:
// no time is lost, but from then on the offset is that of the target (-0.727 s became -0.429 s
// with the host at -0.432 s; -1.089 s became -0.433 s). When the target's clock is behind the
// guest's (by 60 s), the guest's clock stands still during the suspension as well (-0.906 s
// became -2.921 s: 2.0 s lost) and keeps its own time. In both cases the offset changes once,
// during the suspension, so measure it before and after a migration.
func Measure(ctx context.Context, host remote.Runner, rounds int) (Offset, error) {
	if rounds < 1 || rounds > MaxRounds {
		return Offset{}, fmt.Errorf("%s: %d exchanges of clocks: want 1 to %d", host.Name(), rounds, MaxRounds)
	}
	// Both pipes are closed when the command has ended, for whatever reason.
	askReader, ask := io.Pipe()
	replies, replyWriter := io.Pipe()
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, err := host.Run(ctx, remote.Command{Args: []string{"sh", "-c", answer}, Env: []string{"LC_ALL=C"},
			Stdin: askReader, Stdout: replyWriter, Timeout: measureTimeout})
		ended <- err
		if err == nil {
			err = io.EOF
		}
		_ = askReader.CloseWithError(err)
		_ = replyWriter.CloseWithError(err)
	}()
	best, err := exchange(ask, bufio.NewReader(replies), rounds)
	_ = ask.Close()
	_ = replies.Close()
	if err != nil {
		cancel()
	}
	// The command's own error says more than that of a pipe.
	if runErr := <-ended; runErr != nil && !errors.Is(runErr, context.Canceled) {
		err = runErr
	}
	if err != nil {
		return Offset{}, fmt.Errorf("ask %s for its time: %w", host.Name(), err)
	}
	return best, nil
}

// exchange makes one exchange more than rounds, and returns the best of all but the first.
func exchange(ask io.Writer, replies *bufio.Reader, rounds int) (Offset, error) {
	var best Offset
	for round := 0; round <= rounds; round++ {
		asked := time.Now()
		if _, err := io.WriteString(ask, "\n"); err != nil {
			return best, err
		}
		line, err := replies.ReadString('\n')
		if err != nil {
			return best, err
		}
		trip := time.Since(asked)
		theirs, err := parseTime(strings.TrimSpace(line))
		if err != nil {
			return best, err
		}
		if round == 1 || round > 1 && trip/2 < best.Uncertainty {
			middle := asked.Add(trip / 2).Round(0)
			best = Offset{Ahead: theirs.Sub(middle), Uncertainty: trip / 2, At: middle}
		}
	}
	return best, nil
}

// parseTime reads seconds since 1970 with a fraction of at most nine digits.
func parseTime(text string) (time.Time, error) {
	whole, fraction, found := strings.Cut(text, ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || seconds <= 0 || !found || len(fraction) > 9 {
		return time.Time{}, fmt.Errorf("%.80q is no time: want seconds with a fraction", text)
	}
	ns, err := strconv.ParseUint(fraction+strings.Repeat("0", 9-len(fraction)), 10, 32)
	if err != nil {
		return time.Time{}, fmt.Errorf("%.80q is no time: %w", text, err)
	}
	return time.Unix(seconds, int64(ns)), nil
}
