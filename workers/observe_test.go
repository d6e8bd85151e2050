package workers

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"heliotrope/internal/hooks"
)

// TestTellOfSilence: a campaign without a valid trial for long is reported once, and again
// when it falls silent again.
func TestTellOfSilence(t *testing.T) {
	path := filepath.Join(t.TempDir(), "told")
	silence := func(after time.Duration) hooks.Hook {
		return hooks.Hook{On: []hooks.Kind{hooks.NoValidTrial}, After: after, Command: []string{"/bin/sh", "-c", `cat >> "$1"`, "hook", path}}
	}
	o := &Observer{Log: zerolog.Nop(), Hooks: hooks.Hooks{All: []hooks.Hook{silence(6 * time.Hour), silence(48 * time.Hour)}}}
	began := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	told := func() []string {
		o.telling.Wait()
		text, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		require.NoError(t, err)
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	see := func(at, lastValid time.Time) {
		o.tellOfSilence(t.Context(), Observation{At: at, Campaigns: []ObservedCampaign{{Name: "thesis", Started: began, LastValid: lastValid}}})
	}
	see(began.Add(5*time.Hour), time.Time{})
	require.Empty(t, told())
	see(began.Add(6*time.Hour), time.Time{})
	see(began.Add(7*time.Hour), time.Time{})
	require.Len(t, told(), 1)
	var event hooks.Event
	require.NoError(t, json.Unmarshal([]byte(told()[0]), &event))
	require.Equal(t, hooks.Event{Kind: hooks.NoValidTrial, When: began.Add(6 * time.Hour), Campaign: "thesis",
		Reason: "no trial has ended valid for 6h0m0s, since 2026-05-01T00:00:00Z"}, event)

	valid := began.Add(8 * time.Hour)
	see(valid.Add(time.Hour), valid)
	require.Len(t, told(), 1)
	see(valid.Add(6*time.Hour), valid)
	require.Len(t, told(), 2)
	see(valid.Add(48*time.Hour), valid)
	require.Len(t, told(), 3, "the other hook")
}
