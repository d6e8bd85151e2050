package activities

import (
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"heliotrope/internal/hooks"
)

// TestTellFails: a hook that fails is no failure of the campaign's.
func TestTellFails(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	to := hooks.InBackground(hooks.Hooks{Pause: time.Millisecond,
		All: []hooks.Hook{{On: []hooks.Kind{hooks.CampaignEnded}, Command: []string{"/no/such/program"}}}}, time.Hour, zerolog.Nop())
	defer to.Close()
	told := &Hooks{To: to}
	env.RegisterActivity(told)
	_, err := env.ExecuteActivity(told.Tell, hooks.Event{Kind: hooks.CampaignEnded, Campaign: "unit"})
	require.NoError(t, err)
}
