package temporal

import (
	"testing"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// BenchmarkActivities runs 500 workflows at once with 3 activities each, which
// do nothing, with both of SQLite's settings, and reports the activities that
// were completed in a second.
func BenchmarkActivities(b *testing.B) {
	for _, synchronous := range []string{"FULL", "NORMAL"} {
		b.Run(synchronous, func(b *testing.B) { benchmarkActivities(b, synchronous) })
	}
}

const benchActivities = 3

func inARow(ctx workflow.Context) error {
	ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
	for range benchActivities {
		if err := workflow.ExecuteActivity(ctx, greet, "").Get(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

func benchmarkActivities(b *testing.B, synchronous string) {
	const workflows = 500
	o := serverOptions(b)
	o.Synchronous = synchronous
	c := dial(b, ensure(b, o).Settings)
	w := worker.New(c, queue, worker.Options{})
	w.RegisterWorkflow(inARow)
	w.RegisterActivity(greet)
	if err := w.Start(); err != nil {
		b.Fatal(err)
	}
	defer w.Stop()
	for b.Loop() {
		var runs []client.WorkflowRun
		for range workflows {
			run, err := c.ExecuteWorkflow(b.Context(), client.StartWorkflowOptions{TaskQueue: queue}, inARow)
			if err != nil {
				b.Fatal(err)
			}
			runs = append(runs, run)
		}
		for _, run := range runs {
			if err := run.Get(b.Context(), nil); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N*workflows*benchActivities)/b.Elapsed().Seconds(), "activities/s")
}
