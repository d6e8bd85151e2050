package activities

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"heliotrope/internal/fault"
	"heliotrope/internal/fault/wire"
)

// TestTurns checks that as many attempts are concluded at once as there are processors: one
// more waits until one of them leaves, or until it is cancelled.
func TestTurns(t *testing.T) {
	var suite testsuite.WorkflowTestSuite
	environment := suite.NewTestActivityEnvironment()
	step := func(ctx context.Context) error {
		var leaves []func()
		for range runtime.GOMAXPROCS(0) {
			leave, err := takeTurn(ctx, "conclude")
			require.NoError(t, err)
			leaves = append(leaves, leave)
		}
		given, giveUp := context.WithCancel(ctx)
		giveUp()
		_, err := takeTurn(given, "conclude")
		assert.Equal(t, fault.Cancelled, wire.Of(err), "%v", err)

		turn := make(chan error)
		go func() {
			leave, err := takeTurn(ctx, "conclude")
			if err == nil {
				leave()
			}
			turn <- err
		}()
		select {
		case err := <-turn:
			t.Errorf("one more had a turn: %v", err)
		default:
		}
		for _, leave := range leaves {
			leave()
		}
		return <-turn
	}
	environment.RegisterActivity(step)
	_, err := environment.ExecuteActivity(step)
	require.NoError(t, err)
}
