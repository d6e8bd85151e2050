package workers

import (
	"context"
	"sync"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
)

// inTurn has a workflow's local activities begin only when those that were given up have
// ended. The SDK does not wait for a local activity that it cancels, and forgets those of
// a workflow that somebody terminated, or that it begins to replay: what such a one still
// does would be done beside, or after, what comes next.
type inTurn struct {
	interceptor.WorkerInterceptorBase
	mu      sync.Mutex
	running map[string]map[*turn]bool // by the workflow's ID
}

// turn is a local activity that runs.
type turn struct {
	run, id string // of the workflow, and of the activity in it
	ctx     context.Context
	cancel  context.CancelFunc
	ended   chan struct{}
}

// InterceptActivity is the SDK's.
func (t *inTurn) InterceptActivity(_ context.Context, next interceptor.ActivityInboundInterceptor) interceptor.ActivityInboundInterceptor {
	return &inTurnActivity{ActivityInboundInterceptorBase: interceptor.ActivityInboundInterceptorBase{Next: next}, turns: t}
}

type inTurnActivity struct {
	interceptor.ActivityInboundInterceptorBase
	turns *inTurn
}

func (a *inTurnActivity) ExecuteActivity(ctx context.Context, in *interceptor.ExecuteActivityInput) (any, error) {
	info := activity.GetInfo(ctx)
	if !info.IsLocalActivity {
		return a.Next.ExecuteActivity(ctx, in)
	}
	mine := &turn{run: info.WorkflowExecution.RunID, id: info.ActivityID, ended: make(chan struct{})}
	mine.ctx, mine.cancel = context.WithCancel(ctx)
	defer a.turns.end(info.WorkflowExecution.ID, mine)
	for _, before := range a.turns.begin(info.WorkflowExecution.ID, mine) {
		select {
		case <-before.ended:
		case <-mine.ctx.Done():
			return nil, mine.ctx.Err()
		}
	}
	return a.Next.ExecuteActivity(mine.ctx, in)
}

// begin notes that a local activity runs, and returns those that were given up and have
// not ended: cancelled ones, those of another run of the workflow, and an earlier
// execution of this one.
func (t *inTurn) begin(workflow string, mine *turn) []*turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	var before []*turn
	for other := range t.running[workflow] {
		if other.run != mine.run || other.id == mine.id {
			other.cancel()
		}
		if other.ctx.Err() != nil {
			before = append(before, other)
		}
	}
	if t.running == nil {
		t.running = map[string]map[*turn]bool{}
	}
	if t.running[workflow] == nil {
		t.running[workflow] = map[*turn]bool{}
	}
	t.running[workflow][mine] = true
	return before
}

func (t *inTurn) end(workflow string, mine *turn) {
	mine.cancel()
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.running[workflow], mine)
	if len(t.running[workflow]) == 0 {
		delete(t.running, workflow)
	}
	close(mine.ended)
}
