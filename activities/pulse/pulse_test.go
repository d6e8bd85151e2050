package pulse_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.uber.org/goleak"

	"heliotrope/activities/pulse"
	"heliotrope/activities/pulse/pulsetest"
	"heliotrope/internal/alive"
	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

// TestMain fails when a goroutine outlives the tests.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEndsWhatGetsNothingDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beats, err := pulsetest.Run(t.Context(), func(ctx context.Context) error {
			working, p, stop := pulse.Start(ctx, 10*time.Second)
			defer stop()
			for i := range 3 { // longer than the silence limit, but with progress
				p.Done(pulse.Step{Step: fmt.Sprint("step ", i)})
				time.Sleep(5500 * time.Millisecond)
			}
			if working.Err() != nil {
				t.Error("it ended while things got done")
			}
			<-working.Done()
			return pulse.Result(working, working.Err())
		})
		pulsetest.WantClass(t, err, fault.Infrastructure, "nothing got done for 10s; the last was step 2")
		if len(beats) < 2 || !strings.Contains(beats[0], "step 0") || !strings.Contains(beats[len(beats)-1], "step 2") {
			t.Errorf("heartbeats %v, want what was done last", beats)
		}
	})
}

// TestWorkThatSaysThatItGoesOn: a relocation may stand at 99 % for longer than the silence
// limit while vCenter answers that it is running.
func TestWorkThatSaysThatItGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		beats, err := pulsetest.Run(t.Context(), func(ctx context.Context) error {
			working, p, stop := pulse.Start(ctx, 10*time.Second)
			defer stop()
			p.Done(pulse.Step{Step: "99 %"})
			for range 20 {
				time.Sleep(6 * time.Second)
				alive.Tell(working)
			}
			if working.Err() != nil {
				t.Error("it ended although it went on")
			}
			<-working.Done()
			return pulse.Result(working, working.Err())
		})
		pulsetest.WantClass(t, err, fault.Infrastructure, "nothing got done for 10s; the last was 99 %")
		if len(beats) < 3 || !strings.Contains(beats[len(beats)-1], "99 %") {
			t.Errorf("heartbeats %v, want what was done last", beats)
		}
	})
}

// TestGoesOnWhileTidyingUp: a cancelled activity must not count as gone before it has
// ended.
func TestGoesOnWhileTidyingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := pulsetest.Cancellable(t)
		beats, err := pulsetest.Run(ctx, func(ctx context.Context) error {
			working, p, stop := pulse.Start(ctx, 3*time.Minute)
			defer stop()
			p.Done(pulse.Step{Step: "work"})
			cancel()
			<-working.Done()
			p.Done(pulse.Step{Step: "tidy up"})
			time.Sleep(2 * time.Minute)
			return pulse.Result(working, errors.New("killed"))
		})
		pulsetest.WantClass(t, err, fault.Cancelled, "")
		if len(beats) < 4 {
			t.Errorf("heartbeats in 2 minutes after the cancellation: %v", beats)
		}
	})
}

func TestResult(t *testing.T) {
	going := context.Background()
	ended := func(cause error) context.Context {
		ctx, cancel := context.WithCancelCause(going)
		cancel(cause)
		return ctx
	}
	failed := fault.New(fault.TargetFailed, "did not converge")
	for _, test := range []struct {
		name  string
		ctx   context.Context
		err   error
		class fault.Class
	}{
		{"the target failed", going, failed, fault.TargetFailed},
		{"bad input", going, fault.New(fault.BadInput, "no"), fault.BadInput},
		{"anything", going, errors.New("no"), fault.Infrastructure},
		{"cancelled by nobody", going, fmt.Errorf("ssh: %w", context.Canceled), fault.Infrastructure},
		{"cancelled", ended(nil), context.Canceled, fault.Cancelled},
		{"cancelled by the server", ended(temporal.NewCanceledError()), errors.New("killed"), fault.Cancelled},
		{"the target failed because it was cancelled", ended(nil), failed, fault.Cancelled},
		{"the worker was stopped", ended(worker.ErrWorkerShutdown), context.Canceled, fault.Infrastructure},
		{"the target failed because the worker was stopped", ended(worker.ErrWorkerShutdown), failed, fault.Infrastructure},
		{"silence", ended(fault.New(fault.Infrastructure, "nothing got done")), failed, fault.Infrastructure},
	} {
		err := pulse.Result(test.ctx, test.err)
		if class := wire.Of(err); class != test.class {
			t.Errorf("%s: %v is %s, want %s", test.name, err, class, test.class)
		}
		var application *temporal.ApplicationError
		if final := test.class != fault.Infrastructure; errors.As(err, &application) && application.NonRetryable() != final {
			t.Errorf("%s: not retryable is %v, want %v", test.name, application.NonRetryable(), final)
		}
	}
	if pulse.Result(ended(nil), nil) != nil {
		t.Error("a success is an error")
	}
}

// TestReached: progress of a step is reported in whole percent, and never goes down.
func TestReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := pulsetest.Cancellable(t)
		defer cancel()
		beats, err := pulsetest.Run(ctx, func(ctx context.Context) error {
			working, p, stop := pulse.Start(ctx, 3*time.Minute)
			defer stop()
			if patience := alive.Patience(working); patience != 3*time.Minute {
				t.Errorf("work is given up after %s", patience)
			}
			alive.Reached(working, 1, 0) // of nothing, and without a step
			p.Done(pulse.Step{Step: "fill"})
			for _, done := range []int64{1, 500, 400, 501} {
				alive.Reached(working, done, 1000)
				time.Sleep(time.Minute) // of which the environment lets two heartbeats through
			}
			if text := fmt.Sprint(pulse.Step{Step: "fill"}, pulse.Step{Step: "fill", Percent: 50}); text != "fill fill, 50 %" {
				t.Error(text)
			}
			p.Done(pulse.Step{Step: "compare"})
			time.Sleep(time.Minute)
			return nil
		})
		const half = "map[percent:50 step:fill]"
		if err != nil || beats[0] != "map[step:fill]" || !slices.Contains(beats, half) || beats[len(beats)-1] != "map[step:compare]" {
			t.Errorf("%v, heartbeats %v", err, beats)
		}
		if i := slices.Index(beats, half); slices.ContainsFunc(beats[max(0, i):], func(beat string) bool { return strings.Contains(beat, "fill") && beat != half }) {
			t.Errorf("heartbeats %v: of two parts the one that was ahead is told", beats)
		}
	})
}
