package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"heliotrope/analysis/dataset"
	"heliotrope/deploy/temporal"
	"heliotrope/internal/poll"
)

// kill kills a serve and its server.
func kill(t *testing.T, stateDir string, state *serveState) {
	t.Helper()
	server, err := temporal.Find(t.Context(), temporal.Settings{Address: state.Address, Namespace: state.Namespace}, stateDir)
	require.NoError(t, err)
	for _, pid := range []int{state.PID, server.PID} {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	require.NoError(t, poll.Until(t.Context(), 20*time.Millisecond, func(context.Context) (bool, error) {
		held, err := serveLockHeld(stateDir)
		return !held, err
	}))
}

// TestALostDatabaseLosesNoTrial: when everything was killed and the server knows nothing
// any more, the same command goes on with what is missing in the folder. With another state
// folder it does the same, when the previous controller is dead.
func TestALostDatabaseLosesNoTrial(t *testing.T) {
	useServer(t)
	first, data := t.TempDir(), t.TempDir()
	state := startOwnServe(t, first)
	file := writeCampaign(t, strings.NewReplacer("NAME", "unit", "REPETITIONS", "6").Replace(simulatedSpec))
	wantRun(t, 0, "campaign unit runs", "run", file, "--data", data, "--state-dir", first, "--detach")
	folder := dataset.CampaignFolder(data, "unit")
	await := func(done int) (rows []dataset.Trial) {
		t.Helper()
		require.NoError(t, poll.Until(t.Context(), 20*time.Millisecond, func(context.Context) (bool, error) {
			record, err := dataset.Open(t.Context(), folder, "")
			if err != nil {
				return false, nil //nolint:nilerr // it is not there yet
			}
			rows = record.Rows(0)
			return record.Counts().Done() >= done, nil
		}))
		return rows
	}
	const total = 36
	await(5)
	kill(t, first, state)
	left, err := filepath.Glob(filepath.Join(first, "temporal.db*"))
	require.NoError(t, err)
	for _, path := range left {
		require.NoError(t, os.Remove(path))
	}
	before := await(5)
	require.Less(t, len(before), total)
	wantRun(t, 0, "goes on with the", "resume", data, "--state-dir", first)
	wantRun(t, 0, "it goes on with the other", "run", file, "--data", data, "--state-dir", first, "--detach")

	await(len(before) + 5)
	state, err = runningServe(first)
	require.NoError(t, err)
	kill(t, first, state)
	middle := await(len(before) + 5)
	second := t.TempDir()
	t.Cleanup(func() { wantRun(t, 0, "", "stop", "--state-dir", second) })
	startOwnServe(t, second) // at any port
	stdout := wantRun(t, 0, "36 of 36 trials done (36 valid", "run", file, "--data", data, "--state-dir", second)
	assert.Contains(t, stdout, "completed")

	after, results := map[string]dataset.Trial{}, map[int32]int{}
	for _, row := range await(total) {
		after[row.Key] = row
		if row.Counted {
			results[row.Sequence]++
		}
	}
	assert.Len(t, results, total)
	for sequence, count := range results {
		assert.Equal(t, 1, count, "trial %d", sequence)
	}
	for _, row := range append(before, middle...) {
		assert.Equal(t, row.StartedTsNs, after[row.Key].StartedTsNs, "attempt %s was kept", row.Key)
	}
}
