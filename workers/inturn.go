package workers

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/temporal"
)

// inTurn lets a workflow's local activities begin only when earlier ones that were given up
// have ended. The SDK does not wait for a local activity that it cancels, and it forgets
// those of a workflow that was terminated or that it begins to replay. Without inTurn, what
// such an activity still does would happen during or after the next one.
//
// It also stops a terminated workflow from going on: until the workflow task is over, the
// SDK begins one local activity after the other. Once another run of the workflow has begun
// one, those of earlier runs are refused.
type inTurn struct {
	interceptor.WorkerInterceptorBase
	mu      sync.Mutex
	running map[string]map[*turn]bool // by the workflow's ID
	runs    map[string]runs           // by the workflow's ID
}

// runs are the runs of a workflow that have begun a local activity.
type runs struct {
	ids  []string // the newest last, after some earlier ones
	used time.Time
}

// A controller keeps the runs of at least mostRuns workflows, and of more when they were
// used within keepRuns.
const (
	mostRuns = 4096
	keepRuns = time.Hour
)

var errSuperseded = temporal.NewNonRetryableApplicationError("this run of the workflow was ended, and another one has begun", "superseded", nil)

// turn is a local activity that is running.
type turn struct {
	run, id string // of the workflow, and of the activity in it
	ctx     context.Context
	cancel  context.CancelFunc
	ended   chan struct{}
}

// InterceptActivity implements interceptor.WorkerInterceptor.
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
	given, err := a.turns.begin(info.WorkflowExecution.ID, mine)
	if err != nil {
		return nil, err
	}
	for _, before := range given {
		select {
		case <-before.ended:
		case <-mine.ctx.Done():
			return nil, mine.ctx.Err()
		}
	}
	return a.Next.ExecuteActivity(mine.ctx, in)
}

// begin notes that a local activity runs, and returns those that were given up and have not
// ended: cancelled ones, those of another run of the workflow, and an earlier execution of
// the same activity. It refuses an activity of a run when a later run has begun one.
func (t *inTurn) begin(workflow string, mine *turn) ([]*turn, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.isNewest(workflow, mine.run) {
		return nil, errSuperseded
	}
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
	return before, nil
}

// isNewest says whether no later run of the workflow has begun a local activity. The caller
// holds the lock.
func (t *inTurn) isNewest(workflow, run string) bool {
	if t.runs == nil {
		t.runs = map[string]runs{}
	}
	of := t.runs[workflow]
	at := slices.Index(of.ids, run)
	if at >= 0 && at < len(of.ids)-1 {
		return false
	}
	if at < 0 {
		const some = 4
		of.ids = append(of.ids[max(0, len(of.ids)-some):], run)
	}
	of.used = time.Now()
	t.runs[workflow] = of
	if len(t.runs) > mostRuns {
		maps.DeleteFunc(t.runs, func(_ string, of runs) bool { return time.Since(of.used) > keepRuns })
	}
	return true
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
