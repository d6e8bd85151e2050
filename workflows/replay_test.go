package workflows_test

import (
	"path/filepath"
	"testing"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"heliotrope/workflows"
)

// TestReplay replays saved histories: campaigns of weeks outlive a binary, so a
// workflow must go on as an older one began. A history is never saved again
// to make this pass; see docs/workflows.md.
func TestReplay(t *testing.T) {
	histories, err := filepath.Glob("testdata/histories/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(histories) < 5 {
		t.Errorf("%d histories, want those of a finished, a retried, a failed, a cancelled and a continued run", len(histories))
	}
	for _, history := range histories {
		t.Run(filepath.Base(history), func(t *testing.T) {
			replayer := worker.NewWorkflowReplayer()
			replayer.RegisterWorkflowWithOptions(workflows.Campaign, workflow.RegisterOptions{Name: workflows.CampaignName})
			replayer.RegisterWorkflowWithOptions(workflows.RunLane, workflow.RegisterOptions{Name: workflows.LaneName})
			replayer.RegisterWorkflowWithOptions(workflows.Trial, workflow.RegisterOptions{Name: workflows.TrialName})
			if err := replayer.ReplayWorkflowHistoryFromJSONFile(nil, history); err != nil {
				t.Error(err)
			}
		})
	}
}
