package remote_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"heliotrope/internal/procs"
	"heliotrope/internal/remote"
	"heliotrope/internal/remote/remotetest"
)

// started runs a command that first prints process ids, one a line, and
// returns those; the run's error comes later.
func started(t *testing.T, ctx context.Context, host remote.Runner, ids int, script string) ([]int, <-chan error) {
	t.Helper()
	output, input := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := host.Run(ctx, remote.Command{Args: []string{"sh", "-c", script}, Stdout: input})
		_ = input.CloseWithError(fmt.Errorf("the command ended: %w", errors.Join(err, io.EOF)))
		ended <- err
	}()
	lines := bufio.NewReader(output)
	var pids []int
	for range ids {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	return pids, ended
}

// awaitGone waits until a process has ended.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	for {
		if !procs.Runs(pid) {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("process %d still runs", pid)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestCancelKillsTheWholeGroup(t *testing.T) {
	eachRunner(t, func(t *testing.T, host remote.Host) {
		for name, script := range map[string]string{
			"obedient":                  "sleep 1000 & echo $!; echo $$; wait",
			"deaf grandchild":           `sh -c 'trap "" TERM; echo $$; while :; do sleep 0.1; done' & sleep 0.1; echo $$; wait`,
			"deaf, output closed":       `sh -c 'trap "" TERM; echo $$; exec >/dev/null 2>&1; while :; do sleep 0.1; done' & sleep 0.1; echo $$; wait`,
			"everybody deaf":            `trap "" TERM; sleep 1000 & echo $!; echo $$; while :; do wait; sleep 0.1; done`,
			"ends with success on TERM": `trap "exit 0" TERM; sleep 1000 & echo $!; echo $$; wait`,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				pids, ended := started(t, ctx, host, 2, script)
				cancel()
				err := <-ended
				if !errors.Is(err, context.Canceled) || errors.Is(err, remote.ErrConnectionLost) || strings.Contains(err.Error(), "may still run") {
					t.Errorf("got %v", err)
				}
				for _, pid := range pids {
					awaitGone(t, pid)
				}
			})
		}
	})
}

func TestManyCancelledAtOnce(t *testing.T) {
	eachRunner(t, func(t *testing.T, host remote.Host) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all []int
		var runs []<-chan error
		for range 8 {
			pids, ended := started(t, ctx, host, 2, "sleep 1000 & echo $!; echo $$; wait")
			all, runs = append(all, pids...), append(runs, ended)
		}
		cancel()
		for _, ended := range runs {
			if err := <-ended; !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "may still run") {
				t.Errorf("got %v", err)
			}
		}
		for _, pid := range all {
			awaitGone(t, pid)
		}
	})
}

func TestTimeouts(t *testing.T) {
	eachRunner(t, func(t *testing.T, host remote.Host) {
		_, err := host.Run(t.Context(), remote.Command{Args: []string{"sleep", "1000"}, Timeout: 250 * time.Millisecond})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "timed out after 250ms") {
			t.Errorf("command's time-out: %v", err)
		}
		if _, ended := remote.ExitCode(err); ended {
			t.Error("it did not end normally")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		_, err = host.Run(ctx, remote.Command{Args: []string{"sleep", "1000"}})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "timed out after ") {
			t.Errorf("caller's deadline: %v", err)
		}
		_, err = host.Run(ctx, remote.Command{Args: []string{"true"}})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("context that has ended: %v", err)
		}
		why := errors.New("enough")
		caused, stop := context.WithCancelCause(t.Context())
		stop(why)
		_, err = host.Run(caused, remote.Command{Args: []string{"true"}})
		if !errors.Is(err, context.Canceled) || !errors.Is(err, why) || !strings.Contains(err.Error(), "enough") {
			t.Errorf("context with a cause: %v", err)
		}
	})
}

func TestDaemonsAreLeftAlone(t *testing.T) {
	eachRunner(t, func(t *testing.T, host remote.Host) {
		result, err := host.Run(t.Context(), remote.Command{Args: []string{"sh", "-c", "sleep 1000 & echo $!"}})
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(result.Stdout)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Errorf("the process left behind: %v", err)
		}
		awaitGone(t, pid)
	})
}

func TestSignalRequestsAreTheFallback(t *testing.T) {
	t.Parallel()
	server := remotetest.NewServer(t)
	server.MuteStderr()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pids, ended := started(t, ctx, server.Connect(t, "host-a"), 2, "sleep 1000 & echo $!; echo $$; wait")
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for _, pid := range pids {
		awaitGone(t, pid)
	}
}
