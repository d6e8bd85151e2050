package activities

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"heliotrope/internal/hooks"
)

// TestTellFails: a hook that fails is no failure of the campaign's.
func TestTellFails(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	told := &Hooks{To: hooks.Hooks{Pause: time.Millisecond,
		All: []hooks.Hook{{On: []hooks.Kind{hooks.CampaignEnded}, Command: []string{"/no/such/program"}}}}}
	env.RegisterActivity(told)
	_, err := env.ExecuteActivity(told.Tell, hooks.Event{Kind: hooks.CampaignEnded, Campaign: "unit"})
	require.NoError(t, err)
}
